"""The equivariant posterior on a device against its definition in float64 and against the processor's engine."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.posterior import oracles
from tests.posterior.device.cases import SIGMAS, between, clean, engine, image_of, levels, question, random_set

from scorescope.posterior.device import equivariant as module
from scorescope.posterior.equivariant import EquivariantPosterior
from scorescope.posterior.units import LEVELS_PER_UNIT

SIDES = [3, 3, 5, 1, 4, 9]
BUDGETS = [{}, {"resident_bytes": 0, "work_bytes": 1}, {"work_bytes": 300_000}]


def windows_around(image, up, left, mode):
    """(H, W, values): the window around every pixel of (C, H, W), continued past the edges."""
    padded = np.pad(image, ((0, 0), (up, up), (left, left)), mode=mode)
    views = np.lib.stride_tricks.sliding_window_view(padded, (2 * up + 1, 2 * left + 1), axis=(1, 2))
    return views.transpose(1, 2, 0, 3, 4).reshape(*image.shape[1:], -1)


def touches(place, length, reach):
    return min(place, reach), min(length - 1 - place, reach)


def definition(noisy, known, sigma, side, border):
    """Every window of one image (C, H, W) against every place that may stand for it."""
    _, height, width = noisy.shape
    up, left = (side // 2,) * 2 if border else (min(side // 2, (height - 1) // 2), min(side // 2, (width - 1) // 2))
    asked = windows_around(noisy, up, left, "constant" if border else "wrap")
    training = np.stack([windows_around(image, up, left, "constant") for image in known])
    result = np.empty_like(noisy)
    kinds = np.array(
        [[(*touches(r, height, up), *touches(c, width, left)) for c in range(width)] for r in range(height)]
    )
    for row in range(height):
        for column in range(width):
            kind = kinds[row, column] if border else (up, up, left, left)
            alike = (kinds == kind).all(-1)
            weights = oracles.posterior_weights(
                asked[row, column], training[:, alike].reshape(-1, asked.shape[2]), sigma
            )
            result[:, row, column] = np.moveaxis(known[:, :, alike], 1, -1).reshape(-1, len(noisy)).T @ weights
    return result


@pytest.mark.parametrize("border", [False, True])
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("flips", [False, True])
def test_mixed_sigmas_and_sides_match_the_definition(budget, flips, border, device):
    images = random_set(0, 70 if flips else 20, flips=flips)
    noisy, known = between(images, SIGMAS), clean(images)
    posterior = engine(images, device, budget).equivariant
    mean = (posterior.border_mean if border else posterior.mean)(*question(noisy, SIGMAS, device), SIDES)
    expected = [definition(noisy[k], known, SIGMAS[k], SIDES[k], border) for k in range(6)]
    np.testing.assert_allclose(image_of(mean, images), expected, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    side=st.integers(1, 11),
    sigma=st.floats(0.002, 80),
    border=st.booleans(),
)
def test_any_shape_matches_the_definition(seed, count, shape, side, sigma, border):
    images = random_set(seed, count, shape)
    noisy = clean(images)[:1] + sigma * np.random.default_rng(seed).standard_normal((1, *shape))
    posterior = engine(images, "cpu").equivariant
    mean = (posterior.border_mean if border else posterior.mean)(*question(noisy, [sigma], "cpu"), [side])
    expected = definition(noisy[0], clean(images), sigma, side, border)
    np.testing.assert_allclose(image_of(mean, images)[0], expected, atol=2e-5)


@pytest.mark.parametrize("border", [False, True])
def test_matches_the_processor(border, device, digits):
    images, sigmas = digits.subset(range(200)), [0.3, 0.3, 1.0, 1.0]
    noisy, spread = between(images, sigmas), np.array(sigmas) * LEVELS_PER_UNIT
    name = "border_mean" if border else "mean"
    found = getattr(engine(images, device).equivariant, name)(*question(noisy, sigmas, device), [3, 5, 3, 5])
    expected = getattr(EquivariantPosterior(images), name)(levels(noisy), spread, [3, 5, 3, 5])
    np.testing.assert_allclose(found.cpu(), expected, atol=1e-5)


@pytest.mark.parametrize("border", [False, True])
def test_few_questions_at_a_time_and_long_windows(monkeypatch, border, device):
    images = random_set(3, 10)
    asked = question(between(images, SIGMAS), SIGMAS, device)
    name = "border_mean" if border else "mean"
    whole = getattr(engine(images, device).equivariant, name)(*asked, SIDES)
    monkeypatch.setattr(module, "MOST_QUESTIONS", 5)
    monkeypatch.setattr(module, "_MOST_SHORT_TERMS", 1)
    torch.testing.assert_close(
        getattr(engine(images, device).equivariant, name)(*asked, SIDES), whole, rtol=0, atol=1e-6
    )
