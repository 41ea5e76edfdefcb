"""Measures of sample quality against float64 computation from their definitions, and sets whose answer is known."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from scorescope.foundation import UserError
from scorescope.probes.features import PixelFeatures, vectors_of
from scorescope.probes.features_classes import FeatureClasses
from scorescope.probes.quality import (
    frechet_distance,
    inception_score,
    kernel_distance,
    measure_quality,
    neighbourhoods,
)


def normal(count, size, seed, shift=0.0, scale=1.0):
    draws = np.random.default_rng(seed).normal(size=(count, size))
    return (shift + scale * draws).astype(np.float32)


REAL, MADE = normal(150, 6, 0), normal(120, 6, 1, shift=0.4, scale=0.8)


def test_frechet_distance_against_its_definition():
    a, b = REAL.astype(np.float64), MADE.astype(np.float64)
    first, second = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(first @ second).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first + second - 2 * root)
    assert frechet_distance(REAL, MADE) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_does_not_depend_on_the_pieces(monkeypatch):
    whole = frechet_distance(REAL, MADE)
    monkeypatch.setattr("scorescope.probes.quality.PIECE", 7)
    assert frechet_distance(REAL, MADE) == pytest.approx(whole, rel=1e-10)


def unbiased_mmd(a, b):
    """The definition, one pair after the other."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    same = sum(kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / (len(a) * (len(a) - 1))
    made = sum(kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / (len(b) * (len(b) - 1))
    return same + made - 2 * sum(kernel(x, y) for x in a for y in b) / len(a) / len(b)


def test_kernel_distance_of_whole_sets_is_its_definition():
    a, b = REAL[:40], MADE[:40]
    found, deviation = kernel_distance(a, b)
    assert found == pytest.approx(unbiased_mmd(a.astype(np.float64), b.astype(np.float64)), rel=1e-9)
    assert math.isnan(deviation)


def test_kernel_distance_of_subsets_surrounds_that_of_the_whole():
    a, b = normal(400, 5, 2), normal(400, 5, 3, shift=0.3)
    whole, _ = kernel_distance(a, b)
    mean, deviation = kernel_distance(a, b, subsets=60, subset_size=100)
    assert deviation > 0
    assert mean == pytest.approx(whole, abs=4 * deviation / math.sqrt(60))
    assert kernel_distance(a, b, seed=3, subsets=5, subset_size=50) == kernel_distance(
        a, b, seed=3, subsets=5, subset_size=50
    )


def test_inception_score_against_its_definition():
    logits = np.random.default_rng(0).normal(size=(100, 4)) * 2
    found, deviation = inception_score(logits, seed=5, splits=1)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = math.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    assert found == pytest.approx(expected, rel=1e-9)
    assert math.isnan(deviation)


def test_inception_score_of_known_sets():
    certain = np.where(np.eye(5)[np.arange(100) % 5] > 0, 0.0, -60.0)
    assert 4 < inception_score(certain)[0] <= 5  # parts of 10 images do not have all classes equally often
    assert inception_score(certain, splits=1)[0] == pytest.approx(5)
    assert inception_score(np.zeros((100, 5)))[0] == pytest.approx(1)


def by_definition(real, made, k, density_k):
    """Precision, recall, density, coverage with loops over pairs."""
    real, made = real.astype(np.float64), made.astype(np.float64)

    def radius(points, k):
        return [sorted(np.linalg.norm(points - x, axis=1))[k] for x in points]  # place 0 is the point itself

    near, made_near, wide = radius(real, k), radius(made, k), radius(real, density_k)
    precision = np.mean([any(np.linalg.norm(f - r) <= rad for r, rad in zip(real, near, strict=True)) for f in made])
    recall = np.mean([any(np.linalg.norm(f - r) <= rad for f, rad in zip(made, made_near, strict=True)) for r in real])
    held = [[np.linalg.norm(f - r) <= rad for r, rad in zip(real, wide, strict=True)] for f in made]
    return precision, recall, np.sum(held) / density_k / len(made), np.mean(np.any(held, axis=0))


@pytest.mark.parametrize(("k", "density_k"), [(1, 1), (3, 5), (5, 3)])
@pytest.mark.parametrize("at_once", [16, 64, 1000])
def test_neighbourhoods_against_their_definition(k, density_k, at_once):
    real, made = REAL[:60], MADE[:50]
    found = neighbourhoods(real, made, k, density_k, at_once=at_once)
    expected = by_definition(real, made, k, density_k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, abs=1e-12)
    assert 0 < found.precision <= 1
    assert 0 < found.coverage < 1


def test_the_same_set_is_perfect():
    found = measure_quality(REAL, REAL.copy())
    assert found.frechet == pytest.approx(0, abs=1e-6)
    assert found.kernel <= 0  # unbiased: the pairs of equal vectors are in one term alone
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx(6 / 5)  # k neighbours and the vector itself, over k


def test_draws_of_one_distribution_are_nearly_perfect():
    found = measure_quality(normal(600, 3, 5), normal(600, 3, 6))
    assert found.frechet < 0.1
    assert abs(found.kernel) < 0.05
    assert min(found.precision, found.recall, found.coverage) > 0.85
    assert found.density == pytest.approx(1, abs=0.15)


def test_sets_without_a_common_place():
    found = measure_quality(REAL, MADE + 100)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)
    assert found.frechet > 6 * 99**2
    assert found.kernel > 1


