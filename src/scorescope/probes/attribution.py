"""How far a model is from the optimal denoiser, and how much of that each mechanism explains.

With ``gap(σ) = E‖D − D*‖²`` between the model D and the optimal denoiser D* of its training set, a mechanism M has the
explained deviation ``R_M(σ) = 1 − E‖D − M‖² / gap(σ)``: 1 where the mechanism is the model, 0 where it is no better
than memorization, negative where it is worse. Where the gap is negligible R means nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers.base import Denoiser
from scorescope.foundation import track
from scorescope.probes.errors import squared_error

Array = npt.NDArray[np.float64]
NEGLIGIBLE_GAP = 1e-4


@dataclass(frozen=True)
class Deviation:
    """Mean squared differences a pixel between a model and others, over S levels and B inputs.

    Attributes:
        sigmas: (S,).
        to_optimal: ``‖D − D*‖²`` of each input, (S, B).
        to_mechanism: the same to each mechanism, by name, (S, B).
    """

    sigmas: Array
    to_optimal: Array
    to_mechanism: dict[str, Array]

    def gap(self) -> Array:
        """``gap(σ)``, mean over inputs, (S,)."""
        gap: Array = self.to_optimal.mean(1)
        return gap

    def explained(self, name: str, negligible: float = NEGLIGIBLE_GAP) -> Array:
        """``R_M(σ)``, (S,); NaN where the gap is below `negligible` (in squared units of [-1, 1])."""
        gap = self.gap()
        with np.errstate(divide="ignore", invalid="ignore"):
            explained: Array = np.where(gap > negligible, 1 - self.to_mechanism[name].mean(1) / gap, np.nan)
        return explained

    def explained_overall(self, name: str, negligible: float = NEGLIGIBLE_GAP) -> float:
        """R_M of the levels together: 1 − the summed distance over the summed gap; NaN if the gap is negligible."""
        gap = self.gap()
        if gap.mean() <= negligible:
            return float("nan")
        return float(1 - self.to_mechanism[name].mean(1).sum() / gap.sum())


def deviation(
    model: Denoiser,
    optimal: Denoiser,
    mechanisms: Mapping[str, Denoiser],
    inputs: Sequence[Tensor],
    sigmas: Sequence[float],
    description: str = "comparing with the optimal denoiser",
) -> Deviation:
    """Measure a model against the optimal denoiser and against each mechanism, on the same inputs.

    Args:
        model: D.
        optimal: D*, of the model's training set.
        mechanisms: by name.
        inputs: S batches (B, C, H, W), one a level.
        sigmas: S levels.
        description: of the progress bar.

    Returns:
        The distances.
    """
    to_optimal, to_mechanism = [], {name: [] for name in mechanisms}  # type: ignore[var-annotated]
    with torch.no_grad():
        for noisy, sigma in track(list(zip(inputs, sigmas, strict=True)), description):
            denoised = model(noisy, sigma)
            to_optimal.append(squared_error(denoised, optimal(noisy, sigma)).numpy())
            for name, mechanism in mechanisms.items():
                to_mechanism[name].append(squared_error(denoised, mechanism(noisy, sigma)).numpy())
    return Deviation(
        np.asarray(sigmas, dtype=np.float64),
        np.stack(to_optimal),
        {name: np.stack(rows) for name, rows in to_mechanism.items()},
    )
