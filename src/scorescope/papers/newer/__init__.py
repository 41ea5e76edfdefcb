"""Measurements published since the three papers, each with a claim, a rule and a verdict."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers.newer.entropy_phases import EntropyPhases
    from scorescope.papers.newer.latent_factors import LatentFactors
    from scorescope.papers.newer.local_coverage import LocalCoverage
    from scorescope.papers.newer.network_phases import NetworkPhases
    from scorescope.papers.newer.selective_underfitting import SelectiveUnderfitting
    from scorescope.papers.newer.swapped_denoisers import SwappedDenoisers
    from scorescope.papers.newer.training_times import TrainingTimes
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "EntropyPhases",
    "LatentFactors",
    "LocalCoverage",
    "NetworkPhases",
    "SelectiveUnderfitting",
    "SwappedDenoisers",
    "TrainingTimes",
]
