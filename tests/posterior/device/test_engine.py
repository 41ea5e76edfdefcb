"""One engine a training set and device, and the same answers from several processes as from one."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.posterior.device.cases import SIGMAS, between, engine, question, random_set

from scorescope.posterior.device import MaskMatrix, device_engine, has_device_engine
from scorescope.posterior.windows import Window

MEMBERS = np.random.default_rng(5).random((130, 1, 6, 7)) < 0.5

POSTERIORS = {
    "whole_image": lambda posterior, *asked: posterior.mean(*asked),
    "windows": lambda posterior, *asked: posterior.mean(*asked, [Window.inside(3, 6, 7)] * 6),
    "equivariant": lambda posterior, *asked: posterior.border_mean(*asked, [3] * 6),
    "composites": lambda posterior, *asked: posterior.mean(*asked, [masks(MEMBERS, *asked)] * 6),
    "entries": lambda posterior, *asked: posterior.mean(*asked, [masks(MEMBERS[:126].repeat(3, 1), *asked)] * 6),
}


def masks(members, noisy, _):
    return MaskMatrix.of(members, noisy.device)


def test_engines_are_shared_while_in_use_and_go_with_their_last_user(device):
    images = random_set(0, 10)
    first = device_engine(images, device)
    assert device_engine(images, device) is first
    assert device_engine(images.subset(range(10)), device) is not first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_the_processor_keeps_its_own_engine():
    assert not has_device_engine(torch.device("cpu"))
    assert not has_device_engine(torch.device("mps"))
    assert has_device_engine(torch.device("cuda", 1))


@pytest.mark.parametrize("name", POSTERIORS)
def test_results_stay_on_the_device_in_float64(name, device):
    images = random_set(0, 30)
    asked = question(between(images, SIGMAS), SIGMAS, device)
    mean = POSTERIORS[name](getattr(engine(images, device), name), *asked)
    assert mean.device.type == device.type
    assert mean.dtype == torch.float64
    assert bool(torch.isfinite(mean).all())


@pytest.mark.parametrize("name", POSTERIORS)
def test_one_image_comes_back_whatever_the_noise(name, device):
    images = random_set(1, 1)
    asked = question(between(images, SIGMAS), SIGMAS, device)
    mean = POSTERIORS[name](getattr(engine(images, device), name), *asked)
    if name != "equivariant":
        np.testing.assert_allclose(mean.cpu(), np.tile(images.tensor().reshape(1, -1), (6, 1)), atol=1e-6)
    assert float(mean.abs().max()) <= 1 + 1e-6


SCRIPT = """
import sys
import numpy as np, torch, torch.distributed as dist
from tests.posterior.device.cases import SIGMAS, between, engine, question, random_set
from scorescope.posterior.device import MaskMatrix
from scorescope.posterior.windows import Window
rank, folder, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
images = random_set(0, count, flips=True)
asked = question(between(images, SIGMAS), SIGMAS, "cpu")
inside, around = [Window.inside(3, 6, 7)] * 3, [Window.around(5, 6, 7)] * 3
vectors = torch.linspace(-1, 1, 6 * 126, dtype=torch.float64).reshape(6, 1, 126)
def answers():
    found = engine(images, "cpu", {"resident_bytes": 0, "work_bytes": 1})
    sums = found.whole_image.sums(*asked, top=3)
    described = found.windows.describe(*asked, inside + around, top=2)
    yield from (sums.mean, sums.log_normalizer, sums.entropy, sums.covariance_trace, sums.top_indices, sums.top_logits)
    yield found.whole_image.covariance_products(*asked, vectors)
    yield found.windows.mean(*asked, inside + around)
    for each in described:
        yield from (each.probabilities, each.effective_number, each.log_evidence)
    members = np.random.default_rng(5).random((126, 1, 6, 7)) < 0.5
    yield found.composites.mean(*asked, [MaskMatrix.of(members, "cpu")] * 6)
    yield found.entries.mean(*asked, [MaskMatrix.of(members.repeat(3, 1), "cpu")] * 6)
    yield found.equivariant.mean(*asked, [3] * 6)
    yield found.equivariant.border_mean(*asked, [5] * 6)
alone = [np.asarray(each) for each in answers()]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
together = [np.asarray(each) for each in answers()]
for one, other in zip(alone, together, strict=True):
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5 * np.abs(one[np.isfinite(one)]).max())
dist.destroy_process_group()
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("count", [1, 101])
def test_two_processes_give_what_one_gives(count, tmp_path):
    root = Path(__file__).resolve().parents[3]
    where = os.environ | {"PYTHONPATH": str(root), "GLOO_SOCKET_IFNAME": "lo"}
    call = [sys.executable, "-c", SCRIPT]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": where}
    running = [subprocess.Popen([*call, str(rank), str(tmp_path), str(count)], **pipes) for rank in range(2)]
    try:
        for process in running:
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said
    finally:
        for process in running:
            process.kill()
