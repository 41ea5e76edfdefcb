"""Networks on images from a known manifold (figures 5, 19 and 20): do they find its tangent space, and what else do they keep?

The optimal denoiser of a k-dimensional manifold keeps k directions as σ → 0 and has an error of ``k σ² / d`` a pixel. The
generators are differentiable, so the tangent space at any image is known exactly; the network's directions are the
eigenvectors of its Jacobian at the noisy image. What is measured: principal angles between the leading k and the tangent
space; how much of the tangent space the leading m hold; how the eigenvectors after them oscillate; and the error in
coordinates, ``d · MSE / σ²``, which would be k.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from scipy.stats import spearmanr
from torch import Tensor

from scorescope.data import generated
from scorescope.data.builtin import ray_image
from scorescope.data.images import ImageSet, to_uint8
from scorescope.denoisers import NetworkDenoiser
from scorescope.noise import add_noise
from scorescope.papers.kadkhodaie2024.bases import Basis, as_pictures, basis_at
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, trained_on
from scorescope.papers.kadkhodaie2024.psnr_levels import FittedLevels, sigma_of
from scorescope.probes.errors import denoising_psnr
from scorescope.probes.harmonicity import random_rotation, strongest_wave
from scorescope.probes.slopes import Slope, fit_slope
from scorescope.probes.tangents import captured_share, principal_angles, tangent_space
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
TRAINED_ENOUGH, SIDE_ENOUGH = 2000, 20
BLACK = -1.0
ROTATIONS = 20
VISIBLE_CONTRAST = 0.3


@dataclass(frozen=True)
class Manifold:
    """Images that are a smooth function of a few parameters.

    Attributes:
        name: for captions, in the plural ("disks").
        parameters: what they are called.
        draw: (count, generator) -> parameters (count, k).
        render: parameters (B, k) -> images (B, 1, H, W) in [-1, 1], differentiable.
        visible: parameters (B, k) -> bool (B,): where the image is more than a constant, so that directions can be told.
    """

    name: str
    parameters: tuple[str, ...]
    draw: Callable[[int, torch.Generator], Tensor]
    render: Callable[[Tensor], Tensor]
    visible: Callable[[Tensor], Tensor]

    @property
    def dimension(self) -> int:
        """k."""
        return len(self.parameters)

    def training_images(self, count: int, seed: int) -> ImageSet:
        """Images to train on, in 8 bits."""
        generator = torch.Generator().manual_seed(2 * seed)
        blocks = [to_uint8(self.render(part)) for part in torch.split(self.draw(count, generator), 500)]
        return ImageSet(np.concatenate(blocks), name=f"{self.name}")

    def test_points(self, count: int, seed: int) -> Tensor:
        """Parameters of images to measure on, (count, k), all of them visible."""
        generator = torch.Generator().manual_seed(2 * seed + 1)
        drawn = self.draw(20 * count + 100, generator)
        return drawn[self.visible(drawn)][:count]


def disks(size: int) -> Manifold:
    """Disks of any centre, radius and two intensities."""
    return Manifold(
        "disks",
        generated.DISK_PARAMETERS,
        lambda count, generator: generated.draw_disk_parameters(count, size, generator),
        lambda parameters: generated.render_disks(parameters, size),
        lambda parameters: (parameters[:, 3] - parameters[:, 4]).abs() >= VISIBLE_CONTRAST,
    )


def ray(size: int) -> Manifold:
    """One photograph times a factor, from black on, where a network without biases has its origin."""
    image = ray_image(size)
    return Manifold(
        "rescaled images",
        ("scale",),
        generated.draw_ray_parameters,
        lambda parameters: generated.render_ray(parameters, image.to(parameters.dtype), BLACK),
        lambda parameters: parameters[:, 0] >= VISIBLE_CONTRAST,
    )


def sinusoids(size: int, frequency: tuple[float, float] = (2.0, 3.0)) -> Manifold:
    """Sinusoids of one frequency, any phase and amplitude, from black on: a cone."""
    return Manifold(
        "sinusoids",
        generated.SINUSOID_PARAMETERS,
        generated.draw_sinusoid_parameters,
        lambda parameters: generated.render_sinusoids(parameters, size, frequency, BLACK),
        lambda parameters: parameters[:, 0] >= VISIBLE_CONTRAST,
    )


class ManifoldConfig(FittedLevels):
    """Settings of the manifold studies; see `FittedLevels` as well.

    Attributes:
        size: side in pixels.
        images: training images.
        network: what is trained.
        test_images: images that PSNRs are averaged over.
        tangent_psnr: input PSNRs at which Jacobians are decomposed, increasing, dB.
        tangent_images: images at which they are.
        most: how many leading eigenvectors are asked for the tangent space, at most.
        followers: eigenvectors after the first k whose oscillation is measured.
        shown: eigenvectors that are shown, counted from 1.
        seed: of images, noise and resampling.
    """

    size: int = pydantic.Field(32, ge=8)
    images: int = pydantic.Field(10_000, ge=1)
    network: NetworkSettings = NetworkSettings()
    test_images: int = pydantic.Field(200, ge=2)
    psnr_range: tuple[float, float] = (5.0, 45.0)
    fit_range: tuple[float, float] = (15.0, 40.0)
    tangent_psnr: tuple[float, ...] = pydantic.Field((10.0, 20.0, 30.0), min_length=1)
    tangent_images: int = pydantic.Field(4, ge=1)
    most: int = pydantic.Field(40, ge=1)
    followers: int = pydantic.Field(24, ge=4)
    shown: tuple[pydantic.PositiveInt, ...] = (1, 2, 3, 4, 5, 6, 8, 12, 24)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        if list(self.tangent_psnr) != sorted(set(self.tangent_psnr)):
            raise ValueError(f"tangent_psnr must increase: found {self.tangent_psnr}")
        if max(self.most, self.followers + 8, *self.shown) > self.size**2:
            raise ValueError(f"images of {self.size} pixels have {self.size**2} eigenvectors; ask for fewer")
        return self

    @property
    def too_small(self) -> str:
        """Why these settings decide nothing; empty if they do."""
        if self.network.training.steps < TRAINED_ENOUGH:
            return (
                f"a network trained for {self.network.training.steps} steps, {TRAINED_ENOUGH} are the least to judge by"
            )
        if self.size < SIDE_ENOUGH:
            return f"it takes images of {SIDE_ENOUGH}×{SIDE_ENOUGH} pixels to tell"
        return ""


@dataclass(frozen=True)
class MeasuredManifold:
    """What was measured; S levels and B images of the curves, L levels and E images of the bases, d pixels.

    Attributes:
        psnr: output PSNR, (S, B) dB.
        slope: of `psnr` over the range of the fit.
        eigenvalues: (L, E, d), decreasing.
        angles: principal angles between the leading k eigenvectors and the tangent space, (L, E, k) radians, increasing.
        captured: share of the tangent space that the leading 1, 2, … hold, (L, E, most).
        captured_elsewhere: the same for the tangent space at another image of the manifold.
        frequencies: of the strongest wave in the leading k + followers eigenvectors, (L, E, k + followers), periods a pixel.
        concentration: share of the followers' energy in the strongest wave of each, mean over them, (L, E).
        rotated: the same for random rotations of the space that the followers span.
        asymmetry: (L, E).
        tangents: clean image, and the derivatives by each parameter, as pictures, (1 + k, C, H, W).
        eigenvectors: at the first image: noisy, denoised, eigenvectors that are shown, (L, 2 + K, C, H, W).
    """

    psnr: Floats
    slope: Slope
    eigenvalues: Floats
    angles: Floats
    captured: Floats
    captured_elsewhere: Floats
    frequencies: Floats
    concentration: Floats
    rotated: Floats
    asymmetry: Floats
    tangents: npt.NDArray[np.floating]
    eigenvectors: npt.NDArray[np.floating]

    @property
    def dimension(self) -> int:
        """k."""
        return int(self.angles.shape[-1])

    @property
    def pixels(self) -> int:
        """d."""
        return int(self.eigenvalues.shape[-1])

    @property
    def bound(self) -> str:
        """The optimal denoiser's squared error an image at low noise, in words."""
        return "σ²" if self.dimension == 1 else f"{self.dimension}σ²"

    def match(self) -> Floats:
        """Mean squared cosine of the principal angles, (L, E): share of the tangent space in the leading k."""
        return np.asarray(np.square(np.cos(self.angles)).mean(-1), dtype=np.float64)

    def oscillation(self) -> Floats:
        """Rank correlation of rank and frequency over the eigenvectors after the first k, (L, E)."""
        after = self.frequencies[..., self.dimension :]
        ranks = np.arange(after.shape[-1])
        found = [[float(spearmanr(ranks, row).statistic) for row in level] for level in after]
        return np.array(found)

    def harmonic(self) -> Floats:
        """How much more of a wave the eigenvectors after the first k are than rotations of them, a ratio, (L, E)."""
        return self.concentration / self.rotated

    def error_dimension(self, input_psnr: Floats) -> Floats:
        """``d · MSE / σ²`` of every image, (S, B): how many coordinates' worth of noise is left."""
        return np.asarray(self.pixels * 10 ** ((input_psnr[:, None] - self.psnr) / 10), dtype=np.float64)


