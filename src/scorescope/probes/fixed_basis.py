"""What a denoiser attains that works in one fixed basis: orthonormal wavelets, with and without an oracle.

In an orthonormal basis ``e_k`` the noisy coefficients are ``c_k + σ z_k``, ``c_k = ⟨x, e_k⟩``, and a denoiser that treats
each by itself has an error that is a sum over coefficients. So its *expected* error is known exactly, without drawing noise:

- oracle shrinkage, the best factor ``c²/(c² + σ²)`` for every coefficient:  ``Σ c²σ²/(c² + σ²)``, a bound for this basis;
- oracle selection, keep or drop knowing c:  ``Σ min(c², σ²)``, at most twice the former;
- hard thresholding at T, which knows σ alone:  ``σ² Σ r(c/σ, T/σ)`` with
  ``r(μ, t) = μ² (Φ(t−μ) − Φ(−t−μ)) + Φ(μ−t) + Φ(−μ−t) + (t−μ) φ(t−μ) + (t+μ) φ(t+μ)``.

The basis is a wavelet transform of the periodic image as PyWavelets has it (``periodization``), the only one of its modes
that is an orthonormal change of basis. With filters longer than Haar's, opposite borders that differ count as an edge.

Source: Donoho & Johnstone, Biometrika 81 (1994); Kadkhodaie et al., ICLR 2024, https://arxiv.org/abs/2310.02557, section 3.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from scorescope.foundation import UserError

Array = npt.NDArray[np.float64]


class WaveletBasis:
    """An orthonormal wavelet basis of images of one size, for each channel by itself.

    Args:
        sides: (H, W).
        wavelet: name of an orthogonal wavelet that PyWavelets knows; ``haar`` has no trouble with borders.

    Attributes:
        levels: how often both sides were halved.
        coarse: coefficients of the coarsest, averaging part; they come first.

    Raises:
        UserError: a wavelet that is not known, or not orthogonal; sides that cannot be halved once.
    """

    def __init__(self, sides: tuple[int, int], wavelet: str = "haar") -> None:
        import pywt

        if wavelet not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(wavelet).orthogonal:
            raise UserError(f"{wavelet!r} is not an orthogonal wavelet of PyWavelets; haar, db2, sym4, … are")
        self.sides = sides
        self.wavelet = wavelet
        # As far down as some coefficient's filter does not reach around the image; beyond, all of them see the border.
        shortest = 2 * (pywt.Wavelet(wavelet).dec_len - 1)
        self.levels = 0
        height, width = sides
        while not (height % 2 or width % 2) and min(height, width) >= shortest:
            self.levels, height, width = self.levels + 1, height // 2, width // 2
        if not self.levels:
            raise UserError(
                f"a basis of {wavelet} needs even sides of at least {shortest} pixels, found {sides[0]}×{sides[1]}"
            )
        self.coarse = height * width

    def coefficients(self, images: npt.ArrayLike) -> Array:
        """(B, C, H, W) -> float64 (B, C, H·W), the coarsest first.

        Raises:
            UserError: images of another size.
        """
        import pywt

        values = np.asarray(images, dtype=np.float64)
        if values.ndim != 4 or values.shape[2:] != self.sides:
            raise UserError(
                f"this basis is one of images (B, C, {self.sides[0]}, {self.sides[1]}), found {values.shape}"
            )
        coarse, *details = pywt.wavedec2(values, self.wavelet, "periodization", self.levels, axes=(-2, -1))
        parts = [coarse, *(part for level in details for part in level)]
        return np.concatenate([part.reshape(*values.shape[:2], -1) for part in parts], axis=-1)


def shrinkage_error(coefficients: Array, sigma: float) -> Array:
    """Expected squared error a pixel of oracle shrinkage: (B, …) coefficients -> (B,)."""
    squared = np.square(coefficients)
    return _by_image(squared * sigma**2 / (squared + sigma**2))


def selection_error(coefficients: Array, sigma: float) -> Array:
    """Expected squared error a pixel of oracle selection: (B, …) coefficients -> (B,)."""
    return _by_image(np.minimum(np.square(coefficients), sigma**2))


def threshold_error(coefficients: Array, sigma: float, coarse: int, threshold: float | None = None) -> Array:
    """Expected squared error a pixel of hard thresholding.

    Args:
        coefficients: (B, C, H·W), the coarsest first.
        sigma: noise level, > 0.
        coarse: how many coefficients are kept whatever they are.
        threshold: T; ``σ sqrt(2 ln(H·W))`` by default, which rarely lets noise alone pass.

    Returns:
        float64 (B,).
    """
    pixels = coefficients.shape[-1]
    t = math.sqrt(2 * math.log(pixels)) if threshold is None else threshold / sigma
    mu = np.abs(coefficients) / sigma
    below, above = t - mu, t + mu
    risk = np.square(mu) * (ndtr(below) - ndtr(-above)) + ndtr(-below) + ndtr(-above)
    risk += below * _density(below) + above * _density(above)
    risk[..., :coarse] = 1.0
    return _by_image(sigma**2 * risk)


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi), dtype=np.float64)


def _by_image(values: Array) -> Array:
    return np.asarray(values.reshape(len(values), -1).mean(1), dtype=np.float64)
