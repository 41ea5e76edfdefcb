"""Whole images and large parts in two passes, under Triton's interpreter or on a device, against their definitions."""

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles
from tests.posterior.device.cases import SIGMAS, between, clean, engine, image_of, levels, question, random_set
from tests.posterior.device.test_memory import PeakMemory
from torch.utils._python_dispatch import TorchDispatchMode

from scorescope.data.images import ImageSet
from scorescope.posterior.device import attention, placement, two_passes
from scorescope.posterior.device.parts import Parts
from scorescope.posterior.device.regions import Windows
from scorescope.posterior.device.replay import Replays
from scorescope.posterior.device.units import from_levels
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window

pytest.importorskip("triton")

STREAMED = {"resident_bytes": 0}


@pytest.fixture(autouse=True)
def _small_programs(monkeypatch):
    """Tiles so small that tests have several of each, on the processor too."""
    tiles = {"_IMAGES": (32, 16), "_TERMS": (32, 32), "_KEPT": (64, 32), "_PROGRAMS": 12, "_BLOCK": 4}
    for name, value in tiles.items():
        monkeypatch.setattr(two_passes, name, value)
    monkeypatch.setattr(attention, "runs_on", lambda place: True)
    monkeypatch.setattr(placement, "LARGEST_STREAMED_CHUNK", 1)  # so 64 images at a time


def expected_means(images, noisy, sigmas):
    return [oracles.optimal(own, clean(images), sigma) for own, sigma in zip(noisy, sigmas, strict=True)]


def compare(found, expected, images):
    """Of every noisy image by itself, so that a small error at one sigma is not hidden by others."""
    for own, true in zip(image_of(found, images), expected, strict=True):
        assert relative_error(own, true) < 1e-5


@pytest.mark.parametrize(
    ("shape", "count", "flips", "budget"),
    [
        ((3, 6, 7), 150, False, {}),  # several tiles, and one that is not full
        ((3, 6, 7), 100, True, STREAMED),  # several chunks
        ((1, 5, 9), 33, False, {}),
        ((2, 3, 4), 1, False, {}),
    ],
)
def test_whole_images_match_the_definition(shape, count, flips, budget, device):
    images = random_set(0, count, shape, flips)
    noisy = between(images, SIGMAS)
    mean = engine(images, device, budget).whole_image.mean(*question(noisy, SIGMAS, device))
    compare(mean, expected_means(images, noisy, SIGMAS), images)


def test_more_noisy_images_than_a_program_takes(device, monkeypatch):
    monkeypatch.setattr(two_passes, "_ROWS", 16)
    images, sigmas = random_set(1, 70, (1, 4, 5)), np.geomspace(0.002, 80, 19)
    noisy = between(images, sigmas)
    mean = engine(images, device).whole_image.mean(*question(noisy, sigmas, device))
    compare(mean, expected_means(images, noisy, sigmas), images)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("sigma", [0.002, 0.01, 0.1])
def test_a_tie_at_low_noise_is_decided_as_in_float64(sigma, kernels, device, monkeypatch):
    monkeypatch.setattr(attention, "runs_on", lambda place: kernels)
    # Two images of equal weight but for a quarter of a logit: the case in which every digit of the distances counts.
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)
    images = ImageSet(pixels)
    first, second = clean(images)[:2].reshape(2, -1)
    apart = second - first
    noisy = (first + second) / 2 + 0.25 * sigma**2 * apart / (apart @ apart)
    off_line = sigma * rng.standard_normal(len(noisy))
    noisy += off_line - apart * (off_line @ apart) / (apart @ apart)
    noisy = noisy.reshape(1, *images.image_shape)
    mean = engine(images, device).whole_image.mean(*question(noisy, [sigma], device))
    assert 0.1 < oracles.posterior_weights(noisy[0], clean(images), sigma)[0] < 0.9
    assert relative_error(image_of(mean, images)[0], expected_means(images, noisy, [sigma])[0]) < 1e-5 * (
        0.1 / sigma if sigma < 0.1 else 1
    )


