"""Contours and harmonicity on images and vectors whose answers are known."""

import math

import numpy as np
import pytest
from scipy import fft

from scorescope.probes.contours import contours_of
from scorescope.probes.harmonicity import (
    against_rotations,
    concentration_of_rotations,
    harmonicity,
    random_rotation,
    strongest_wave,
)

SIDE = 24
DOWN, RIGHT = np.mgrid[:SIDE, :SIDE].astype(float)


def dct_basis(pairs):
    """Vectors of the two-dimensional cosine basis, (K, 1, SIDE, SIDE)."""
    found = []
    for u, v in pairs:
        coefficients = np.zeros((SIDE, SIDE))
        coefficients[u, v] = 1
        found.append(fft.idctn(coefficients, norm="ortho"))
    return np.array(found)[:, None]


PAIRS = [(u, v) for u in range(0, 16, 3) for v in range(1, 16, 3)]


def edge(column=12):
    """A vertical edge, one pixel wide."""
    return np.where(RIGHT[None] < column, -0.8, 0.8)


# contours


def test_a_vertical_edge_is_a_vertical_contour():
    found = contours_of(edge())
    rows, columns = np.nonzero(found.on)
    assert set(rows) == set(range(SIDE))
    assert columns.min() == 10
    assert columns.max() == 13
    assert np.abs(found.along[0][found.on]) == pytest.approx(np.ones(found.on.sum()))
    assert found.area == pytest.approx(found.on.sum() / SIDE**2)


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_contours_of_a_ramp_run_across_its_slope(degrees):
    angle = math.radians(degrees)
    ramp = 0.05 * (math.cos(angle) * DOWN + math.sin(angle) * RIGHT)[None]
    found = contours_of(ramp)
    assert found.on.all()
    assert found.strength == pytest.approx(np.full((SIDE, SIDE), 0.05))
    tangent = np.array([-math.sin(angle), math.cos(angle)])
    assert np.abs(np.einsum("chw,c->hw", found.along, tangent)) == pytest.approx(np.ones((SIDE, SIDE)))


def test_an_even_image_has_no_contours():
    assert contours_of(np.full((3, 8, 8), 0.3)).area == 0
    assert contours_of(np.random.default_rng(0).normal(size=(1, 8, 8)) * 1e-3).area == 0


def test_contours_of_several_channels_are_found_in_any_of_them():
    flat = np.zeros((1, SIDE, SIDE))
    assert (contours_of(np.concatenate([flat, edge(), flat])).on == contours_of(edge()).on).all()


# waves


def test_the_cosine_basis_is_as_harmonic_as_can_be():
    frequency, concentration = strongest_wave(dct_basis(PAIRS))
    assert concentration == pytest.approx(np.ones(len(PAIRS)))
    assert frequency == pytest.approx([math.hypot(u, v) / (2 * SIDE) for u, v in PAIRS])


@pytest.mark.parametrize("degrees", [0, 20, 45, 110])
@pytest.mark.parametrize("period", [4.0, 7.3])
@pytest.mark.parametrize("phase", [0.0, 1.0])
def test_a_wave_of_any_direction_and_phase_is_found(degrees, period, phase):
    angle = math.radians(degrees)
    along = math.cos(angle) * DOWN + math.sin(angle) * RIGHT
    frequency, concentration = strongest_wave(np.cos(2 * np.pi * along / period + phase)[None, None])
    assert concentration[0] > 0.6
    assert frequency[0] == pytest.approx(1 / period, abs=1 / SIDE)


def test_noise_is_not_harmonic():
    noise = np.random.default_rng(0).normal(size=(20, 1, SIDE, SIDE))
    assert strongest_wave(noise)[1].max() < 0.12


def test_channels_are_looked_at_together():
    wave = dct_basis([(3, 4)])[0, 0]
    frequency, concentration = strongest_wave(np.stack([wave, -2 * wave, 0 * wave])[None])
    assert concentration == pytest.approx([1])
    assert frequency == pytest.approx([5 / (2 * SIDE)])


# where, and which way


