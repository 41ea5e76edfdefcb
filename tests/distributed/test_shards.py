"""Two and four processes, each with its part of the training images, find what one process finds."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import relative_error
from tests.distributed import device_job, job
from tests.posterior import oracles

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """What one process finds; it also compiles the kernels that the others then load."""
    folder = tmp_path_factory.mktemp("single")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORESCOPE_CACHE", str(folder / "cache"))
        found = {"denoised": job.denoised(), "described": job.described(), "moments": job.moments()}
        yield found | {"training": job.training(folder)}
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def jobs(single, tmp_path_factory):
    """The folders of a job of two processes and one of four."""
    folder = tmp_path_factory.mktemp("jobs")
    folders = {count: folder / str(count) for count in (2, 4)}
    for one in folders.values():
        one.mkdir()
    environment = os.environ | {"SCORESCOPE_CACHE": str(folder / "cache")}
    where = [str(Path(job.__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment |= {"PYTHONPATH": os.pathsep.join(where), "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, job.__file__, *folders.values()], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return folders


@pytest.fixture(params=[2, 4])
def shared(request, jobs):
    """The number of processes, and what they find together."""
    return request.param, torch.load(jobs[request.param] / "found.pt", weights_only=False)


@pytest.mark.parametrize("kind", ["denoised", "described", "moments"])
def test_shards_find_what_one_process_finds(single, shared, kind):
    _, found = shared
    assert set(found[kind]) == set(single[kind])
    if kind == "denoised":
        assert {name.split()[0] for name in found[kind]} == set(job.from_images())
    for name, expected in single[kind].items():
        np.testing.assert_allclose(found[kind][name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def two_devices(jobs):
    """What two processes find with the device's engine, by its kernels too."""
    pytest.importorskip("triton")
    return torch.load(jobs[2] / "found.pt", weights_only=False)


def test_shards_on_devices_find_what_one_finds(two_devices):
    alone = device_job.answers()
    assert two_devices["on a device"].keys() == alone.keys()
    for name, expected in alone.items():
        found, size = two_devices["on a device"][name], np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * size, err_msg=name)


@pytest.mark.parametrize("way", ["kernels", "sums"])
def test_shards_on_devices_find_what_the_definition_gives(two_devices, way):
    found, known = two_devices["on a device"], device_job.images(device_job.COUNTS["many"]).tensor().double().numpy()
    asked = list(zip(device_job.noisy("many").numpy(), device_job.SIGMAS.tolist(), strict=True))
    whole = [oracles.optimal(noisy, known, sigma).reshape(-1) for noisy, sigma in asked]
    windows = [oracles.square_patches(noisy, known, sigma, 3).reshape(-1) for noisy, sigma in asked[:2]]
    entries = [_entries(*each, masks, known) for each, masks in zip(asked, device_job.masks(), strict=True)]
    for name, expected in {"whole": whole, "windows": windows, "entries": entries}.items():
        for own, true in zip(found[f"many {way} {name}"], expected, strict=name != "windows"):
            assert relative_error(own, true) < 1e-5, name


def _entries(noisy, sigma, masks, known):
    """Every pixel-channel from the mask of its own, by definition."""
    members, flat = masks.members.double().numpy(), known.reshape(len(known), -1)
    logits = -((noisy.reshape(-1) - flat) ** 2) @ members.T / (2 * sigma**2)
    return (oracles.softmax(logits.T) * flat.T).sum(1)


def test_kernels_run_in_every_process_or_in_none(two_devices):
    assert two_devices["agreements"]["kernels"] == [[False, True], [False, True]]


def test_every_process_has_the_same_bits(shared):
    _, found = shared
    assert found["agreements"]["largest difference between processes"] == 0


def test_sums_of_integers_merge_without_rounding(single, shared):
    for name in ("mean", "covariance mean", "covariance"):
        assert np.array_equal(shared[1]["moments"][name], single["moments"][name]), name


def test_processes_hear_what_the_first_decides(shared):
    count, found = shared
    seen = found["agreements"]
    assert seen["by first"] == ["said by 0"] * count
    assert seen["refusal"] == ["refused by 0"] * count
    assert seen["count"] == [count] * count
    assert seen["alone"] == [(1, (0, 100))] * count
    assert seen["shared"] == [b"1234"] * count
    assert seen["listed"] == [True] + [False] * (count - 1)
    assert seen["gathered"] == [[[index, 7] for index in range(count)]] * count


def test_normalizers_merge_also_from_processes_that_saw_nothing(shared):
    count, found = shared
    largest, sums = found["agreements"]["normalizers"][0]
    assert largest == [count - 1, -np.inf, 1]
    assert sums == pytest.approx([sum(np.exp(-step) for step in range(count)), 0, 1])


def test_processes_with_other_data_are_refused_by_name(shared):
    count, found = shared
    seen = found["agreements"]
    assert seen["same images"] == [""] * count
    assert all("process 1 has" in said and "299 images" in said for said in seen["other images"])
    assert seen["disagreement"] == ["" if count == 2 else seen["disagreement"][0]] * count
    if count == 4:
        assert "a count of 0, process 2 has 1" in seen["disagreement"][0]


def test_a_run_belongs_to_process_0(shared):
    count, found = shared
    seen = found["cells"]
    assert seen["values"] == [0] * count
    assert seen["done"] == [True] * count
    assert seen["refusals"] == ["no such data"] * count
    assert seen["made"] == ["run-0"]


def test_one_network_is_trained_by_two_processes(jobs, single):
    seen = torch.load(jobs[2] / "found.pt", weights_only=False)["training"]
    assert seen["losses"] == pytest.approx(
        single["training"]["losses"], rel=0.1
    )  # batch norm sees a share of the batch
    assert len(set(seen["headlines"])) == 1
    assert len(seen["headlines"]) == 2
    assert seen["left"] == ["config.json", "figures", "network", "report.html", "results.json", "tables"]
