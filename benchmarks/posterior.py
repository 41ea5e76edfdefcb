"""The posterior engine on 50,000 colour images of 32×32: whole images, windows, masks, all places, a sampling run."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import fifty_thousand
from benchmarks.harness import Machine, Row, raced, timed
from benchmarks.references.equivariant import equivariant_local_score
from benchmarks.references.masks import flex_reference, pca_reference
from benchmarks.references.whole_image import optimal
from benchmarks.references.windows import square_patches
from scorescope.data import ImageSet
from scorescope.denoisers import (
    EquivariantLocalScoreDenoiser,
    FlexPatchDenoiser,
    OptimalDenoiser,
    PcaLocalityDenoiser,
    SquarePatchDenoiser,
)
from scorescope.noise import edm_sigmas
from scorescope.posterior.product_race import races
from scorescope.sampling import heun, last

BATCH = 4
SIDES = {3: 60, 7: 100, 15: 150, 23: 150}
CORNERS_MEASURED = 3
SHARES = (0.3, 0.5, 0.7)
PCA_SIGMAS = (0.1, 0.5, 2.0, 10.0)
PCA_REFERENCE_IMAGES = 2_000
EQUIVARIANT_IMAGES, EQUIVARIANT_SIDE, EQUIVARIANT_REFERENCE_IMAGES = 1_000, 5, 40


def noisy_images(images: ImageSet, count: int, sigma: float) -> Tensor:
    """The first images with noise."""
    noise = torch.randn(count, *images.image_shape, generator=torch.Generator().manual_seed(0))
    return images.tensor(range(count)) + sigma * noise


def rows(machine: Machine) -> Iterator[Row]:
    """All lines of the table."""
    images = fifty_thousand()
    yield from whole_images(machine)
    yield from _windows(images)
    yield from _flexible(images)
    yield from _correlated(images)
    yield _equivariant(images.subset(range(EQUIVARIANT_IMAGES)))
    yield _sampling(images)


def notes() -> list[str]:
    """Which exact products the whole-image lines were computed with on this processor, and why."""
    return [f"exact product chosen: {race}" for race in races()]


def whole_images(machine: Machine) -> Iterator[Row]:
    """The lines of the optimal denoiser alone."""
    images = fifty_thousand()
    denoiser, count, dimension = OptimalDenoiser(images), len(images), 3072
    flat = images.tensor().reshape(count, dimension)
    for batch in (64, 1):
        for sigma in (0.5, 80.0):
            noisy = noisy_images(images, batch, sigma)
            seconds, reference = raced(
                lambda: denoiser(noisy, sigma),  # noqa: B023 - called before the next turn
                lambda: optimal(noisy.reshape(batch, -1), flat, sigma),  # noqa: B023
            )
            multiplying, reading = 4 * batch * count * dimension / machine.flops, count * dimension / machine.bytes_read
            yield Row(
                f"optimal, batch {batch}, σ = {sigma:g}",
                seconds,
                reference,
                multiplying if batch > 1 else reading,
                "≥ 50 % of the product rate, ≥ 3×" if batch > 1 else "≤ 8× reading: ≥ 12.5 %",
                f"limit: {'4·B·N·d operations as float32 products' if batch > 1 else 'reading the bytes once'}",
            )


def _windows(images: ImageSet) -> Iterator[Row]:
    clean = images.tensor()
    for sigma in (0.1, 1.0):
        for side, wanted in SIDES.items():
            noisy, grid = noisy_images(images, BATCH, sigma), 33 - side
            denoiser = SquarePatchDenoiser(images, side)
            seconds = timed(lambda: denoiser(noisy, sigma))  # noqa: B023
            corners = [(7 * k % grid, 5 * k % grid) for k in range(CORNERS_MEASURED)]
            part = timed(lambda: square_patches(noisy, clean, sigma, side, corners), runs=1)  # noqa: B023
            yield Row(
                f"pspc-square, window {side}, batch {BATCH}, σ = {sigma:g}",
                seconds,
                part / len(corners) * grid**2,
                wanted=f"≥ {wanted}×",
                note=f"reference: {len(corners)} of {grid**2} windows, scaled",
            )


def _flexible(images: ImageSet) -> Iterator[Row]:
    pixels = torch.from_numpy(np.array(images.read(0, len(images))))
    for share in SHARES:
        sigma = 1.0
        denoiser, noisy = FlexPatchDenoiser(images, shares=share), noisy_images(images, BATCH, sigma)
        masks = torch.from_numpy(denoiser.masks(sigma)).reshape(-1, *images.image_shape[1:])
        seconds = timed(lambda: denoiser(noisy, sigma))  # noqa: B023
        # Masks of small, middle and large size stand for all.
        sizes = masks.sum((1, 2))
        chosen = [int(order) for order in sizes.argsort()[[len(masks) // 5, len(masks) // 2, 4 * len(masks) // 5]]]
        part = timed(lambda: flex_reference(noisy, pixels, sigma, masks, chosen), runs=1, warm_up=False)  # noqa: B023
        yield Row(
            f"pspc-flex, λ = {share:g}, batch {BATCH}, σ = {sigma:g}",
            seconds,
            part / len(chosen) * len(masks),
            wanted="≥ 40×",
            note=f"masks of {sizes.float().mean():.0f} pixels on average; reference: 3 of {len(masks)} masks, scaled",
        )


def _correlated(images: ImageSet) -> Iterator[Row]:
    pixels = torch.from_numpy(np.array(images.read(0, PCA_REFERENCE_IMAGES)))
    denoiser = PcaLocalityDenoiser(images)
    for sigma in PCA_SIGMAS:
        noisy, masks = noisy_images(images, 1, sigma), torch.from_numpy(denoiser.masks(sigma))
        seconds = timed(lambda: denoiser(noisy, sigma), runs=1)  # noqa: B023
        part = timed(lambda: pca_reference(noisy, pixels, sigma, masks), runs=1)  # noqa: B023
        yield Row(
            f"pca-locality, batch 1, σ = {sigma:g}",
            seconds,
            part * len(images) / len(pixels),
            wanted="≥ 5×",
            note=f"{masks.mean():.1%} of the mask matrix filled; reference: {len(pixels):,} images, scaled",
        )


def _equivariant(images: ImageSet) -> Row:
    sigma, clean = 0.5, images.tensor(range(EQUIVARIANT_REFERENCE_IMAGES))
    denoiser, noisy = EquivariantLocalScoreDenoiser(images, EQUIVARIANT_SIDE), noisy_images(images, 1, sigma)
    seconds = timed(lambda: denoiser(noisy, sigma))
    part = timed(lambda: equivariant_local_score(noisy, clean, sigma, EQUIVARIANT_SIDE), runs=1)
    return Row(
        f"equivariant-local-score, window {EQUIVARIANT_SIDE}, {len(images):,} images, batch 1, σ = {sigma:g}",
        seconds,
        part * len(images) / len(clean),
        wanted="≥ 10×",
        note=f"reference: {len(clean)} images, scaled",
    )


def _sampling(images: ImageSet) -> Row:
    denoiser, sigmas = SquarePatchDenoiser(images), edm_sigmas(18)
    start = sigmas[0] * torch.randn(BATCH, *images.image_shape, generator=torch.Generator().manual_seed(1))
    began = time.perf_counter()
    last(heun(denoiser, start.float(), sigmas))
    return Row(f"18 Heun steps with pspc-square, batch {BATCH}", time.perf_counter() - began, wanted="≤ 90 s")
