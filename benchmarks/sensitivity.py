"""Sensitivity heatmaps of all output pixels: batched vector-Jacobian products against one backward pass a pixel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.harness import Machine, Row, timed
from scorescope.denoisers import NetworkDenoiser
from scorescope.networks import NetworkConfig, architectures, build_network
from scorescope.probes.sensitivity import all_pixels, sensitivity

CASES = (("ddpm++", (1, 28, 28)), ("dit", (1, 28, 28)), ("unet", (1, 28, 28)), ("ddpm++", (3, 32, 32)))
SIGMA, PASSES_MEASURED = 0.5, 32


def rows(machine: Machine) -> Iterator[Row]:
    """All lines of the table.

    Weights are drawn at random: fresh networks are zero in their last layer, and derivatives that are hardly above zero take
    several times longer than those of a trained network.
    """
    for name, shape in CASES:
        entry = architectures[name]
        config = NetworkConfig(
            architecture=name,
            arguments=entry.arguments_for(shape),
            preconditioning=entry.preconditioning,
            image_shape=shape,
            sigma_range=(0.002, 80.0),
        )
        network = build_network(config)
        drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weights in network.parameters():
                weights.normal_(0.0, 0.1, generator=drawn)
        denoiser = NetworkDenoiser(network, entry.preconditioning, shape, config.sigma_range)
        noisy = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        seconds = timed(lambda: sensitivity(denoiser, noisy, SIGMA), runs=1)  # noqa: B023 - called before the next turn
        channels, height, width = shape
        pixels = all_pixels(height, width)
        chosen = pixels[:: len(pixels) * channels // PASSES_MEASURED]
        part = timed(lambda: one_backward_a_pixel(denoiser, noisy, SIGMA, chosen), runs=1)  # noqa: B023
        yield Row(
            f"heatmaps of {name}, {channels}×{height}×{width}, all {len(pixels)} output pixels",
            seconds,
            part / len(chosen) * len(pixels),
            wanted="≥ 5×",
            note=f"reference: {len(chosen)} of {len(pixels)} pixels, scaled",
        )


def one_backward_a_pixel(
    denoiser: NetworkDenoiser, noisy: Tensor, sigma: float, pixels: list[tuple[int, int]]
) -> Tensor:
    """The same heatmaps as everybody writes them first: one forward pass, then one backward pass a value of the output."""
    y = noisy.clone().requires_grad_()
    denoised, heatmaps = denoiser(y, sigma), []
    for row, column in pixels:
        total = torch.zeros(noisy.shape[2:])
        for channel in range(noisy.shape[1]):
            (gradient,) = torch.autograd.grad(denoised[0, channel, row, column], y, retain_graph=True)
            total += gradient[0].abs().sum(0)
        heatmaps.append(total)
    return torch.stack(heatmaps)
