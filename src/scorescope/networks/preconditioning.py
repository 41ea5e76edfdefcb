"""From a network's output to a denoised image: a function of (network, noisy, sigma), chosen by name.

The network is a plain module; what it predicts (the noise, the image, a mixture scaled by sigma) is decided here and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from scorescope.foundation import Registry


@dataclass(frozen=True)
class Preconditioning:
    """One way to use a network as a denoiser.

    Attributes:
        denoise: (network, noisy (B, C, H, W), sigma (B,)) -> (B, C, H, W).
        blind: whether sigma is left unused.
        description: one line for the list.
    """

    denoise: Callable[[nn.Module, Tensor, Tensor], Tensor]
    blind: bool
    description: str


def _blind_residual(network: nn.Module, noisy: Tensor, sigma: Tensor) -> Tensor:
    # Their images are in [0, 1]: what a homogeneous network maps to itself, zero, is black there.
    noise: Tensor = network((noisy + 1) / 2)
    return noisy - 2 * noise


preconditionings: Registry[Preconditioning] = Registry("preconditioning")
preconditionings.add(
    "blind-residual",
    Preconditioning(
        _blind_residual,
        blind=True,
        description="D(y) = y − net(y) for images in [0, 1], sigma unseen (Kadkhodaie et al. 2024)",
    ),
)
