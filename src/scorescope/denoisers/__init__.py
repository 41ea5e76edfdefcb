"""Everything that maps ``(noisy, sigma)`` to an estimate of the clean image, by name in `denoisers`."""

from scorescope.denoisers.base import Denoiser, score
from scorescope.denoisers.classical import BM3DDenoiser, WaveletDenoiser
from scorescope.denoisers.closed_form import ClosedFormDenoiser
from scorescope.denoisers.gaussian import GaussianDenoiser
from scorescope.denoisers.network import NetworkDenoiser
from scorescope.denoisers.optimal import OptimalDenoiser, TrainingPosterior
from scorescope.denoisers.patch_schedule import WindowSchedule
from scorescope.denoisers.patch_square import LocalScoreDenoiser, PatchPosterior, SquarePatchDenoiser
from scorescope.denoisers.registry import DenoiserEntry, denoisers, training_free
from scorescope.denoisers.stacked import StackedDenoiser

__all__ = [
    "BM3DDenoiser",
    "ClosedFormDenoiser",
    "Denoiser",
    "DenoiserEntry",
    "GaussianDenoiser",
    "LocalScoreDenoiser",
    "NetworkDenoiser",
    "OptimalDenoiser",
    "PatchPosterior",
    "SquarePatchDenoiser",
    "StackedDenoiser",
    "TrainingPosterior",
    "WaveletDenoiser",
    "WindowSchedule",
    "denoisers",
    "score",
    "training_free",
]
