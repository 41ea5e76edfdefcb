"""Architectures by name: what `scorescope list networks` shows and what a checkpoint's configuration is built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from scorescope.foundation import Registry
from scorescope.networks.unet import UNet


@dataclass(frozen=True)
class Architecture:
    """One entry of the table of networks.

    Attributes:
        build: makes the network from JSON-like keyword arguments.
        arguments_for: the arguments that fit images (C, H, W), for a network trained from nothing.
        preconditioning: name of what usually turns its output into a denoised image.
        description: one line for the list.
        source: the paper.
    """

    build: Callable[..., nn.Module]
    arguments_for: Callable[[tuple[int, int, int]], dict[str, Any]]
    preconditioning: str
    description: str
    source: str


architectures: Registry[Architecture] = Registry("network")


def _unet_arguments(image_shape: tuple[int, int, int]) -> dict[str, Any]:
    channels, height, width = image_shape
    blocks = 3
    while blocks > 1 and (height % 2**blocks or width % 2**blocks):
        blocks -= 1
    return {"channels": channels, "width": 64, "blocks": blocks}


architectures.add(
    "unet",
    Architecture(
        UNet,
        _unet_arguments,
        "blind-residual",
        "bias-free, blind U-Net (width, blocks)",
        "Kadkhodaie et al. 2024, arXiv 2310.02557",
    ),
)
