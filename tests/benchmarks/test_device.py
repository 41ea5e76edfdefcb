"""The device's benchmark runs on a processor too, at a tiny size: its lines, its clock, its errors, its page."""

import math
import sys

import numpy as np
import pytest
import torch
from benchmarks.harness import Row
from benchmarks.references.windows import local_score

from benchmarks import device, device_errors, device_jobs
from scorescope.data.images import ImageSet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (70, 3, 8, 8), dtype=np.uint8))


def test_every_line_of_the_table_is_measured(images, monkeypatch):
    monkeypatch.setattr(device, "SIDES", {3: "≤ 8 ms", 7: "≤ 25 ms", 23: "too large here"})
    limits = device.Limits.measure(CPU, size=64, words=2**10)
    assert min(limits.flops, limits.tf32, limits.bytes_read, limits.bytes_copied) > 0
    rows, left_out = device.measured(device.lines(images, CPU, limits), device.Clock(1000))
    assert left_out == []
    kinds = [row.case.split(",")[0] for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "optimal": 5,
        "pspc-square": 2,
        "local-score": 1,
        "equivariant-local-score": 1,
        "pspc-flex": 3,
        "pca-locality": 2,
    }
    assert all(row.seconds > 0 and row.wanted for row in rows)
    assert all(row.reference > 0 for row in rows)
    page = device.report(
        "device-x", str(limits), [device_errors.Error("optimal", (1e-7,) * 6)], rows, ["explain: no time"]
    )
    assert page.count("\n| optimal") == 6
    assert "- explain: no time" in page


def test_a_line_without_time_is_named_and_not_measured():
    clock = device.Clock(100, now=iter([0, 10, 10, 90, 90]).__next__)
    asked = []

    def line(case, budget):
        return device.Line(case, budget, lambda left: asked.append((case, left)) or [Row(case, 1.0)])

    rows, left_out = device.measured([line("first", 60), line("second", 50)], clock)
    assert [row.case for row in rows] == ["first"]
    assert asked == [("first", 90)]
    assert left_out == ["second: 10 s were left of the 50 s that it may take"]


def test_a_line_that_fails_does_not_end_the_run():
    def fail(_):
        raise RuntimeError("out of memory\nmore words")

    rows, left_out = device.measured(
        [device.Line("first", 1, fail), device.Line("second", 1, lambda _: [])], device.Clock(9)
    )
    assert (rows, left_out) == ([], ["first: out of memory"])


def test_errors_are_those_of_float64(images):
    found = device_errors.measure(images, CPU)
    assert [each.case for each in found][:2] == ["optimal", "pspc-square, window 3"]
    for each in found:
        assert all(error < device_errors.ALLOWED for error in each.by_sigma), each
    assert "| optimal |" in device_errors.table(found)


def test_the_plain_local_score_is_its_definition(images):
    clean, noisy = images.tensor().double(), images.tensor(range(2)).double() + 0.3
    found = local_score(noisy, clean, 0.8, 5, [(0, 1), (4, 4)])
    for one, means in zip(noisy, found, strict=True):
        expected = device_errors.centres(5)(one, clean, 0.8)
        torch.testing.assert_close(means, torch.stack([expected[:, 0, 1], expected[:, 4, 4]], 1))


def test_errors_are_seen(images):
    class Off(torch.nn.Module):
        def forward(self, noisy, sigma):
            return torch.stack([1.01 * device_errors.whole_images(one, clean, sigma) for one in noisy])

    clean = images.tensor().double()
    assert device_errors._errors(Off(), clean, device_errors.whole_images) == pytest.approx((0.01,) * 6)


def test_a_job_that_is_ended_keeps_what_it_had_said():
    script = 'import time; print(\'{"case": "bare", "seconds": 1}\', flush=True); time.sleep(60)'
    assert device_jobs._run([sys.executable, "-c", script], 5) == [{"case": "bare", "seconds": 1}]


def test_a_job_that_fails_says_why():
    with pytest.raises(device_jobs.JobError, match="no such device"):
        device_jobs._run([sys.executable, "-c", "raise SystemExit('no such device')"], 20)


def test_training_is_measured():
    small = {"model_channels": 16, "channel_mult": [1], "num_blocks": 1}
    sizes = device_jobs.Sizes("cpu", (1, 8, 8), batch=2, steps=1, trained=small)
    assert device_jobs.Sizes.of(str(sizes)) == sizes
    measured = device_jobs.measure_training(sizes)
    cases = [next(measured) for _ in range(2)]
    assert [line["case"] for line in cases] == ["bare", "not compiled"]
    said = [*cases, {"case": "first compiled", "seconds": 30.0}, {"case": "compiled", "seconds": 0.1}]
    rows = device_jobs.training_rows(said, sizes)
    assert [row.case.split(", ")[-1] for row in rows] == ["not compiled", "compiled"]
    assert rows[1].note == "20 images/s; reference: the bare step, not compiled; first step 30 s"
    [alone] = device_jobs.training_rows(cases, sizes)
    assert alone.note.endswith("it was ended before the compiled step was measured")
    assert math.isclose(rows[0].reference, cases[0]["seconds"])


def test_without_a_device_it_says_what_it_needs():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    assert device.keep() == device.NO_DEVICE
    assert "one NVIDIA GPU" in device.NO_DEVICE
