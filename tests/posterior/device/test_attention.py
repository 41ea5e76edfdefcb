"""Windows and masks as attention, under Triton's interpreter or on a device, against their definitions in float64."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles
from tests.posterior.device.cases import SIGMAS, between, clean, engine, image_of, question, random_set
from tests.posterior.device.test_equivariant import definition as equivariant_definition

from scorescope.posterior.device import attention, dense, placement, two_passes
from scorescope.posterior.device.regions import MaskMatrix, Windows
from scorescope.posterior.windows import Window

pytest.importorskip("triton")

# Two chunks and a bit, streamed; everything resident.
STREAMED = {"resident_bytes": 0}


@pytest.fixture(autouse=True)
def _small_programs(monkeypatch):
    """Tiles so small that tests have several of each, on the processor too."""
    for name, value in {"_IMAGES": 32, "_TERMS": 32, "_MOST_KEPT": 128, "_PROGRAMS": 60}.items():
        monkeypatch.setattr(attention, name, value)
    monkeypatch.setattr(two_passes, "_ROWS", 16)
    monkeypatch.setattr(placement, "LARGEST_STREAMED_CHUNK", 1)  # so 64 images at a time
    monkeypatch.setattr(attention, "runs_on", lambda place: True)


def local_score(noisy, known, sigma, side):
    half, result = side // 2, np.empty_like(noisy)
    for row in range(noisy.shape[1]):
        for column in range(noisy.shape[2]):
            part = slice(max(0, row - half), row + half + 1), slice(max(0, column - half), column + half + 1)
            weights = oracles.posterior_weights(noisy[:, *part], known[:, :, *part], sigma)
            result[:, row, column] = weights @ known[:, :, row, column]
    return result


def compare(found, expected, images):
    """Of every noisy image by itself, so that a small error at one sigma is not hidden by others."""
    for own, true in zip(image_of(found, images), expected, strict=True):
        assert relative_error(own, true) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "count", "side", "budget"),
    [
        ((3, 6, 7), 100, 3, {}),  # several splits, windows of 27 values
        ((3, 6, 7), 100, 4, STREAMED),  # 48 values: two tiles of them
        ((1, 5, 9), 33, 5, {}),  # one channel, as tall as the image
        ((3, 4, 6), 1, 2, {}),  # one image
        ((1, 3, 3), 33, 2, {"work_bytes": 1}),  # one part at a time
    ],
)
def test_composites_of_windows_match_the_definition(shape, count, side, budget, device):
    images = random_set(0, count, shape)
    noisy, known = between(images, SIGMAS), clean(images)
    window = Window.inside(side, *shape[1:])
    mean = engine(images, device, budget).windows.mean(*question(noisy, SIGMAS, device), [window] * len(SIGMAS))
    compare(mean, [oracles.square_patches(y, known, s, side) for y, s in zip(noisy, SIGMAS, strict=True)], images)


@pytest.mark.parametrize("kernels", [True, False])
def test_patches_by_themselves_match_the_definition(kernels, device, monkeypatch):
    monkeypatch.setattr(attention, "runs_on", lambda place: kernels)
    images = random_set(8, 50, (2, 4, 5))
    noisy, known = between(images, SIGMAS), clean(images)
    found = engine(images, device).windows.patch_means(*question(noisy, SIGMAS, device), Window.inside(3, 4, 5)).cpu()
    for y, sigma, patches in zip(noisy, SIGMAS, found.numpy(), strict=True):
        for row, column in ((0, 0), (1, 2), (0, 1)):
            part = (..., slice(row, row + 3), slice(column, column + 3))
            expected = oracles.optimal(y[part], known[part], sigma)
            assert relative_error(patches[row, column], expected) < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("flips", [False, True])
def test_centres_and_mixed_windows_match_the_definition(flips, device):
    images = random_set(1, 70, (2, 4, 5), flips)
    noisy, known = between(images, SIGMAS), clean(images)
    windows = [Window.around(side, 4, 5) for side in (3, 3, 3, 15)] + [Window.inside(2, 4, 5)] * 2
    mean = engine(images, device, STREAMED if flips else None).windows.mean(*question(noisy, SIGMAS, device), windows)
    expected = [local_score(noisy[k], known, SIGMAS[k], side) for k, side in enumerate((3, 3, 3, 15))]
    compare(mean, [*expected, *(oracles.square_patches(noisy[k], known, SIGMAS[k], 2) for k in (4, 5))], images)


def test_masks_match_the_definition(device):
    images = random_set(2, 60, (3, 4, 5))
    sigmas = (0.3, 0.3, 80.0)
    noisy, known, rng = between(images, sigmas), clean(images), np.random.default_rng(3)
    members = rng.random((2, 6, 4, 5)) < 0.4
    members[:, 0] = True
    one, other = (MaskMatrix.of(each[:, None], device) for each in members)
    mean = engine(images, device).composites.mean(*question(noisy, sigmas, device), [one, other, one])
    expected = []
    for y, sigma, masks in zip(noisy, sigmas, members[[0, 1, 0]], strict=True):
        total = np.zeros_like(y)
        for mask in masks:
            total[:, mask] += oracles.optimal(y[:, mask], known[:, :, mask], sigma)
        expected.append(total / masks.sum(0))
    compare(mean, expected, images)


@pytest.mark.parametrize("kind", ["gathered", "dense", "weights"])
def test_entries_match_the_definition(kind, device, monkeypatch):
    monkeypatch.setattr(dense, "worth_it", lambda *_: kind == "dense")
    for name, value in {"_ROWS": 16, "_IMAGES": 32, "_TERMS": 32}.items():
        monkeypatch.setattr(dense, name, value)
    images = random_set(4, 40, (2, 4, 5))
    sigmas, budget = (SIGMAS, STREAMED) if kind == "dense" else ((0.3, 5.0), {})
    noisy, known, rng = between(images, sigmas), clean(images), np.random.default_rng(5)
    weights = (rng.random((40, 40)) < 0.2).astype(np.float32) * (0.5 if kind == "weights" else 1)
    weights[3] = 0  # nothing to go by: the mean of all images
    weights[16:32, :32] = 0  # a block that is left out
    masks = MaskMatrix.of(weights.reshape(40, 2, 4, 5), device)
    mean = engine(images, device, budget).entries.mean(*question(noisy, sigmas, device), [masks] * len(sigmas))
    expected = []
    for y, sigma in zip(noisy.reshape(len(sigmas), -1), sigmas, strict=True):
        logits = -((y - known.reshape(40, -1)) ** 2) @ weights.T.astype(np.float64) / (2 * sigma**2)
        expected.append((oracles.softmax(logits.T) * known.reshape(40, -1).T).sum(1).reshape(2, 4, 5))
    compare(mean, expected, images)


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 40), sigma=st.sampled_from([0.05, 0.7, 20.0]))
def test_order_and_chunks_change_nothing(seed, count, sigma):
    device = torch.device("cpu")
    images = random_set(seed, count, (1, 4, 5))
    order = np.random.default_rng(seed).permutation(count)
    asked, windows = question(between(images, [sigma], seed), [sigma], device), [Window.inside(3, 4, 5)]
    whole = engine(images, device).windows.mean(*asked, windows)
    turned = engine(images.subset(order), device, STREAMED).windows.mean(*asked, windows)
    np.testing.assert_allclose(turned, whole, atol=1e-5)


def test_matrices_are_multiplied_where_masks_are_dense():
    sparse, full = (MaskMatrix.of(torch.ones(8, 1, 8, 16) * share, "cpu") for share in (0, 1))
    few, many = attention.Parts.of_entries(sparse), attention.Parts.of_entries(full)
    assert attention.worth_it(few, 1, 3072)
    assert not attention.worth_it(many, 1, 128)
    assert attention.worth_it(many, 16, 3072)
    # Bytes and blocks of masks: for one noisy image, where it fills matrix units, and where masks have values in common.
    assert dense.worth_it(full, 1)
    assert not dense.worth_it(full, 16)
    assert not dense.worth_it(MaskMatrix.of(torch.eye(128).reshape(128, 1, 8, 16), "cpu"), 1)


def test_lists_of_places_are_made_once_and_go_with_their_masks():
    windows, device = Windows(Window.inside(3, 5, 6), 5, 6), torch.device("cpu")
    assert attention.Parts.of_windows(windows, 3, device) is attention.Parts.of_windows(windows, 3, device)
    masks = MaskMatrix.of(np.eye(4).reshape(4, 1, 2, 2), device)
    one, other = attention.Parts.of_masks(masks, 1), attention.Parts.of_entries(masks)
    assert attention.Parts.of_masks(masks, 1) is one
    assert attention.Parts.of_entries(masks) is other
    assert attention.Parts.of_masks(masks, 3).places.shape == (4, 3)
    gone = weakref.ref(masks)
    del masks
    assert gone() is None


@pytest.mark.slow
def test_the_trial_that_comes_before_tells_a_right_kernel_from_a_wrong_one(device, monkeypatch):
    assert attention.is_right_on.__wrapped__(device)
    tried = {"_in_two_passes": attention, "_whole_means": attention, "entries": dense, "weighted_sums": two_passes}
    for name, module in tried.items():
        right = getattr(module, name)
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *asked: 1.001 * right(*asked))  # noqa: B023
            assert not attention.is_right_on.__wrapped__(device)
    monkeypatch.setattr(attention, "_part_means", lambda *asked: 1 / 0)
    assert not attention.is_right_on.__wrapped__(device)


@pytest.mark.slow
@pytest.mark.parametrize("border", [False, True])
def test_windows_from_every_place_match_the_definition(border, device):
    images, sides = random_set(6, 20, (2, 4, 5), flips=border), [3, 5, 1, 4, 9, 3]
    noisy, known = between(images, SIGMAS), clean(images)
    posterior = engine(images, device, STREAMED).equivariant
    mean = (posterior.border_mean if border else posterior.mean)(*question(noisy, SIGMAS, device), sides)
    asked = zip(noisy, SIGMAS, sides, strict=True)
    compare(mean, [equivariant_definition(y, known, sigma, side, border) for y, sigma, side in asked], images)
