"""The Jacobian of the published U-Net, 7.66 million parameters, at photographs of 80×80 pixels: whole, and its eigenpairs.

The plain reference is one backward pass a pixel through a graph that is kept (what `torch.autograd.functional.jacobian` does,
with weights frozen). It is measured on a few pixels before and after ours, because of what else the machine does, and scaled to
all of them. The network is trained for a short while, once, and kept in the cache: at random weights it hardly changes its
input, and all eigenvalues are nearly one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Machine, Row
from scorescope.data import cache_folder, load_images
from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.networks import NetworkConfig, load_network
from scorescope.probes.eigenpairs import leading_eigenpairs
from scorescope.probes.jacobian import Jacobian, jacobian_at
from scorescope.training import TrainingConfig, TrainingJob, train_networks

SIDE, TRAINING_SIDE = 80, 40
TRAINING = TrainingConfig(steps=1500, batch=16, learning_rate=1e-3)
NETWORK = {"channels": 1, "width": 64, "blocks": 3}
PIXELS_MEASURED, PRODUCTS_MEASURED = 24, 32
EIGENPAIRS, TOLERANCE = 64, 1e-3
SIGMAS = (0.2, 0.5, 1.0)  # low noise is hard for the eigenpairs: many eigenvalues are nearly one


def rows(machine: Machine | None = None) -> Iterator[Row]:
    """All lines of the table; the machine's limits do not enter."""
    denoiser, clean = _denoiser(), _image()
    yield from _products(denoiser, _noisy(clean, SIGMAS[0]))
    for sigma in SIGMAS:
        noisy = _noisy(clean, sigma)
        yield _whole(denoiser, noisy, sigma)
        yield _eigenpairs(denoiser, noisy, sigma)


def _products(denoiser: Denoiser, noisy: Tensor) -> Iterator[Row]:
    plain, ours = Jacobian(denoiser, noisy, None), jacobian_at(denoiser, noisy, None)
    vectors = torch.randn(PRODUCTS_MEASURED, *noisy.shape, generator=torch.Generator().manual_seed(2))
    both = {"Jᵀ v": (plain.rows, ours.rows), "J v": (plain.columns, ours.columns)}
    for name, (automatic, explicit) in both.items():
        for batch in (2, 16):
            parts = torch.split(vectors, batch)
            for kind, product in (("automatic differentiation", automatic), ("masks made explicit", explicit)):
                # Bound now, called before the next turn.
                reference, seconds = _beside(denoiser, noisy, lambda p=product, q=parts: [p(part) for part in q])  # type: ignore[misc]
                yield Row(
                    f"{name}, {batch} at once, {kind}",
                    seconds / PRODUCTS_MEASURED,
                    reference,
                    note="a product; reference: one backward pass",
                )


def _whole(denoiser: Denoiser, noisy: Tensor, sigma: float) -> Row:
    reference, seconds = _beside(denoiser, noisy, lambda: jacobian_at(denoiser, noisy, None).matrix())
    return Row(
        f"whole Jacobian, {SIDE}×{SIDE}, σ = {sigma:g}",
        seconds,
        reference * noisy.numel(),
        wanted="≥ 3×",
        note=f"reference: {2 * PIXELS_MEASURED} of {noisy.numel()} backward passes, scaled",
    )


def _eigenpairs(denoiser: Denoiser, noisy: Tensor, sigma: float) -> Row:
    found = []

    def leading() -> None:
        generator = torch.Generator().manual_seed(3)
        found.append(leading_eigenpairs(jacobian_at(denoiser, noisy, None), EIGENPAIRS, generator, tolerance=TOLERANCE))

    reference, seconds = _beside(denoiser, noisy, leading)
    pairs = found[0]
    said = "" if pairs.converged else "did not converge: "
    return Row(
        f"leading {EIGENPAIRS} eigenpairs, {SIDE}×{SIDE}, σ = {sigma:g}",
        seconds,
        reference * noisy.numel(),
        wanted="≥ 12×",
        note=f"{said}largest residual {float(pairs.residuals.max()):.1e} after {pairs.products} products with (J + Jᵀ)/2;"
        f" λ from {float(pairs.values[0]):.2f} to {float(pairs.values[-1]):.2f}; reference: the whole Jacobian by"
        f" {2 * PIXELS_MEASURED} of {noisy.numel()} backward passes, scaled",
    )


def _beside(denoiser: Denoiser, noisy: Tensor, task: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one backward pass, measured before and after the task, and seconds of the task, once."""
    before = _backward_passes(denoiser, noisy)
    start = time.perf_counter()
    task()
    seconds = time.perf_counter() - start
    return float(np.median([*before, *_backward_passes(denoiser, noisy)])), seconds


def _backward_passes(denoiser: Denoiser, noisy: Tensor) -> list[float]:
    """Seconds of each of a few backward passes from single pixels, after two that are not counted."""
    image = noisy[None].clone().requires_grad_()
    outputs = denoiser(image, None).reshape(-1)
    seconds = []
    for pixel in torch.linspace(0, len(outputs) - 1, PIXELS_MEASURED + 2).long():
        start = time.perf_counter()
        torch.autograd.grad(outputs[pixel], image, retain_graph=True)
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def _denoiser() -> Denoiser:
    """The network, trained on smaller photographs than it is used on: it is convolutional."""
    folder = cache_folder() / "benchmarks" / f"unet-64-{TRAINING.steps}"
    config = NetworkConfig(
        architecture="unet",
        arguments=NETWORK,
        preconditioning="blind-residual",
        image_shape=(1, TRAINING_SIDE, TRAINING_SIDE),
        sigma_range=TRAINING.objective.sigma_range,
    )
    _train_once(folder, config)
    network, _ = load_network(folder)
    denoiser = NetworkDenoiser(network, "blind-residual", (1, SIDE, SIDE), config.sigma_range)
    return denoiser.requires_grad_(False)


def _train_once(folder: Path, config: NetworkConfig) -> None:
    if not folder.exists():
        images = load_images("natural-patches", size=TRAINING_SIDE).train
        train_networks([TrainingJob(folder, config, images, TRAINING)], description="training the network to measure")


def _image() -> Tensor:
    images = load_images("natural-patches", size=SIDE, n=100, test_n=10).test
    assert images is not None
    return images.tensor([0])[0]


def _noisy(clean: Tensor, sigma: float) -> Tensor:
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
