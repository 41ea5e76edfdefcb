"""Local coverage and what predicts what, against their definitions, and on cases with known answers."""

import math

import numpy as np
import pytest

from scorescope.data import ImageSet
from scorescope.foundation import UserError
from scorescope.probes.coverage import local_coverage, rank_correlation, separation, squared_distances


def test_coverage_is_its_definition(digits):
    images = digits.subset(range(30))
    x = images.tensor().double().flatten(1).numpy()
    squared = np.square(x[:, None] - x[None]).sum(2)
    np.fill_diagonal(squared, np.inf)
    scale = np.median(squared.min(1))
    expected = np.log(np.exp(-squared / (2 * scale)).sum(1))
    assert squared_distances(images) == pytest.approx(squared, rel=1e-5)
    assert local_coverage(images) == pytest.approx(expected, rel=1e-4)


def test_an_image_far_from_all_others_is_the_least_covered():
    values = 128 + 4 * np.random.default_rng(0).standard_normal((20, 1, 4, 4))
    values[7] += 60
    coverage = local_coverage(ImageSet(values.round().astype(np.uint8)))
    assert coverage.argmin() == 7
    assert coverage[7] < coverage[np.arange(20) != 7].min() - 10


def test_sets_without_neighbourhoods():
    two = ImageSet(np.zeros((2, 1, 2, 2), dtype=np.uint8))
    with pytest.raises(UserError, match="at least 3"):
        local_coverage(two)
    with pytest.raises(UserError, match="there twice"):
        local_coverage(ImageSet(np.zeros((4, 1, 2, 2), dtype=np.uint8)))


def test_the_area_is_a_share_of_pairs():
    random = np.random.default_rng(1)
    score, chosen = random.integers(0, 6, 40).astype(float), random.random(40) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in score[chosen] for b in score[~chosen]]
    found = separation(score, chosen)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.low <= found.value <= found.high
    assert separation(chosen.astype(float), chosen).value == 1
    assert math.isnan(separation(score, np.zeros(40, dtype=bool)).value)


def test_rank_correlations():
    x = np.arange(30.0)
    assert rank_correlation(x, np.exp(x / 10)).value == pytest.approx(1)
    assert rank_correlation(x, -x).value == pytest.approx(-1)
    assert math.isnan(rank_correlation(x, np.ones(30)).value)


def test_intervals_cover_what_they_should():
    """Of independent numbers the true correlation is 0: about one interval in twenty misses it."""
    random = np.random.default_rng(2)
    missed = 0
    for _ in range(30):
        found = rank_correlation(random.random(25), random.random(25))
        missed += not found.low <= 0 <= found.high
    assert missed <= 5
