"""Everything that maps ``(noisy, sigma)`` to an estimate of the clean image, by name in `denoisers`."""

from scorescope.denoisers.base import Denoiser, score
from scorescope.denoisers.gaussian import GaussianDenoiser
from scorescope.denoisers.network import NetworkDenoiser
from scorescope.denoisers.optimal import OptimalDenoiser
from scorescope.denoisers.patch_schedule import WindowSchedule
from scorescope.denoisers.patch_square import SquarePatchDenoiser
from scorescope.denoisers.registry import DenoiserEntry, denoisers, training_free

__all__ = [
    "Denoiser",
    "DenoiserEntry",
    "GaussianDenoiser",
    "NetworkDenoiser",
    "OptimalDenoiser",
    "SquarePatchDenoiser",
    "WindowSchedule",
    "denoisers",
    "score",
    "training_free",
]