def measure_manifold(manifold: Manifold, config: ManifoldConfig, workspace: Workspace) -> MeasuredManifold:
    """Train a network on images of a manifold and measure it."""
    images = manifold.training_images(config.images, config.seed)
    network = trained_on({manifold.name: images}, config.network, workspace)[manifold.name]
    points = manifold.test_points(config.test_images, config.seed)
    clean = manifold.render(points).to(workspace.device)
    curve = workspace.computed("psnr", lambda: denoising_psnr(network, clean, config.sigmas, config.seed))
    bases = workspace.computed("bases", lambda: _bases(manifold, network, points, config, workspace.device))
    slope = fit_slope(config.input_psnr, curve, *config.fit_range, torch.Generator().manual_seed(config.seed))
    return MeasuredManifold(psnr=curve, slope=slope, **bases)


def _bases(
    manifold: Manifold, network: NetworkDenoiser, points: Tensor, config: ManifoldConfig, device: torch.device
) -> dict[str, Any]:
    """Eigenvectors at a few images and noise levels, beside the tangent spaces there."""
    points = points[: config.tangent_images + 1]
    tangents = [tangent_space(manifold.render, point) for point in points]
    clean = manifold.render(points)
    rows: list[list[dict[str, Any]]] = []
    eigenvectors = []
    for level in config.tangent_psnr:
        noisy = add_noise(clean, sigma_of(level), torch.Generator().manual_seed(config.seed))
        bases = [basis_at(network, image.to(device), sigma_of(level)) for image in noisy[:-1]]
        rows.append(
            [
                _compared(basis, here, next_, config)
                for basis, (here, next_) in zip(bases, pairwise(tangents), strict=True)
            ]
        )
        first = bases[0]
        shown = as_pictures(first.vectors[:, [k - 1 for k in config.shown]], network.image_shape)
        eigenvectors.append(np.concatenate([torch.stack([noisy[0], first.denoised.cpu()]).numpy(), shown]))
    derivatives = torch.func.jacfwd(lambda p: manifold.render(p[None])[0].flatten())(points[0].double())
    found: dict[str, Any] = {
        name: np.array([[one[name] for one in level] for level in rows], dtype=np.float64) for name in rows[0][0]
    }
    return found | {
        "tangents": np.concatenate([clean[:1].numpy(), as_pictures(derivatives, network.image_shape)]),
        "eigenvectors": np.stack(eigenvectors),
    }


