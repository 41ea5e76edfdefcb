"""Measurements on C^α images (figures 4 and 16 to 18): PSNR slopes of networks, fixed bases beside them, and eigenvectors.

A *case* is one class of images, by the exponents of its contour and of its two backgrounds. Its optimal slope is that of
the less regular of the two, ``α / (α + 1)`` with ``α = min(contour, background)``: the part that decays more slowly is what
is left of the error in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pydantic
import torch

from scorescope.data import DataSplit, load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses.subject import chosen
from scorescope.papers.kadkhodaie2024.bases import as_pictures, basis_at
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, trained_on
from scorescope.papers.kadkhodaie2024.psnr_levels import FittedLevels
from scorescope.probes.errors import denoising_psnr, forward_inputs
from scorescope.probes.fixed_basis import WaveletBasis, shrinkage_error, threshold_error
from scorescope.probes.slopes import Slope, fit_slope, optimal_slope
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
TRAINED_ENOUGH, IMAGES_ENOUGH, SIDE_ENOUGH = 2000, 50, 32


class CAlphaConfig(FittedLevels):
    """Settings of the C^α studies; see `FittedLevels` as well.

    Attributes:
        contours: exponent of the contour, one a case.
        backgrounds: exponent of the two backgrounds, one a case; as `contours` by default.
        size: side in pixels.
        images: training images a case.
        network: what is trained on each case.
        test_images: images that PSNRs are averaged over, drawn apart from the training images.
        wavelets: orthogonal wavelets; the one whose oracle is best over the fit range stands for fixed bases.
        eigen_sigma: noise level at which Jacobians are decomposed.
        eigen_images: images that eigenvalues are averaged over; eigenvectors are those of the first.
        shown: which eigenvectors are shown, counted from 1.
        seed: of noise, choices and resampling.
    """

    contours: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    backgrounds: tuple[float, ...] = ()
    size: int = pydantic.Field(40, ge=8)
    images: int = pydantic.Field(10_000, ge=1)
    network: NetworkSettings = NetworkSettings()
    test_images: int = pydantic.Field(200, ge=2)
    psnr_range: tuple[float, float] = (5.0, 35.0)
    fit_range: tuple[float, float] = (10.0, 30.0)
    wavelets: tuple[str, ...] = pydantic.Field(("haar", "db2"), min_length=1)
    eigen_sigma: float = pydantic.Field(0.2, gt=0)
    eigen_images: int = pydantic.Field(3, ge=1)
    shown: tuple[pydantic.PositiveInt, ...] = (1, 2, 3, 5, 9, 17, 33)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        if not self.contours or (self.backgrounds and len(self.backgrounds) != len(self.contours)):
            raise ValueError(
                f"there must be as many backgrounds as contours, or none: found {len(self.backgrounds)} for"
                f" {len(self.contours)}"
            )
        if len(set(self.cases)) < len(self.cases):
            raise ValueError("two cases have the same contour and background")
        if max(self.shown) > self.size**2:
            raise ValueError(
                f"images of {self.size} pixels have {self.size**2} eigenvectors, {max(self.shown)} asked for"
            )
        return self

    @property
    def cases(self) -> list[Case]:
        """The classes of images."""
        return [Case(*pair) for pair in zip(self.contours, self.backgrounds or self.contours, strict=True)]

    @property
    def too_small(self) -> str:
        """Why these settings decide nothing; empty if they do."""
        if self.network.training.steps < TRAINED_ENOUGH:
            return (
                f"networks trained for {self.network.training.steps} steps, {TRAINED_ENOUGH} are the least to judge by"
            )
        if self.test_images < IMAGES_ENOUGH or self.size < SIDE_ENOUGH:
            return f"it takes {IMAGES_ENOUGH} images of {SIDE_ENOUGH}×{SIDE_ENOUGH} pixels to tell"
        return ""


@dataclass(frozen=True)
class Case:
    """One class of C^α images.

    Attributes:
        contour: exponent of the contour.
        background: exponent of the two backgrounds.
    """

    contour: float
    background: float

    @property
    def mixed(self) -> bool:
        """Whether contour and backgrounds differ in regularity."""
        return self.contour != self.background

    @property
    def label(self) -> str:
        """What charts call it."""
        return f"contour {self.contour:g}, sides {self.background:g}" if self.mixed else f"α = {self.contour:g}"

    @property
    def optimal(self) -> float:
        """The slope that no denoiser exceeds as σ → 0."""
        return optimal_slope(min(self.contour, self.background))

    def load(self, config: CAlphaConfig) -> DataSplit:
        """Its training images, and its test images."""
        return load_images(
            "c-alpha",
            alpha=self.contour,
            background=self.background if self.mixed else None,
            size=config.size,
            n=config.images,
            test_n=max(config.test_images, config.eigen_images),
        )


@dataclass(frozen=True)
class MeasuredCase:
    """What was measured on one case; PSNRs are (S, B) dB at `CAlphaConfig.input_psnr`.

    Attributes:
        case: which.
        network: output PSNR of the network.
        wavelet: the wavelet whose oracle is best over the fit range.
        oracle: what oracle shrinkage in it attains.
        threshold: what thresholding in it attains.
        slope: of the network.
        oracle_slope: of oracle shrinkage.
        threshold_slope: of thresholding.
        eigenvalues: (E, d) decreasing, one row an image.
        asymmetry: (E,).
        pictures: (3 + K, C, H, W): clean, noisy, denoised, and the eigenvectors that are shown.
    """

    case: Case
    network: Floats
    wavelet: str
    oracle: Floats
    threshold: Floats
    slope: Slope
    oracle_slope: Slope
    threshold_slope: Slope
    eigenvalues: Floats
    asymmetry: Floats
    pictures: npt.NDArray[np.floating]

    def gain(self, over: Floats, input_psnr: Floats, fit_range: Sequence[float]) -> float:
        """Mean PSNR of the network minus that of another denoiser over the fit range, dB."""
        within = (input_psnr >= fit_range[0]) & (input_psnr <= fit_range[1])
        return float((self.network - over)[within].mean())


def measure_cases(config: CAlphaConfig, workspace: Workspace) -> list[MeasuredCase]:
    """Train a network on every case, and measure all of them; what is finished is not done again."""
    for wavelet in config.wavelets:  # a size that it does not fit is found out before the training
        WaveletBasis((config.size, config.size), wavelet)
    splits = {case.label: case.load(config) for case in config.cases}
    networks = trained_on({label: split.train for label, split in splits.items()}, config.network, workspace)
    return [_measured(case, splits[case.label], networks[case.label], config, workspace) for case in config.cases]


def _measured(
    case: Case, images: DataSplit, network: NetworkDenoiser, config: CAlphaConfig, workspace: Workspace
) -> MeasuredCase:
    key = f"{case.contour:g} {case.background:g}"
    curves = workspace.computed(f"{key}/psnr", lambda: _curves(images, network, config, workspace))
    basis = workspace.computed(f"{key}/basis", lambda: _basis(images, network, config, workspace))

    def slope(name: str) -> Slope:
        generator = torch.Generator().manual_seed(config.seed)
        return fit_slope(config.input_psnr, curves[name], *config.fit_range, generator)

    return MeasuredCase(
        case=case,
        slope=slope("network"),
        oracle_slope=slope("oracle"),
        threshold_slope=slope("threshold"),
        **curves,
        **basis,
    )


def _curves(images: DataSplit, network: NetworkDenoiser, config: CAlphaConfig, workspace: Workspace) -> dict[str, Any]:
    """PSNR of the network and of what the best of the wavelets attains, on the same test images."""
    assert images.test is not None
    clean = chosen(images.test, config.test_images, config.seed)
    within = (config.input_psnr >= config.fit_range[0]) & (config.input_psnr <= config.fit_range[1])
    found: dict[str, tuple[Floats, Floats]] = {}
    for name in config.wavelets:
        basis = WaveletBasis((config.size, config.size), name)
        coefficients = basis.coefficients(clean.numpy())
        oracle = [shrinkage_error(coefficients, sigma) for sigma in config.sigmas]
        threshold = [threshold_error(coefficients, sigma, basis.coarse) for sigma in config.sigmas]
        found[name] = (_psnr(oracle), _psnr(threshold))
    best = max(found, key=lambda name: float(found[name][0][within].mean()))
    return {
        "network": denoising_psnr(network, clean.to(workspace.device), config.sigmas, config.seed),
        "wavelet": best,
        "oracle": found[best][0],
        "threshold": found[best][1],
    }


def _basis(images: DataSplit, network: NetworkDenoiser, config: CAlphaConfig, workspace: Workspace) -> dict[str, Any]:
    """Eigenvalues at a few noisy test images, and eigenvectors at the first of them."""
    assert images.test is not None
    clean = chosen(images.test, config.eigen_images, config.seed + 1)
    (noisy,) = forward_inputs(clean, [config.eigen_sigma], config.seed)
    bases = [basis_at(network, image.to(workspace.device), config.eigen_sigma) for image in noisy]
    first = bases[0]
    eigenvectors = as_pictures(first.vectors[:, [k - 1 for k in config.shown]], network.image_shape)
    shown = torch.stack([clean[0], noisy[0], first.denoised.cpu()]).numpy()
    return {
        "eigenvalues": np.stack([basis.values.cpu().numpy() for basis in bases]),
        "asymmetry": np.array([basis.asymmetry for basis in bases]),
        "pictures": np.concatenate([shown, eigenvectors]),
    }


def _psnr(errors: Sequence[Floats]) -> Floats:
    return np.asarray(10 * np.log10(4 / np.stack(errors)), dtype=np.float64)
