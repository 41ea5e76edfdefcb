"""What was measured on one network about the patches that it acts like, and the schedules that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.denoisers import ShareSchedule, WindowSchedule
from scorescope.probes.patches import best_shares, best_sides

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PatchErrors:
    """What was measured on one network, at S levels that it was trained on, for K sides.

    Attributes:
        network: its name.
        sigmas: (S,).
        sides: (K,).
        to_optimal: squared errors to patches of the optimal denoiser on noisy training images, (S, B, K).
        to_network: to patches of the network on its own states, (S, B, K).
        to_network_shares: of PSPC-Flex with every share λ to the network on its own states, (S, B', shares).
        shares: λ.
        spread: variance of the training images' values, what an error of 1 would be in their own unit.
        fit: what is compared on held-out images -> squared differences to the network, (S, B); empty without such images.
    """

    network: str
    sigmas: Floats
    sides: list[int]
    to_optimal: Floats
    to_network: Floats
    to_network_shares: Floats
    shares: list[float]
    spread: float
    fit: dict[str, Floats]

    @property
    def windows(self) -> WindowSchedule:
        """The side that is nearest to the network at every level."""
        return best_sides(self.sigmas.tolist(), self.sides, self.to_network.mean(1))

    @property
    def masks(self) -> ShareSchedule:
        """The share that is."""
        return best_shares(self.sigmas.tolist(), self.shares, self.to_network_shares.mean(1))