def _compared(basis: Basis, tangent: Tensor, elsewhere: Tensor, config: ManifoldConfig) -> dict[str, Any]:
    """One basis beside the tangent space at its own image and at another one."""
    vectors, dimension = basis.vectors.cpu(), tangent.shape[1]
    waves = vectors[:, : dimension + config.followers].T.numpy()
    frequencies, concentration = strongest_wave(_images(waves, config.size))
    rng, followers = np.random.default_rng(config.seed), waves[dimension:]
    rotations = [random_rotation(len(followers), rng) @ followers for _ in range(ROTATIONS)]
    return {
        "eigenvalues": basis.values.cpu().numpy(),
        "angles": principal_angles(vectors[:, :dimension], tangent).numpy(),
        "captured": [captured_share(vectors[:, :count], tangent) for count in range(1, config.most + 1)],
        "captured_elsewhere": [captured_share(vectors[:, :count], elsewhere) for count in range(1, config.most + 1)],
        "frequencies": frequencies,
        "concentration": concentration[dimension:].mean(),
        "rotated": np.mean([strongest_wave(_images(one, config.size))[1].mean() for one in rotations]),
        "asymmetry": basis.asymmetry,
    }


def _images(vectors: Floats, side: int) -> Floats:
    return vectors.reshape(-1, 1, side, side)