@pytest.mark.parametrize("budget", [{}, STREAMED])
def test_sums_match_those_of_the_processor(budget, device):
    images = random_set(2, 133, (2, 4, 5), flips=True)
    noisy = between(images, SIGMAS)
    posterior, reference = engine(images, device, budget).whole_image, WholeImagePosterior(images)
    values, spread = question(noisy, SIGMAS, device)
    found = posterior.sums(values, spread, top=4)
    expected = reference.sums(levels(noisy), spread.cpu().numpy(), top=4)
    for name, tolerance in {"mean": 1e-3, "log_normalizer": 2e-6, "entropy": 2e-5}.items():
        np.testing.assert_allclose(getattr(found, name).cpu(), getattr(expected, name), rtol=1e-6, atol=tolerance)
    np.testing.assert_allclose(found.covariance_trace.cpu(), expected.covariance_trace, rtol=1e-5, atol=1)
    np.testing.assert_array_equal(found.top_indices.cpu(), expected.top_indices)
    np.testing.assert_allclose(found.top_logits.cpu(), expected.top_logits, rtol=1e-7, atol=1e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_many_tiny_weights_beside_a_large_one_are_kept(whole, device, monkeypatch):
    # One image of weight 1 and 2,000 that together have weight 0.01, all added up by one program.
    for name, value in {"_IMAGES": (128, 64), "_PROGRAMS": 1}.items():
        monkeypatch.setattr(two_passes, name, value)
    monkeypatch.setattr(attention, "_MOST_KEPT", 1)
    black, white = np.zeros((1, 1, 1, 1), np.uint8), np.full((2_000, 1, 1, 1), 255, np.uint8)
    own = engine(ImageSet(np.concatenate([black, white])), device)
    noisy = 127.5 - LEVELS_PER_UNIT**2 * np.log(2_000 / 0.01) / 255 - 128
    values = torch.full((1, 1), noisy, dtype=torch.float64, device=device)
    asked = values, torch.full_like(values[0], LEVELS_PER_UNIT)
    mean = own.whole_image.mean(*asked) if whole else own.windows.mean(*asked, [Window.inside(1, 1, 1)])
    assert float(mean) == pytest.approx(-1 + 2 * 0.01 / 1.01, abs=4e-6)


@settings(max_examples=5, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    sigma=st.floats(0.002, 80),
    batch=st.integers(1, 3),
)
def test_sets_of_any_size_and_shape(seed, count, shape, sigma, batch):
    images, sigmas = random_set(seed, count, shape), [sigma] * batch
    noisy = between(images, sigmas, seed)
    mean = engine(images, "cpu").whole_image.mean(*question(noisy, sigmas, "cpu"))
    compare(mean, expected_means(images, noisy, sigmas), images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "count", "side", "budget"),
    [
        ((3, 6, 7), 70, 5, STREAMED),  # 75 values: more than a tile of any kind
        ((1, 5, 9), 33, 5, {}),  # one channel, as tall as the image
        ((3, 4, 4), 1, 4, {}),  # one image, one window
    ],
)
def test_large_windows_match_the_definition(shape, count, side, budget, device, monkeypatch):
    monkeypatch.setattr(attention, "_MOST_KEPT", 1)
    images = random_set(3, count, shape)
    noisy, known, window = between(images, SIGMAS), clean(images), Window.inside(side, *shape[1:])
    mean = engine(images, device, budget).windows.mean(*question(noisy, SIGMAS, device), [window] * len(SIGMAS))
    compare(mean, [oracles.square_patches(y, known, s, side) for y, s in zip(noisy, SIGMAS, strict=True)], images)


def test_two_passes_are_for_what_one_program_cannot_average():
    def parts(side):
        return Parts.of_windows(Windows(Window.inside(side, 32, 32), 32, 32), 3, torch.device("cpu"))

    assert [attention.in_two_passes(parts(side), 64) for side in (3, 9, 11, 23)] == [False, False, True, True]
    assert [attention.in_two_passes(parts(side), 4) for side in (4, 5)] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_passes_stay_within_their_memory(whole, monkeypatch):
    for name, value in {"_IMAGES": (256, 256), "_KEPT": (16, 16), "_PROGRAMS": 4}.items():
        monkeypatch.setattr(two_passes, name, value)
    monkeypatch.setattr(attention, "_MOST_KEPT", 1)
    images, work, sigmas = random_set(9, 3000, (1, 3, 4)), 300_000, [0.5] * 16
    own, window = engine(images, "cpu", {"work_bytes": work}), [Window.inside(3, 3, 4)] * 16
    asked = question(between(images, sigmas), sigmas, "cpu")
    list(own.store.chunks(3000))  # the images are there before the pass
    with PeakMemory() as memory:
        own.whole_image.mean(*asked) if whole else own.windows.mean(*asked, window)
    assert 0.5 * work < memory.peak < 1.35 * work


class NothingWaits(TorchDispatchMode):
    """Refuses whatever makes the processor wait for a device."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in function.name() for name in self.WAITS), function.name()
        return function(*args, **(kwargs or {}))


def test_a_pass_waits_for_nothing(device):
    images = random_set(5, 100, (1, 4, 5))
    posterior = engine(images, device).whole_image
    asked = question(between(images, SIGMAS), SIGMAS, device)
    known = posterior.mean(*asked)
    with NothingWaits():
        again = posterior._passed(*asked).mean
    torch.testing.assert_close(from_levels(again), known, rtol=0, atol=1e-12)


def test_replays_give_what_the_task_gives(device):
    calls = []

    def task(first, second):
        calls.append(len(first))
        return first * second

    replays = Replays()
    for count in (3, 3, 3, 2, 3):
        first, second = torch.rand(2, count, device=device)
        assert torch.equal(replays(count, task, first, second), first * second)
    # On a device the second call is made once to warm up and once to be recorded, and is not made after.
    assert calls == ([3, 3, 3, 2, 3] if device.type == "cpu" else [3, 3, 3, 2])


def test_an_engine_that_nobody_holds_lets_go_of_its_images(device):
    own = engine(random_set(0, 30), device)
    own.whole_image.mean(*question(between(own.store.images, SIGMAS), SIGMAS, device))
    resident = weakref.ref(own.store._resident)
    gc.disable()
    try:
        del own
        assert resident() is None
    finally:
        gc.enable()