def test_copies_of_one_image_are_precise_and_cover_nothing():
    found = neighbourhoods(REAL, np.repeat(REAL[:1], 40, axis=0))
    assert found.precision == 1
    assert found.recall == pytest.approx(1 / len(REAL))  # balls of radius 0 still hold their own centre
    assert found.coverage < 0.2


def test_far_from_the_origin_distances_stay_exact():
    moved = neighbourhoods(REAL[:60].astype(np.float64) + 1e4, MADE[:50].astype(np.float64) + 1e4)
    assert moved == neighbourhoods(REAL[:60], MADE[:50])


def test_more_of_one_kind_of_digit_is_less_recall(digits):
    vectors = vectors_of(PixelFeatures(), digits)
    labels = digits.own_labels()
    real = vectors[::2]
    everything, threes = vectors[1::2], vectors[1::2][labels[1::2] == 3]
    good, narrow = neighbourhoods(real, everything), neighbourhoods(real, threes)
    assert min(good.precision, good.recall, good.coverage) > 0.8
    assert narrow.precision > 0.8
    assert narrow.recall < 0.4
    assert narrow.coverage < 0.4
    assert frechet_distance(real, threes) > 5 * frechet_distance(real, everything)


def test_classes_of_digits(digits):
    vectors, labels = vectors_of(PixelFeatures(), digits), digits.own_labels()
    classes = FeatureClasses(vectors[:900], labels[:900])
    assert classes.accuracy(vectors[900:], labels[900:]) > 0.85
    probabilities = np.exp(classes.log_probabilities(vectors[900:]))
    assert probabilities.sum(1) == pytest.approx(np.ones(len(vectors) - 900))
    score, _ = inception_score(classes.log_probabilities(vectors[900:]))
    blurred, _ = inception_score(classes.log_probabilities(vectors[900:] * 0.2))
    assert 1 < blurred < score < 10
    with pytest.raises(UserError, match="at least two classes"):
        FeatureClasses(vectors[:5], np.zeros(5, dtype=int))


def test_measuring_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    measure_quality(REAL, MADE)
    inception_score(np.zeros((30, 3)))
    assert torch.equal(before, torch.get_rng_state())


def test_too_few_images_have_no_neighbourhoods():
    found = measure_quality(REAL[:4], MADE[:4])
    assert math.isnan(found.coverage)
    assert math.isfinite(found.frechet)


@pytest.mark.parametrize(
    ("real", "made", "said"),
    [
        (REAL, MADE[:, :3], "one feature space"),
        (REAL, MADE[:1], "sets of images"),
        (REAL, MADE * np.nan, "finite"),
    ],
)
def test_sets_that_cannot_be_compared(real, made, said):
    with pytest.raises(UserError, match=said):
        measure_quality(real, made)