def test_a_wave_along_an_edge_is_measured_so():
    contours = contours_of(edge())
    profile = np.exp(-((RIGHT - 11.5) ** 2) / (2 * 2.0**2))
    along = harmonicity((np.cos(2 * np.pi * DOWN / 6) * profile)[None, None], contours)
    assert along.on_contours[0] > 0.5
    assert along.along[0] > 0.9
    assert along.frequency[0] == pytest.approx(1 / 6, abs=1 / SIDE)
    across = harmonicity(np.cos(2 * np.pi * RIGHT / 6)[None, None], contours)
    assert across.along[0] == pytest.approx(0)
    assert across.on_contours[0] == pytest.approx(contours.area, abs=0.03)
    away = harmonicity((np.cos(2 * np.pi * DOWN / 6) * (RIGHT > 16))[None, None], contours)
    assert away.on_contours[0] == 0
    assert math.isnan(away.along[0])


def test_the_direction_does_not_depend_on_how_the_image_lies():
    profile = np.exp(-((RIGHT - 11.5) ** 2) / 8)
    vector = (np.cos(2 * np.pi * DOWN / 6) * profile)[None, None]
    upright = harmonicity(vector, contours_of(edge()))
    lying = harmonicity(vector.transpose(0, 1, 3, 2), contours_of(edge().transpose(0, 2, 1)))
    for name in ("frequency", "concentration", "on_contours", "along"):
        assert getattr(lying, name) == pytest.approx(getattr(upright, name))


# against random rotations


def test_the_cosine_basis_stands_out_of_its_rotations():
    vectors = dct_basis(PAIRS)
    found = against_rotations(vectors, contours_of(edge()), np.random.default_rng(0), rotations=20)
    one = found["concentration"]
    assert one.value == pytest.approx(1)
    assert one.control_interval[1] < 0.3
    assert one.ratio > 3.5
    low, high = concentration_of_rotations(vectors, np.random.default_rng(0), rotations=20)
    assert 0 < low < one.control_mean < high < 0.5


def test_a_random_rotation_does_not_stand_out():
    rng = np.random.default_rng(1)
    vectors = dct_basis(PAIRS).reshape(len(PAIRS), -1)
    rotated = (random_rotation(len(PAIRS), rng) @ vectors).reshape(-1, 1, SIDE, SIDE)
    found = against_rotations(rotated, contours_of(edge()), rng, rotations=200)
    for one in found.values():
        low, high = np.quantile(one.control, [0.001, 0.999])
        assert low * 0.9 < one.value < high * 1.1


def test_rotations_keep_the_mean_share_on_contours_and_its_spread_tells():
    contours = contours_of(edge())
    on, off = np.zeros((2, 30, SIDE * SIDE))
    rng = np.random.default_rng(0)
    on[:, contours.on.ravel()] = rng.normal(size=(30, contours.on.sum()))
    off[:, ~contours.on.ravel()] = rng.normal(size=(30, (~contours.on).sum()))
    vectors = np.linalg.qr(np.concatenate([on, off]).T)[0].T.reshape(-1, 1, SIDE, SIDE)
    own = harmonicity(vectors, contours)
    mixed = harmonicity((random_rotation(60, rng) @ vectors.reshape(60, -1)).reshape(vectors.shape), contours)
    assert own.on_contours.mean() == pytest.approx(mixed.on_contours.mean())
    assert own.summary()["specialization"] == pytest.approx(0.5)
    assert against_rotations(vectors, contours, rng, rotations=20)["specialization"].ratio > 5


def test_rotations_are_orthogonal_and_uniform():
    rng = np.random.default_rng(0)
    one = random_rotation(7, rng)
    assert one @ one.T == pytest.approx(np.eye(7))
    corners = np.array([random_rotation(3, rng)[0, 0] for _ in range(4000)])
    assert corners.mean() == pytest.approx(0, abs=0.05)
    assert (corners**2).mean() == pytest.approx(1 / 3, abs=0.03)


def test_what_cannot_be_measured():
    contours = contours_of(edge())
    with pytest.raises(ValueError, match="different shapes"):
        harmonicity(np.ones((1, 1, 8, 8)), contours)
    with pytest.raises(ValueError, match="vector of zeros"):
        harmonicity(np.zeros((1, 1, SIDE, SIDE)), contours)
    with pytest.raises(ValueError, match="vectors are images"):
        strongest_wave(np.ones((4, 8, 8)))
    with pytest.raises(ValueError, match="one image"):
        contours_of(np.ones((8, 8)))
