"""Measurements published since the three papers, each with a claim, a rule and a verdict."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers.newer.entropy_phases import EntropyPhases
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["EntropyPhases"]
