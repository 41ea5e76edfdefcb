"""From noise to images with any denoiser: the deterministic flow, and the blind stochastic ascent. Both yield every state."""

from scorescope.sampling.blind import BlindState, blind_ascent
from scorescope.sampling.flow import State, euler, heun, last

__all__ = ["BlindState", "State", "blind_ascent", "euler", "heun", "last"]
