"""Protocols that the field measures by, run on every theory that there is here."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers.protocols.samples_from_shared_noise import SamplesFromSharedNoise
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["SamplesFromSharedNoise"]
