"""Everything that maps ``(noisy, sigma)`` to an estimate of the clean image, by name in `denoisers`."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.denoisers.base import Denoiser, score
    from scorescope.denoisers.classical import BM3DDenoiser, WaveletDenoiser
    from scorescope.denoisers.closed_form import ClosedFormDenoiser
    from scorescope.denoisers.committee import CommitteeDenoiser
    from scorescope.denoisers.equivariant import BorderLocalScoreDenoiser, EquivariantLocalScoreDenoiser
    from scorescope.denoisers.gaussian import GaussianDenoiser
    from scorescope.denoisers.gaussian_mixture import GaussianMixtureDenoiser
    from scorescope.denoisers.heatmaps import GivenHeatmaps, Heatmaps, StoredHeatmaps, WienerHeatmaps
    from scorescope.denoisers.local_mixtures import LocalMixturesDenoiser
    from scorescope.denoisers.network import NetworkDenoiser
    from scorescope.denoisers.optimal import OptimalDenoiser, TrainingPosterior
    from scorescope.denoisers.patch_flex import FlexPatchDenoiser
    from scorescope.denoisers.patch_schedule import WindowSchedule
    from scorescope.denoisers.patch_square import LocalScoreDenoiser, PatchPosterior, SquarePatchDenoiser
    from scorescope.denoisers.pca_locality import BatchedPcaLocalityDenoiser, PcaLocalityDenoiser
    from scorescope.denoisers.registry import DenoiserEntry, denoisers, training_free
    from scorescope.denoisers.share_schedule import ShareSchedule
    from scorescope.denoisers.stacked import StackedDenoiser
    from scorescope.denoisers.window_mixtures import WindowMixtureDenoiser
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "BM3DDenoiser",
    "BatchedPcaLocalityDenoiser",
    "BorderLocalScoreDenoiser",
    "ClosedFormDenoiser",
    "CommitteeDenoiser",
    "Denoiser",
    "DenoiserEntry",
    "EquivariantLocalScoreDenoiser",
    "FlexPatchDenoiser",
    "GaussianDenoiser",
    "GaussianMixtureDenoiser",
    "GivenHeatmaps",
    "Heatmaps",
    "LocalMixturesDenoiser",
    "LocalScoreDenoiser",
    "NetworkDenoiser",
    "OptimalDenoiser",
    "PatchPosterior",
    "PcaLocalityDenoiser",
    "ShareSchedule",
    "SquarePatchDenoiser",
    "StackedDenoiser",
    "StoredHeatmaps",
    "TrainingPosterior",
    "WaveletDenoiser",
    "WienerHeatmaps",
    "WindowMixtureDenoiser",
    "WindowSchedule",
    "denoisers",
    "score",
    "training_free",
]
