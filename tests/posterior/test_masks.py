"""The mask posterior against its definition in float64, and masks taken apart into rectangles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.posterior import mask_cover
from scorescope.posterior import masks as module
from scorescope.posterior.mask_cover import Masks
from scorescope.posterior.masks import CompositePosterior, EntryPosterior
from scorescope.posterior.units import LEVELS_PER_UNIT, OFFSET
from scorescope.posterior.vector import LANES

shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 11))
sigmas = st.sampled_from([0.002, 0.02, 0.1, 0.4, 1.0, 3.0, 12.0, 80.0])


def levels(noisy, sigma):
    return noisy.reshape(len(noisy), -1) * LEVELS_PER_UNIT - OFFSET, np.full(len(noisy), sigma * LEVELS_PER_UNIT)


def composite(images, noisy, sigma, members):
    masks = [Masks.of(members)] * len(noisy)
    return CompositePosterior(images).mean(*levels(noisy, sigma), masks).reshape(noisy.shape)


def entries(images, noisy, sigma, members):
    masks = [Masks.of(members)] * len(noisy)
    return EntryPosterior(images).mean(*levels(noisy, sigma), masks).reshape(noisy.shape)


def weighted_entries(images, noisy, sigma, weights):
    found = EntryPosterior(images).weighted_mean(*levels(noisy, sigma), weights.astype(np.float32))
    return found.reshape(noisy.shape)


def expected_composite(noisy, clean, sigma, members):
    """Averages over the masks, one mask after the other; noisy (C, H, W), members (masks, 1, H, W)."""
    total, covered = np.zeros_like(noisy), np.zeros_like(noisy)
    for mask in members[:, 0]:
        weights = oracles.posterior_weights(noisy[:, mask], clean[:, :, mask], sigma)
        total[:, mask] += np.tensordot(weights, clean[:, :, mask], axes=1)
        covered[:, mask] += 1
    return total / covered


def expected_entries(noisy, clean, sigma, weights):
    """Each entry's posterior mean; weights (d, d), row m those of entry m."""
    distances = ((noisy - clean) ** 2).reshape(len(clean), -1) @ weights.astype(np.float64).T  # (N, d)
    posterior = oracles.softmax(-distances.T / (2 * sigma**2))
    return np.einsum("mi,im->m", posterior, clean.reshape(len(clean), -1)).reshape(noisy.shape)


def random_masks(rng, count, planes, height, width, density, solid):
    """Scattered places and, for `solid` of the masks, a rectangle; one of the masks may be empty."""
    members = rng.random((count, planes, height, width)) < density
    for mask in np.flatnonzero(rng.random(count) < solid):
        top, left = rng.integers(0, height), rng.integers(0, width)
        members[mask, :, top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] = True
    return members


def case(seed, count, shape, sigma):
    rng = np.random.default_rng(seed)
    images = ImageSet(rng.integers(0, 256, (count, *shape)).astype(np.uint8))
    clean = oracles.values(images.pixels)
    return rng, images, clean, clean[:1] + sigma * rng.standard_normal((1, *shape))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    shape=shapes,
    sigma=sigmas,
    density=st.sampled_from([0.02, 0.3, 0.9]),
)
def test_composite_of_any_masks_matches_the_definition(seed, count, shape, sigma, density):
    rng, images, clean, noisy = case(seed, count, shape, sigma)
    members = random_masks(rng, int(rng.integers(1, 40)), 1, *shape[1:], density, 0.5)
    members[0] |= ~members.any(0)
    members = members[members.any((1, 2, 3))]
    found = composite(images, noisy, sigma, members)[0]
    assert relative_error(found, expected_composite(noisy[0], clean, sigma, members)) < 2e-5


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    shape=shapes,
    sigma=sigmas,
    density=st.sampled_from([0.02, 0.3, 0.9]),
)
def test_entries_from_any_masks_match_the_definition(seed, count, shape, sigma, density):
    rng, images, clean, noisy = case(seed, count, shape, sigma)
    members = random_masks(rng, clean[0].size, *shape, density, 0.5)
    found = entries(images, noisy, sigma, members)[0]
    expected = expected_entries(noisy[0], clean, sigma, members.reshape(clean[0].size, -1))
    assert np.abs(found - expected).max() < 2e-5
    found = weighted_entries(images, noisy, sigma, members.reshape(clean[0].size, -1))[0]
    assert np.abs(found - expected).max() < 2e-5


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    shape=shapes,
    sigma=st.sampled_from([0.1, 0.4, 1.0, 12.0, 80.0]),
)
def test_entries_from_weights_of_either_sign_match_the_definition(seed, count, shape, sigma):
    rng, images, clean, noisy = case(seed, count, shape, sigma)
    weights = np.eye(clean[0].size) + 0.2 * rng.standard_normal((clean[0].size, clean[0].size))
    found = weighted_entries(images, noisy, sigma, weights)[0]
    expected = expected_entries(noisy[0], clean, sigma, weights.astype(np.float32))
    # Terms of both signs cancel, while a logit is known to 1e-7 of the sum of their sizes: several 1e3 at the lowest noise.
    assert np.abs(found - expected).max() < (2e-5 if sigma > 0.1 else 1e-3)


