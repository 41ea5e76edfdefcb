"""The quantities called r² against loops in exact arithmetic and cases with known answers."""

import math
from fractions import Fraction

import numpy as np
import pytest

from scorescope.probes.sample_agreement import QUANTITIES, Agreement, agreement


def images(count, seed=0, shape=(2, 3, 4)):
    return np.random.default_rng(seed).integers(-64, 65, (count, *shape)) / 64  # exact in binary


def by_hand(sample, reference):
    """All four, with fractions until the last root."""
    a, b = ([Fraction(float(value)) for value in image.ravel()] for image in (sample, reference))
    count = len(a)
    mean_a, mean_b = sum(a) / count, sum(b) / count
    error = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    together = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread_a, spread_b = sum((x - mean_a) ** 2 for x in a), sum((y - mean_b) ** 2 for y in b)
    in_unit = sum(((x + 1) / 2 - (y + 1) / 2) ** 2 for x, y in zip(a, b, strict=True)) / count
    correlation = float(together) / math.sqrt(float(spread_a * spread_b))
    return float(in_unit), float(1 - error / spread_b), float(together**2 / (spread_a * spread_b)), correlation


def test_every_quantity_is_its_definition():
    samples, references = images(7), images(7, seed=1)
    references[3] = 0.25 * samples[3] + 0.5  # one that is well correlated
    found = agreement(samples, references)
    for row, (sample, reference) in enumerate(zip(samples, references, strict=True)):
        values = [getattr(found, name)[row] for name in QUANTITIES]
        assert values == pytest.approx(by_hand(sample, reference), rel=1e-12, abs=1e-14)


def test_known_answers():
    reference = images(4, seed=2)
    same = agreement(reference, reference)
    assert same.mse == pytest.approx(0, abs=1e-15)
    assert [same.determination, same.squared_correlation, same.correlation] == pytest.approx(np.ones((3, 4)))
    negative = agreement(-reference, reference)
    assert negative.correlation == pytest.approx(-np.ones(4))
    assert negative.squared_correlation == pytest.approx(np.ones(4))
    assert (negative.determination < -1).all()
    flat = np.broadcast_to(reference.mean((1, 2, 3), keepdims=True), reference.shape)
    assert agreement(flat, reference).determination == pytest.approx(np.zeros(4), abs=1e-12)


def test_brightness_and_contrast_count_for_determination_alone():
    reference = images(5, seed=3) / 2
    found = agreement(0.5 * reference + 0.1, reference)
    assert found.correlation == pytest.approx(np.ones(5))
    assert (found.determination < 0.9).all()
    assert (found.determination <= found.squared_correlation + 1e-12).all()


def test_determination_is_not_symmetric():
    one, other = images(3, seed=4), images(3, seed=5) / 4
    assert agreement(one, other).determination != pytest.approx(agreement(other, one).determination)
    assert agreement(one, other).correlation == pytest.approx(agreement(other, one).correlation)


def test_what_is_not_defined_is_no_number():
    reference = images(4, seed=6)
    samples = reference.copy()
    samples[0], reference[1], samples[2] = 0.3, -0.2, math.nan
    found = agreement(samples, reference)
    assert np.isnan(found.correlation).tolist() == [True, True, True, False]
    assert np.isnan(found.determination).tolist() == [False, True, True, False]
    assert np.isnan(found.mse).tolist() == [False, False, True, False]


def test_images_are_clipped_before_they_are_compared():
    reference = images(3, seed=7)
    beyond = np.where(reference == 1, 1.7, np.where(reference == -1, -3.0, reference))
    assert isinstance(agreement(beyond, reference), Agreement)
    assert agreement(beyond, reference).mse == pytest.approx(0, abs=1e-15)


def test_shapes_must_be_one():
    with pytest.raises(ValueError, match="one shape"):
        agreement(images(2), images(3))
