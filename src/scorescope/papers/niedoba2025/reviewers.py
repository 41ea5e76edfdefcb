"""What the paper's reviewers asked for, on any network: sheets, quality, one class, and denoisers from before networks.

Samples of every denoiser from shared starts, shown and measured (Fréchet and kernel distances, inception score, precision,
recall, density, coverage) beside training and held-out images; the comparison with the network within one class; and BM3D and
wavelet shrinkage at every noise level, including where they fail.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
import torch

from scorescope.denoisers import denoisers
from scorescope.foundation import UserError
from scorescope.lenses.rivals import FLEX, STACKED, MechanismConfig
from scorescope.lenses.samples import SHOWN, sample_sheet
from scorescope.lenses.subject import OPTIMAL
from scorescope.papers.niedoba2025.classical import classical_errors, show_classical
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS
from scorescope.papers.niedoba2025.one_class import class_paths, distances_in_class, show_one_class
from scorescope.papers.niedoba2025.sample_quality import HELD_OUT, QualityMeasure, classes_for_score, show_quality
from scorescope.papers.niedoba2025.samples import Cast, Images, SampledConfig, open_cast, samples_of
from scorescope.probes.features import FeatureSpace
from scorescope.probes.features_opening import open_features
from scorescope.probes.similarity import nearest
from scorescope.study.base import Study, study
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SAMPLES = "Samples from the same noise"
SOURCE = "niedoba2025, section 2"
COPY = 0.99
SAMPLED = (FLEX, "pspc-square", STACKED, "local-score", "pca-locality", "gaussian", "closed-form")
MOSTLY = 50  # per cent of the samples: above, a denoiser copies


class ReviewersConfig(SampledConfig):
    """Settings of what the reviewers asked for.

    Attributes:
        classical: denoisers that know no training images; one that does not take these images, or is not installed, is left
            out, and the page says so.
        real_images: training images, and held-out images, that samples are laid beside, at most.
        class_inputs: noisy images, and paths, of one class; the class is `image_class`, the first there is by default.
    """

    mechanisms: MechanismConfig = MechanismConfig(names=SAMPLED)
    classical: tuple[str, ...] = ("wavelet", "bm3d")
    real_images: int = pydantic.Field(10_000, ge=2)
    class_inputs: int = pydantic.Field(32, ge=1)


@study
class Reviewers(Study[ReviewersConfig]):
    """Sheets, quality, one class, and classical denoisers."""

    name = "niedoba2025/reviewers"
    title = "What the reviewers asked for"
    question = (
        "How good are each denoiser's samples, does the order hold within a class, and where do BM3D and wavelets fail?"
    )
    paper = f"{PAPER}, reviews"
    Config = ReviewersConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY_SETTINGS,
            "training": {**TINY_SETTINGS["training"], "architectures": ("mlp",)},
            "mechanisms": {"names": ("pspc-square", "gaussian")},
            "levels": 6,
            "features": "pixels",
            "samples": 6,
            "at_once": 8,
            "class_inputs": 3,
            "real_images": 100,
        },
        "small": {"mechanisms": {"names": SAMPLED}},
        "paper": {
            **PAPER_SETTINGS,
            "mechanisms": {"names": SAMPLED},
            "samples": 50_000,
            "at_once": 500,
            "real_images": 50_000,
            "class_inputs": 100,
        },
    }

    def run(self, config: ReviewersConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        space = open_features(config.features, workspace.device)
        cast = _with_classical(open_cast(config, workspace), config.classical)
        label = _label(config, cast)
        results = cast.comparison.page(self.name, self.title, workspace)
        classes, said_of_classes = classes_for_score(cast, space, workspace)
        quality = _sample_and_measure(
            results, cast, QualityMeasure(cast, space, classes, config.real_images, workspace)
        )
        show_quality(results, cast, quality, space, said_of_classes)
        if label is None:
            results.methods["One class"] = (
                "The training images have no labels, so nothing was measured within one class."
            )
        else:
            paths = class_paths(cast, label, config.class_inputs, space, classes, workspace)
            found = distances_in_class(cast, label, config.class_inputs, paths, workspace)
            show_one_class(results, cast, label, paths, found)
        show_classical(results, cast, classical_errors(cast, workspace))
        results.headline = _headline(cast, quality, space)
        cast.describe(results)
        return results


def _sample_and_measure(results: Results, cast: Cast, measure: QualityMeasure) -> pd.DataFrame:
    """Samples of one denoiser after the other, their quality, and what is shown of them."""
    shown, rows = {}, []
    for name in cast.denoisers:
        made = samples_of(cast, name, measure.workspace)
        shown[name] = made[:SHOWN]
        rows += measure.of(name, made)
        if name == OPTIMAL:
            _copies(results, cast, made)
    _sheet(results, cast, shown)
    return pd.DataFrame([*rows, *measure.of_held_out()])


def _with_classical(cast: Cast, names: Sequence[str]) -> Cast:
    """The cast with the denoisers that know no training images, as far as they can be built."""
    built, left_out = dict(cast.denoisers), dict(cast.left_out)
    for name in names:
        entry = denoisers[name]
        try:
            built[name] = entry.build(cast.first.training)
        except UserError as error:
            left_out[name] = str(error)
    return dataclasses.replace(cast, denoisers=built, left_out=left_out)


def _label(config: ReviewersConfig, cast: Cast) -> int | None:
    if cast.first.training.labels is None:
        if config.image_class is not None:
            raise UserError(
                f"image_class={config.image_class} asks for labels, and {cast.first.training.name} has none"
            )
        return None
    known = np.unique(cast.first.training.own_labels())
    if config.image_class is not None and config.image_class not in known:
        raise UserError(f"image_class={config.image_class}: {cast.first.training.name} has classes {known.tolist()}")
    return int(known[0]) if config.image_class is None else config.image_class


def _headline(cast: Cast, quality: pd.DataFrame, space: FeatureSpace) -> str:
    """Which training-free denoiser's samples are distributed most like real images; copies do not count."""
    few = cast.config.too_few
    if few or "frechet" not in quality:
        return f"Nothing is ranked by its samples: {few or 'none is finite'}."
    against = HELD_OUT if HELD_OUT in set(quality["beside"]) else str(quality["beside"].iloc[0])
    measured = quality[quality["beside"] == against].set_index("samples of").dropna(subset="frechet")
    distance, copies = measured["frechet"], set(measured.index[measured["copied (%)"] > MOSTLY]) | {OPTIMAL}
    free = distance[[name for name in cast.training_free if name in distance.index and name not in copies]]
    if free.empty:
        return "No training-free denoiser but those that copy was sampled."
    best = str(free.idxmin())
    floor = f", {distance[HELD_OUT]:.3g} of as many held-out images" if HELD_OUT in distance.index else ""
    unit = "FID" if space.published else f"Fréchet distance in {space.name} features, which is no FID"
    return (
        f"Of the training-free denoisers that do not copy, {best} makes the samples nearest to {against}: {free[best]:.3g}"
        f" ({unit}), against {distance.get(cast.first.name, float('nan')):.3g} of {cast.first.name}{floor}."
    )


def _sheet(results: Results, cast: Cast, samples: Mapping[str, Images]) -> None:
    first = torch.from_numpy(np.nan_to_num(samples[cast.first.name]))
    neighbours = cast.first.training.tensor(nearest(first, cast.first.training).index[:, 0]).numpy()
    results.add_sheet(
        "samples",
        "Samples from shared starts",
        "One column a start, one row a denoiser. Under the first network's samples: the most similar training images.",
        SAMPLES,
        sample_sheet(samples, neighbours),
    )


def _copies(results: Results, cast: Cast, made: Images) -> None:
    """The claim that sampling the optimal denoiser gives training images."""
    known = torch.from_numpy(made[np.isfinite(made).all((1, 2, 3))])
    share = float((nearest(known, cast.first.training).similarity[:, 0] >= COPY).mean()) if len(known) else float("nan")
    results.claims.append(
        decided(
            "Sampling with the optimal denoiser only reproduces training images.",
            SOURCE,
            f"share of its samples with a pixel cosine of at least {COPY} with a training image",
            {OPTIMAL: share},
            min,
            Rule(at_least=0.95, because="all but a few, which stop between two images on coarse levels"),
            cast.config.too_few,
            "none of its samples is finite",
        )
    )
