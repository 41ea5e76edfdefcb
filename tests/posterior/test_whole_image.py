"""The whole-image posterior against its definition in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.posterior import whole_image
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.whole_image import WholeImagePosterior

SIGMAS = (0.002, 0.05, 0.5, 3.0, 80.0)


def levels(images):
    return images.reshape(len(images), -1) * LEVELS_PER_UNIT - 0.5


def random_set(seed, count, shape=(2, 3, 5)):
    return ImageSet(np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_sums_match_the_definition_where_two_images_compete(sigma):
    images = random_set(0, 300)
    clean = oracles.values(images.pixels)
    rng = np.random.default_rng(1)
    noisy = (clean[3:6] + clean[4:7]) / 2 + sigma * rng.standard_normal((3, 2, 3, 5))
    posterior = WholeImagePosterior(images)
    sums = posterior.sums(levels(noisy), np.full(3, sigma * LEVELS_PER_UNIT), top=4)
    found = sums.accumulator()
    for row in range(3):
        logits = -((noisy[row] - clean) ** 2).reshape(300, -1).sum(1) / (2 * sigma**2)
        weights = oracles.softmax(logits)
        largest = np.sort(logits)[::-1][:4]
        np.testing.assert_allclose(sums.top_logits[row], largest, rtol=1e-6, atol=1e-6)
        assert sums.top_indices[row, 0] == np.argmax(logits)
        expected = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
        assert found.log_normalizer[row] == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert relative_error(found.mean[row], weights @ levels(clean)) < 2e-6
        spread = (weights * (logits - logits.max()))[weights > 0].sum()
        assert sums.weighted_logit[row] / sums.weight[row] == pytest.approx(spread, rel=1e-5, abs=3e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 90), batch=st.integers(1, 5), sigma=st.floats(0.002, 80))
def test_shards_merge_to_the_whole(seed, count, batch, sigma):
    images = random_set(seed, count)
    noisy = sigma * np.random.default_rng(seed).standard_normal((batch, 30)) * LEVELS_PER_UNIT
    spread = np.full(batch, sigma * LEVELS_PER_UNIT)
    whole = WholeImagePosterior(images).sums(noisy, spread).accumulator()
    first, second = images.subset(range(0, count, 2)), images.subset(range(1, count, 2)) if count > 1 else None
    merged = WholeImagePosterior(first).sums(noisy, spread).accumulator()
    if second is not None:
        merged = WholeImagePosterior(second).sums(noisy, spread).accumulator().merge(merged)
    np.testing.assert_allclose(merged.log_normalizer, whole.log_normalizer, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-5, atol=1e-3)


def test_many_tiny_weights_beside_a_large_one_are_kept():
    # One image of weight 1 and 60,000 that together have weight 0.01: each is below the resolution of a weight.
    black, white = np.zeros((1, 1, 1, 1), np.uint8), np.full((60_000, 1, 1, 1), 255, np.uint8)
    images = ImageSet(np.concatenate([black, white]))
    sigma = LEVELS_PER_UNIT
    noisy = 127.5 - sigma**2 * np.log(60_000 / 0.01) / 255 - 128
    mean = WholeImagePosterior(images).mean(np.full((1, 1), noisy), np.full(1, sigma))
    assert mean[0, 0] == pytest.approx(-1 + 2 * 0.01 / 1.01, abs=1e-6)


def test_batches_larger_than_the_limit_are_split(monkeypatch):
    images = random_set(2, 20)
    noisy = np.random.default_rng(3).standard_normal((9, 30)) * 100
    spread = np.linspace(5, 500, 9)
    whole = WholeImagePosterior(images).mean(noisy, spread)
    monkeypatch.setattr(whole_image, "MOST_ROWS", 4)
    np.testing.assert_allclose(WholeImagePosterior(images).mean(noisy, spread), whole, rtol=1e-12)


def test_several_chunks_match_one(monkeypatch):
    images = random_set(4, 500)
    noisy = oracles.values(images.pixels[200:203]).reshape(3, -1) * 100
    spread = np.array([5.0, 60.0, 900.0])
    one = WholeImagePosterior(images).sums(noisy, spread, top=3)
    monkeypatch.setattr(whole_image, "CHUNK_BYTES", 64 * 30)
    many = WholeImagePosterior(images).sums(noisy, spread, top=3)
    np.testing.assert_allclose(many.accumulator().mean, one.accumulator().mean, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(many.top_indices, one.top_indices)
    np.testing.assert_allclose(many.weighted_logit / many.weight, one.weighted_logit / one.weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(many.weighted_norm / many.weight, one.weighted_norm / one.weight, rtol=1e-5)
