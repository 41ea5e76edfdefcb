"""The mask posterior on a device against its definition in float64."""

import numpy as np
import pytest
import torch
from tests.posterior import oracles
from tests.posterior.device.cases import BUDGETS, SIGMAS, between, clean, engine, image_of, levels, question, random_set

from scorescope.foundation import UserError
from scorescope.posterior.device import masks as module
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.mask_cover import Masks
from scorescope.posterior.masks import CompositePosterior, EntryPosterior
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.windows import Window

HEIGHT, WIDTH = 6, 7


def random_masks(seed, count):
    """Random masks, the first of everything."""
    masks = np.random.default_rng(seed).random((count, HEIGHT, WIDTH)) < 0.3
    masks[0] = True
    return masks


def composite(noisy, known, sigma, masks):
    """Average over the masks, at the pixels they cover, of their posterior means."""
    total = np.zeros_like(noisy)
    for mask in masks:
        total[:, mask] += oracles.optimal(noisy[:, mask], known[:, :, mask], sigma)
    return total / masks.sum(0)


def entries(noisy, known, sigma, weights):
    """Every pixel-channel j from distances weighted by row j."""
    result, flat, training = np.empty(noisy.size), noisy.reshape(-1), known.reshape(len(known), -1)
    for j, row in enumerate(weights):
        logits = -(((flat - training) ** 2) * row).sum(1) / (2 * sigma**2)
        result[j] = oracles.softmax(logits) @ training[:, j]
    return result.reshape(noisy.shape)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("flips", [False, True])
def test_composites_match_the_definition(budget, flips, device):
    images = random_set(0, 100, flips=flips)
    # Between two images at low noise a logit is so large that float32 does not know its third decimal.
    noisy, known = between(images, SIGMAS, alone_below=0.2), clean(images)
    members = [random_masks(k // 2, 5) for k in range(6)]
    few, many, others = (MaskMatrix.of(members[k][:, None], device) for k in (0, 2, 4))
    mean = engine(images, device, budget).composites.mean(
        *question(noisy, SIGMAS, device), [few, few, many, many, others, others]
    )
    expected = [composite(noisy[k], known, SIGMAS[k], members[k]) for k in range(6)]
    np.testing.assert_allclose(image_of(mean, images), expected, atol=5e-5)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("kind", ["binary", "weights", "signed"])
def test_entries_match_the_definition(budget, kind, device):
    images = random_set(1, 90, flips=True)
    noisy, known = between(images, SIGMAS, alone_below=0.2), clean(images)
    weights = np.random.default_rng(2).random((126, 126)) - (0.2 if kind == "signed" else 0)
    weights = ((weights < 0.2) if kind == "binary" else weights).astype(np.float32)
    weights[3] = 0  # nothing to go by: the mean of all images
    masks = MaskMatrix.of(weights.reshape(126, 3, HEIGHT, WIDTH), device)
    mean = engine(images, device, budget).entries.mean(*question(noisy, SIGMAS, device), [masks] * 6)
    expected = [entries(noisy[k], known, SIGMAS[k], weights) for k in range(6)]
    np.testing.assert_allclose(image_of(mean, images), expected, atol=5e-5)
    np.testing.assert_allclose(mean[:, 3].cpu(), known.reshape(len(known), -1).mean(0)[3], atol=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 80.0])
def test_matches_the_processor(sigma, device):
    images, spread = random_set(5, 150), np.full(2, sigma * LEVELS_PER_UNIT)
    noisy, members = between(images, [sigma] * 2), random_masks(7, 9)[:, None]
    asked, posterior = question(noisy, [sigma] * 2, device), engine(images, device)
    found = posterior.composites.mean(*asked, [MaskMatrix.of(members, device)] * 2)
    expected = CompositePosterior(images).mean(levels(noisy), spread, [Masks.of(members)] * 2)
    np.testing.assert_allclose(found.cpu(), expected, atol=1e-5)
    own = np.random.default_rng(8).random((126, 3, HEIGHT, WIDTH)) < 0.2
    found = posterior.entries.mean(*asked, [MaskMatrix.of(own, device)] * 2)
    np.testing.assert_allclose(
        found.cpu(), EntryPosterior(images).mean(levels(noisy), spread, [Masks.of(own)] * 2), atol=1e-5
    )


def test_windows_are_masks(device):
    images, sigmas = random_set(2, 60), [0.4, 2.0]
    window = Window.inside(3, HEIGHT, WIDTH)
    rows, columns = window.count(HEIGHT, WIDTH)
    members = np.zeros((rows, columns, 1, HEIGHT, WIDTH), bool)
    for row in range(rows):
        for column in range(columns):
            members[row, column, 0, row : row + 3, column : column + 3] = True
    masks = MaskMatrix.of(members.reshape(-1, 1, HEIGHT, WIDTH), device)
    asked, posterior = question(between(images, sigmas), sigmas, device), engine(images, device)
    windows = posterior.windows.mean(*asked, [window] * 2)
    torch.testing.assert_close(posterior.composites.mean(*asked, [masks] * 2), windows, rtol=0, atol=2e-6)


def test_a_pixel_without_a_mask_is_refused(device):
    images = random_set(0, 5)
    members = np.ones((2, 1, HEIGHT, WIDTH))
    members[:, 0, 2, 3:5] = 0
    asked = question(between(images, [1.0]), [1.0], device)
    with pytest.raises(UserError, match="2 pixels are in none of the masks"):
        engine(images, device).composites.mean(*asked, [MaskMatrix.of(members, device)])


def test_batches_larger_than_the_limit_are_split(monkeypatch, device):
    images = random_set(4, 30)
    asked, posterior = question(between(images, SIGMAS), SIGMAS, device), engine(images, device)
    masks = [MaskMatrix.of(random_masks(0, 4)[:, None], device)] * 6
    alone = [MaskMatrix.of(np.eye(126).reshape(126, 3, HEIGHT, WIDTH), device)] * 6
    whole = posterior.composites.mean(*asked, masks), posterior.entries.mean(*asked, alone)
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    split = posterior.composites.mean(*asked, masks), posterior.entries.mean(*asked, alone)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-6)
