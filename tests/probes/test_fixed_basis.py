"""Wavelet bases: orthonormal, and expected errors against drawn noise."""

from __future__ import annotations

import numpy as np
import pytest

from scorescope.foundation import UserError
from scorescope.probes.fixed_basis import WaveletBasis, selection_error, shrinkage_error, threshold_error


@pytest.mark.parametrize(
    ("sides", "wavelet", "levels"),
    [((16, 16), "haar", 4), ((40, 20), "db2", 2), ((28, 28), "sym4", 2), ((12, 40), "db3", 1)],
)
def test_the_basis_is_orthonormal_and_complete(sides: tuple[int, int], wavelet: str, levels: int) -> None:
    basis = WaveletBasis(sides, wavelet)
    pixels = sides[0] * sides[1]
    matrix = basis.coefficients(np.eye(pixels).reshape(pixels, 1, *sides))[:, 0]
    assert np.abs(matrix.T @ matrix - np.eye(pixels)).max() < 1e-10
    assert basis.levels == levels
    constant = basis.coefficients(np.ones((1, 2, *sides)))
    assert np.abs(constant[..., basis.coarse :]).max() < 1e-10, "averages are in the coarse part, which comes first"
    assert np.abs(constant[..., : basis.coarse]).min() > 0.1


def test_haar_coefficients_are_block_means_and_differences() -> None:
    image = np.arange(4.0).reshape(1, 1, 2, 2)
    found = WaveletBasis((2, 2)).coefficients(image)[0, 0]
    assert found[0] == pytest.approx(3.0)  # the sum over 2
    assert np.sort(np.abs(found[1:])) == pytest.approx([0, 1, 2])


def test_expected_errors_are_those_of_drawn_noise() -> None:
    rng = np.random.default_rng(0)
    c = rng.standard_normal((2, 1, 16)) * np.geomspace(0.02, 3, 16)
    sigma, threshold, coarse = 0.4, 0.7, 2
    z = c + sigma * rng.standard_normal((200_000, 2, 1, 16))

    def error(estimate: np.ndarray) -> np.ndarray:
        return ((estimate - c) ** 2).mean((0, 2, 3))

    assert shrinkage_error(c, sigma) == pytest.approx(error(z * (c**2 / (c**2 + sigma**2))), rel=0.01)
    assert selection_error(c, sigma) == pytest.approx(error(np.where(np.abs(c) > sigma, z, 0)), rel=0.01)
    kept = np.abs(z) > threshold
    kept[..., :coarse] = True
    assert threshold_error(c, sigma, coarse, threshold) == pytest.approx(error(np.where(kept, z, 0)), rel=0.01)
    universal = np.where(np.abs(z) > sigma * np.sqrt(2 * np.log(16)), z, 0)
    assert threshold_error(c, sigma, 0) == pytest.approx(error(universal), rel=0.01)


def test_shrinkage_is_the_best_of_the_three_and_within_twice_of_selection() -> None:
    rng = np.random.default_rng(1)
    basis = WaveletBasis((16, 16), "db2")
    c = basis.coefficients(rng.standard_normal((5, 3, 16, 16)).cumsum(2).cumsum(3) / 16)
    for sigma in (0.01, 0.1, 1.0):
        shrunk, selected = shrinkage_error(c, sigma), selection_error(c, sigma)
        assert (shrunk <= selected).all()
        assert (selected <= 2 * shrunk).all()
        assert (shrunk <= threshold_error(c, sigma, basis.coarse)).all()
        assert (shrunk <= sigma**2).all()


def test_a_step_costs_wavelets_half_a_decibel_a_decibel() -> None:
    # The M-term error of an edge in wavelets falls as 1/M, whatever its regularity: slope 1/2.
    side = 512
    place = np.arange(side) + 0.5
    disk = np.hypot(place[:, None] - 250.3, place[None] - 261.7) < 150
    c = WaveletBasis((side, side)).coefficients(disk[None, None] * 1.0)
    sigmas = np.array([1.5, 12.0])  # coefficients at a scale of s pixels are of order s, so noise must exceed a pixel's
    psnr = [-10 * np.log10(shrinkage_error(c, s)[0]) for s in sigmas]
    assert (psnr[0] - psnr[1]) / (20 * np.log10(sigmas[1] / sigmas[0])) == pytest.approx(0.5, abs=0.06)


def test_wavelets_that_make_no_orthonormal_basis_are_refused() -> None:
    with pytest.raises(UserError, match=r"bior2\.2.*haar"):
        WaveletBasis((16, 16), "bior2.2")
    with pytest.raises(UserError, match="nonsense"):
        WaveletBasis((16, 16), "nonsense")
    with pytest.raises(UserError, match="even sides of at least 2.*15×16"):
        WaveletBasis((15, 16))
    with pytest.raises(UserError, match=r"\(B, C, 16, 16\)"):
        WaveletBasis((16, 16)).coefficients(np.zeros((1, 1, 8, 8)))
