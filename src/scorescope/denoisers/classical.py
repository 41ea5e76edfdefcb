"""Denoisers from before networks, at every noise level of a diffusion model, including where they fail.

Both know nothing of the training images. *Wavelet shrinkage* is adaptive shrinkage in a fixed basis: every coefficient of a
subband with standard deviation ``sd`` moves towards zero by ``σ²/sd`` (BayesShrink), a coefficient below that is gone.
*BM3D* finds blocks of the image that resemble each other and shrinks stacks of them together.
"""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage.restoration import denoise_wavelet
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser
from scorescope.denoisers.registry import training_free
from scorescope.foundation import UserError

Floats = npt.NDArray[np.float64]

# BM3D compares blocks of 8×8 pixels; its package crashes on images of little more than one block.
SMALLEST = 16


class _OneByOne(Denoiser):
    """A denoiser of single images, made for the shape of the training images."""

    differentiable = False

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images.image_shape)

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        arrays = noisy.detach().cpu().double().numpy()
        denoised = [self.estimate(image, level) for image, level in zip(arrays, sigma.tolist(), strict=True)]
        return torch.from_numpy(np.stack(denoised)).to(noisy.device, noisy.dtype)

    @abstractmethod
    def estimate(self, noisy: Floats, sigma: float) -> Floats:
        """One image, float64 (C, H, W), in units of [-1, 1]."""


@training_free(
    "wavelet",
    explanation="shrinkage in a fixed basis (wavelets)",
    source="Chang, Yu & Vetterli, IEEE Transactions on Image Processing 9 (2000)",
    needs="nothing",
)
class WaveletDenoiser(_OneByOne):
    """Soft thresholding of wavelet coefficients, a threshold for each subband from its variance and the noise's.

    Args:
        images: only their shape is used.
        wavelet: name of an orthogonal wavelet that PyWavelets knows.

    Raises:
        UserError: a wavelet that is not known, or not orthogonal.
    """

    def __init__(self, images: ImageSet, wavelet: str = "db2") -> None:
        super().__init__(images)
        import pywt

        if wavelet not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(wavelet).orthogonal:
            raise UserError(f"{wavelet!r} is not an orthogonal wavelet of PyWavelets; db1 (Haar), db2, sym4, … are")
        self.wavelet = wavelet

    def estimate(self, noisy: Floats, sigma: float) -> Floats:
        """See `_OneByOne.estimate`."""
        denoised: Floats = denoise_wavelet(
            noisy,
            sigma=sigma,
            wavelet=self.wavelet,
            mode="soft",
            method="BayesShrink",
            channel_axis=0,
            rescale_sigma=False,
        )
        return denoised


@training_free(
    "bm3d",
    explanation="self-similar blocks (BM3D)",
    source="Dabov et al., IEEE Transactions on Image Processing 16 (2007); Mäkinen, Azzari & Foi (2020)",
    needs="the package bm3d",
    costly=True,
)
class BM3DDenoiser(_OneByOne):
    """Block matching and collaborative filtering, by the authors' package ``bm3d``.

    Args:
        images: only their shape is used: one channel, or three (then luminance guides the matching).

    Raises:
        UserError: the package is not installed; images smaller than 16×16, or of two channels.
    """

    def __init__(self, images: ImageSet) -> None:
        super().__init__(images)
        if importlib.util.find_spec("bm3d") is None:
            raise UserError(
                "bm3d is not installed: pip install 'scorescope[bm3d]' (its licence allows non-commercial use only)"
            )
        channels, height, width = images.image_shape
        if channels not in (1, 3) or min(height, width) < SMALLEST:
            raise UserError(
                f"bm3d takes images of 1 or 3 channels and at least {SMALLEST}×{SMALLEST} pixels, found {images.image_shape}"
            )

    def estimate(self, noisy: Floats, sigma: float) -> Floats:
        """See `_OneByOne.estimate`."""
        import bm3d

        # Its settings are made for intensities in [0, 1].
        unit, spread = (noisy + 1) / 2, sigma / 2
        denoised: Any
        if len(noisy) == 1:
            denoised = bm3d.bm3d(unit[0], spread)[None]
        else:
            denoised = np.moveaxis(bm3d.bm3d_rgb(np.moveaxis(unit, 0, -1), spread), -1, 0)
        return 2 * np.asarray(denoised, dtype=np.float64) - 1
