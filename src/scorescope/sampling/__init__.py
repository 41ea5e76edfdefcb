"""From noise to images with any denoiser: the deterministic flow, and the blind stochastic ascent. Both yield every state."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.sampling.blind import BlindState, blind_ascent
    from scorescope.sampling.flow import State, euler, heun, last
    from scorescope.sampling.inverse import (
        BlockAverages,
        Inpainting,
        Measurement,
        RandomDirections,
        constrained_ascent,
        start_of,
    )
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "BlindState",
    "BlockAverages",
    "Inpainting",
    "Measurement",
    "RandomDirections",
    "State",
    "blind_ascent",
    "constrained_ascent",
    "euler",
    "heun",
    "last",
    "start_of",
]
