"""What other methods say of a sample: similarity in pixels and in embedded features, and gradients (D-TRAK)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.lenses.attribution.settings import AttributionSettings
from scorescope.lenses.attribution.states import States
from scorescope.probes.attribution_gradients import GradientFeatures, gradient_scores
from scorescope.probes.audit.search import Directions
from scorescope.probes.features_embedded import EmbeddedFeatures
from scorescope.probes.similarity import directions

Floats = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]
PIXELS, EMBEDDED, GRADIENTS = "cosine of pixels", "cosine of embedded features", "gradients (D-TRAK)"
AT_ONCE = 4096


@dataclass(frozen=True)
class Scores:
    """What one method says of every training image.

    Attributes:
        name: of the method.
        score: larger is more, (N,); NaN where it was not asked.
        note: why it says nothing, or of which images it does; may be empty.
    """

    name: str
    score: Floats
    note: str = ""


def pixel_cosine(images: ImageSet, states: States) -> Scores:
    """Cosine of the centred pixels of the sample and of every training image."""
    own = directions(torch.from_numpy(states.sample)[None])
    parts = []
    for start in range(0, len(images), AT_ONCE):
        few = images.tensor(range(start, min(start + AT_ONCE, len(images))))
        parts.append((directions(few) @ own.T)[:, 0].numpy())
    return Scores(PIXELS, np.concatenate(parts).astype(np.float64))


def embedded_cosine(images: ImageSet, states: States, candidates: Entries, device: torch.device) -> Scores:
    """Cosine of the fixed features of the sample and of some training images."""
    space, score = Directions(EmbeddedFeatures(), device), np.full(len(images), np.nan)
    own = space.of(torch.from_numpy(states.sample)[None].clamp(-1, 1))[0]
    for start in range(0, len(candidates), AT_ONCE):
        few = candidates[start : start + AT_ONCE]
        score[few] = space.of(images.tensor(few)) @ own
    return Scores(EMBEDDED, score, among(candidates, images))


def gradient_attribution(
    network: NetworkDenoiser, images: ImageSet, states: States, candidates: Entries, settings: AttributionSettings
) -> Scores:
    """D-TRAK among some training images; a note where the network has too many weights."""
    score = np.full(len(images), np.nan)
    places = np.linspace(0, len(states.sigmas) - 1, min(settings.gradient_levels, len(states.sigmas)))
    sigmas = [float(states.sigmas[round(place)]) for place in places]
    try:
        features = GradientFeatures(network, sigmas, settings.seed)
    except UserError as error:
        return Scores(GRADIENTS, score, f"not measured: {error}")
    own = features.of(torch.from_numpy(states.sample)).numpy().astype(np.float64)[None]
    score[candidates] = gradient_scores(own, features.of_all(images.tensor(candidates)))[0]
    return Scores(GRADIENTS, score, among(candidates, images))


def among(candidates: Entries, images: ImageSet) -> str:
    """Which images were asked, where that was not all."""
    if len(candidates) == len(images):
        return ""
    return f"among the {len(candidates):,} training images most like the sample in pixels"


def most_alike(scores: Scores, count: int) -> Entries:
    """The entries with the largest scores, ascending, at most `count`."""
    return np.sort(np.argsort(-scores.score, kind="stable")[:count]).astype(np.int64)