@pytest.mark.parametrize("sigma", [0.002, 0.3, 2.0, 80.0])
def test_many_images_over_several_chunks_and_threads(sigma, digits):
    rng = np.random.default_rng(0)
    clean = oracles.values(digits.pixels)
    noisy = clean[[5, 700, 1500]] + sigma * rng.standard_normal((3, 1, 8, 8))
    members = random_masks(rng, 64, 1, 8, 8, 0.1, 0.8)
    members.reshape(64, 64)[np.arange(64), np.arange(64)] = True
    expected = np.stack([expected_composite(image, clean, sigma, members) for image in noisy])
    assert relative_error(composite(digits, noisy, sigma, members), expected) < 3e-6
    expected = np.stack([expected_entries(image, clean, sigma, members.reshape(64, 64)) for image in noisy])
    assert relative_error(entries(digits, noisy, sigma, members), expected) < 3e-6
    assert relative_error(weighted_entries(digits, noisy, sigma, members.reshape(64, 64)), expected) < 3e-6


@pytest.mark.parametrize("posterior", [composite, entries])
def test_batches_larger_than_the_limit_are_split(posterior, monkeypatch, digits):
    noisy = oracles.values(digits.pixels[:5]) + 0.3
    members = np.random.default_rng(0).random((64, 1, 8, 8)) < 0.5
    whole = posterior(digits, noisy, 0.5, members)
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    np.testing.assert_array_equal(posterior(digits, noisy, 0.5, members), whole)


@pytest.mark.parametrize("posterior", [composite, entries])
def test_the_number_of_threads_changes_rounding_only_and_a_rerun_nothing(posterior, digits):
    noisy = oracles.values(digits.pixels[:2]) + 0.3
    members = np.random.default_rng(0).random((64, 1, 8, 8)) < 0.2
    members[:, :, 3:5, 3:5] = True
    members[0] = True
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3, 3):
            torch.set_num_threads(threads)
            found.append(posterior(digits, noisy, 0.5, members))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_far_from_all_images_weights_still_sum_to_one():
    # Logits of size 1e8 and one value everywhere: any mean of the images is that value.
    images = ImageSet(np.full((50, 1, 6, 6), 200, np.uint8))
    rng = np.random.default_rng(0)
    noisy = rng.standard_normal((1, 1, 6, 6)) * 50
    members = rng.random((36, 1, 6, 6)) < 0.4
    members[0] = True
    for posterior in (composite, entries):
        np.testing.assert_allclose(posterior(images, noisy, 0.002, members), 200 / 127.5 - 1, atol=1e-6)


def test_an_empty_mask_makes_all_images_equally_likely(digits):
    noisy = oracles.values(digits.pixels[:1])
    found = entries(digits, noisy, 0.1, np.zeros((64, 1, 8, 8), dtype=bool))
    np.testing.assert_allclose(found[0], oracles.values(digits.pixels).mean(0), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shape=shapes, density=st.floats(0, 1), solid=st.floats(0, 1))
def test_rectangles_cover_each_place_of_a_mask_once(seed, shape, density, solid):
    rng = np.random.default_rng(seed)
    members = random_masks(rng, int(rng.integers(1, 100)), *shape, density, solid)
    masks = Masks.of(members)
    plan, size = masks.plan, members[0].size
    holds = [np.eye(size, dtype=int)]  # which places an entry of each table is the sum of
    for table, shift in plan.doublings:
        shifted = np.zeros((size, size), dtype=int)
        shifted[: size - shift] = holds[table][shift:]
        holds.append(holds[table] + shifted)
    holds.append(np.zeros((1, size), dtype=int))
    everything = np.concatenate(holds)
    assert len(everything) * LANES == masks.room
    for mask, member in enumerate(members):
        pieces = plan.pieces[plan.starts[mask] : plan.starts[mask + 1]]
        assert len(pieces) % mask_cover.STRIDE == 0
        np.testing.assert_array_equal(everything[pieces // LANES].sum(0), member.reshape(-1))
    np.testing.assert_array_equal(masks.covered, members.reshape(len(members), -1).sum(0))
    assert len(masks) == len(members)
    assert masks.shape == shape


def test_a_large_solid_mask_takes_few_rectangles():
    members = np.zeros((1024, 1, 32, 32), dtype=bool)
    members[:, :, 3:27, 4:28] = True
    assert len(Masks.of(members).plan.pieces) / 1024 <= 12
