"""Which patches a network acts like: errors of patches of every side, and the schedules that follow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scorescope.denoisers import Denoiser, ShareSchedule, WindowSchedule
from scorescope.foundation.progress import track
from scorescope.lenses.comparison import Compared
from scorescope.lenses.inputs import Inputs
from scorescope.probes.patches import best_shares, best_sides, patch_errors
from scorescope.study.workspace import Workspace

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


def side_errors(
    key: str,
    one: Compared,
    inputs: Inputs,
    reference: Denoiser,
    levels: Sequence[int],
    sides: list[int],
    workspace: Workspace,
    most: int | None = None,
) -> Floats:
    """Errors of patches of every side, (S, B, K), one cell a level.

    Args:
        key: of the cells.
        one: whose training images the patches come from.
        inputs: noisy images.
        reference: what makes the whole images whose patches are compared.
        levels: places in the levels of `inputs`.
        sides: K sides.
        workspace: of the run.
        most: of the images of a level only the first so many; None for all.
    """

    def at(level: int) -> Floats:
        noisy, sigma = inputs.at(level)[:most].to(workspace.device), inputs.sigmas[level]
        with torch.no_grad():
            made = reference(noisy, sigma)
        return patch_errors(one.training, noisy, sigma, made, sides)

    levels = list(levels)
    described = track(levels, f"patches of every side, {one.name}")
    return np.stack([workspace.computed(f"{key}/{level}", functools.partial(at, level)) for level in described])
