"""Errors of the device's posteriors against their definitions in float64, by noise level, where logits decide.

Noisy images lie half way between two training images, but for noise, and at low noise at one of them, so that at every level
some images compete. The definitions are computed on the device, a window at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data import ImageSet
from scorescope.denoisers import (
    Denoiser,
    EquivariantLocalScoreDenoiser,
    LocalScoreDenoiser,
    OptimalDenoiser,
    PcaLocalityDenoiser,
    SquarePatchDenoiser,
)

SIGMAS = (0.002, 0.05, 0.3, 1.0, 5.0, 80.0)
SIDES = (3, 7, 15)
ALLOWED = 1e-5
EQUIVARIANT_IMAGES = 20


@dataclass(frozen=True)
class Error:
    """Relative errors ‖found − true‖ / ‖true‖ of one posterior.

    Attributes:
        case: which.
        by_sigma: one a noise level.
    """

    case: str
    by_sigma: tuple[float, ...]


def measure(images: ImageSet, device: torch.device) -> list[Error]:
    """Of the optimal denoiser, square windows, the local score, PCA locality and the equivariant one."""
    clean = images.tensor().double().to(device)
    found = [Error("optimal", _errors(OptimalDenoiser(images), clean, whole_images))]
    for side in (side for side in SIDES if side <= min(images.image_shape[1:])):
        found.append(
            Error(f"pspc-square, window {side}", _errors(SquarePatchDenoiser(images, side), clean, windows(side)))
        )
    found.append(Error("local-score, window 5", _errors(LocalScoreDenoiser(images, 5), clean, centres(5))))
    correlated = PcaLocalityDenoiser(images)
    found.append(Error("pca-locality", _errors(correlated, clean, masks(correlated))))
    few = images.subset(range(min(EQUIVARIANT_IMAGES, images.stored)))
    own = EquivariantLocalScoreDenoiser(few, 5)
    found.append(Error("equivariant-local-score, window 5", _errors(own, clean[: few.stored], every_place(5))))
    return found


def table(errors: list[Error]) -> str:
    """As a Markdown table."""
    levels = " | ".join(f"σ = {sigma:g}" for sigma in SIGMAS)
    text = f"### relative error against float64, {ALLOWED:g} allowed\n\n| posterior | {levels} |\n"
    text += "| --- |" + " ---: |" * len(SIGMAS) + "\n"
    for each in errors:
        text += f"| {each.case} | " + " | ".join(f"{value:.1e}" for value in each.by_sigma) + " |\n"
    return text


Definition = Callable[[Tensor, Tensor, float], Tensor]


def whole_images(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """Posterior mean of one image (C, H, W) under images (N, C, H, W), float64."""
    return torch.tensordot(_weights(noisy, clean, sigma), clean, 1)


def windows(side: int) -> Definition:
    """The average over all windows of a side at the pixels that they cover."""

    def definition(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
        total, covered = torch.zeros_like(noisy), torch.zeros_like(noisy)
        for top in range(noisy.shape[1] - side + 1):
            for left in range(noisy.shape[2] - side + 1):
                part = (..., slice(top, top + side), slice(left, left + side))
                total[part] += whole_images(noisy[part], clean[part], sigma)
                covered[part] += 1
        return total / covered

    return definition


def centres(side: int) -> Definition:
    """Every pixel from the window around it, cut at the border."""

    def definition(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
        half, found = side // 2, torch.empty_like(noisy)
        for row in range(noisy.shape[1]):
            for column in range(noisy.shape[2]):
                rows, columns = (
                    slice(max(0, row - half), row + half + 1),
                    slice(max(0, column - half), column + half + 1),
                )
                weights = _weights(noisy[:, rows, columns], clean[:, :, rows, columns], sigma)
                found[:, row, column] = weights @ clean[:, :, row, column]
        return found

    return definition


def masks(denoiser: PcaLocalityDenoiser) -> Definition:
    """Every pixel-channel from the mask that the denoiser has for it."""

    def definition(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
        members = torch.from_numpy(denoiser.masks(sigma)).to(clean)
        distances = members @ (noisy - clean).square().flatten(1).T  # (pixel-channels, images)
        weights = (-distances / (2 * sigma**2)).softmax(1)
        return (weights * clean.flatten(1).T).sum(1).reshape(noisy.shape)

    return definition


def every_place(side: int) -> Definition:
    """Every pixel from the window around it, going on around the edges, among the windows inside training images."""

    def definition(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
        half = side // 2
        keys = functional.unfold(clean, side).transpose(1, 2).flatten(0, 1)  # (N·places, C·side²)
        values = (
            clean[:, :, half : clean.shape[2] - half, half : clean.shape[3] - half].permute(0, 2, 3, 1).flatten(0, 2)
        )
        around = functional.pad(noisy[None], (half,) * 4, mode="circular")
        queries = functional.unfold(around, side)[0].T
        found = torch.stack([_weights(query, keys, sigma) @ values for query in queries])  # (pixels, C)
        return found.T.reshape(noisy.shape)

    return definition


def noisy_images(clean: Tensor) -> Iterator[tuple[Tensor, float]]:
    """One image (C, H, W) a noise level, float32 as denoisers are given them."""
    generator = torch.Generator().manual_seed(0)
    for sigma in SIGMAS:
        first, second = torch.randint(len(clean), (2,), generator=generator).tolist()
        middle = clean[first] if sigma < 0.1 else (clean[first] + clean[second]) / 2
        noise = torch.randn(clean.shape[1:], generator=generator, dtype=torch.float64).to(clean.device)
        yield (middle + sigma * noise).float(), sigma


def _errors(denoiser: Denoiser, clean: Tensor, definition: Definition) -> tuple[float, ...]:
    errors = []
    for noisy, sigma in noisy_images(clean):
        found = denoiser(noisy[None].double(), sigma)[0].double()
        true = definition(noisy.double(), clean, sigma)
        errors.append(float((found - true).norm() / true.norm()))
    return tuple(errors)


def _weights(noisy: Tensor, clean: Tensor, sigma: float) -> Tensor:
    distances = (noisy - clean).square().flatten(1).sum(1)
    return (-distances / (2 * sigma**2)).softmax(0)
