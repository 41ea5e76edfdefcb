"""Quality of every denoiser's samples, beside training images and beside images that were held out.

Small sets are always further apart than large ones: a Fréchet distance between 64 and 10,000 images says little by itself.
So held-out images take part as if they were a denoiser, as many as there are samples: what they get is what perfect
samples would. Against training images, samples that are copies get better numbers than held-out images do; against
held-out images they do not. How many are copies stands beside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from scorescope.data.images import ImageSet
from scorescope.papers.niedoba2025.samples import Cast, Images
from scorescope.probes.audit.copies import CHANCE, copied_share
from scorescope.probes.features import Features, FeatureSpace, vectors_of
from scorescope.probes.features_classes import FeatureClasses
from scorescope.probes.quality import inception_score, measure_quality
from scorescope.probes.similarity import nearest
from scorescope.study import charts
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

QUALITY = "Quality of the samples"
TRAINING, HELD_OUT = "training images", "held-out images"
CLASSIFIED_IMAGES, CHECKED_IMAGES = 5000, 1000
SEED_OF_CLASSES, SEED_OF_REAL = 11, 12


@dataclass(frozen=True)
class Real:
    """Real images that samples are laid beside.

    Attributes:
        vectors: kind of images -> (N, F).
        unseen: held-out images that stand in the place of samples, none of them among `vectors`, (n, C, H, W); None where
            there are no held-out images.
    """

    vectors: dict[str, Features]
    unseen: Images | None


def real_images(cast: Cast, space: FeatureSpace, most: int, workspace: Workspace) -> Real:
    """At most `most` training images, and as many held-out ones, as vectors; others in the place of samples.

    As many held-out images as there are samples, or half of them, are taken away for that.
    """
    training, held_out = cast.first.training, cast.comparison.held_out
    beside, unseen = {TRAINING: _drawn(training, cast, 0)[:most]}, None
    if held_out is not None and held_out.stored > 1:
        order = _drawn(held_out, cast, 1)
        count = min(cast.config.samples, held_out.stored // 2)
        unseen, beside[HELD_OUT] = held_out.tensor(order[:count]).numpy(), order[count : count + most]
    vectors = {}
    for kind, entries in beside.items():
        images = (training if kind == TRAINING or held_out is None else held_out).subset(np.sort(entries))
        vectors[kind] = workspace.computed(
            f"vectors/{kind}",
            lambda: vectors_of(space, images, device=workspace.device),  # noqa: B023
        )
    return Real(vectors, unseen)


def _drawn(images: ImageSet, cast: Cast, place: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(mixed(cast.config.seed, SEED_OF_REAL, place)).permutation(images.stored)


def classes_for_score(cast: Cast, space: FeatureSpace, workspace: Workspace) -> tuple[FeatureClasses | None, str]:
    """A classifier of labelled training images, None where they have no labels; and what the score's classes are, in words."""
    own = "the classes of the feature network itself" if space.classifies else ""
    training = cast.first.training
    if training.labels is None or len(np.unique(training.own_labels())) < 2:
        return None, own
    order = np.random.default_rng(mixed(cast.config.seed, SEED_OF_CLASSES)).permutation(training.stored)
    vectors, labels = _labelled(training.subset(order[:CLASSIFIED_IMAGES]), space, workspace)
    classes = FeatureClasses(vectors, labels)
    said = (
        f"the {len(classes.classes)} classes of the data, by a logistic regression on {space.name} features of {len(labels)}"
        f" labelled training images: at most {len(classes.classes)}, and not comparable with published inception scores"
    )
    if len(others := order[CLASSIFIED_IMAGES : CLASSIFIED_IMAGES + CHECKED_IMAGES]):
        right = classes.accuracy(*_labelled(training.subset(others), space, workspace))
        said += f"; it is right on {right:.0%} of {len(others)} others"
    return classes, own or said


def _labelled(images: ImageSet, space: FeatureSpace, workspace: Workspace) -> tuple[Features, npt.NDArray[np.integer]]:
    return vectors_of(space, images, device=workspace.device), images.own_labels()


class QualityMeasure:
    """Measures one set of samples after the other, so that only one is in memory; each is a cell of the run.

    Args:
        cast: what was sampled.
        space: of the features.
        classes: tells classes where the space does not.
        most: real images of each kind, at most.
        workspace: of the run.
    """

    def __init__(
        self, cast: Cast, space: FeatureSpace, classes: FeatureClasses | None, most: int, workspace: Workspace
    ) -> None:
        self.cast = cast
        self.space = space
        self.classes = classes
        self.workspace = workspace
        self.real = real_images(cast, space, most, workspace)
        unseen = self.real.unseen
        self.reference = None if unseen is None else self._nearest(torch.from_numpy(unseen))

    def of(self, name: str, made: Images) -> list[dict[str, object]]:
        """One row for every kind of real images that the samples (n, C, H, W) are laid beside."""
        rows: list[dict[str, object]] = self.workspace.computed(f"quality/{name}", lambda: self._rows(name, made))
        return rows

    def of_held_out(self) -> list[dict[str, object]]:
        """The same for held-out images in the place of samples; nothing where there are none."""
        return [] if self.real.unseen is None else self.of(HELD_OUT, self.real.unseen)

    def _rows(self, name: str, made: Images) -> list[dict[str, object]]:
        known = torch.from_numpy(made[np.isfinite(made).all((1, 2, 3))])
        row: dict[str, object] = {"samples of": name, "finite": len(known)}
        if len(known) < 2:
            return [{**row, "beside": kind} for kind in self.real.vectors]
        device, seed = self.workspace.device, self.cast.config.seed
        similarity = self._nearest(known)
        row["nearest"] = float(similarity.mean())
        row |= {"copied (%)": float("nan"), "copied 95 %": "–"}
        if self.reference is not None:
            copied = copied_share(similarity, self.reference).share.scaled(100)
            row |= {"copied (%)": copied.value, "copied 95 %": f"{copied.low:.0f} to {copied.high:.0f}"}
        vectors = vectors_of(self.space, known, device=device)
        row["score"] = _score(self.space, self.classes, known, vectors, seed, self.workspace)
        return [
            {**row, "beside": kind, **asdict(measure_quality(there, vectors, seed, device=device))}
            for kind, there in self.real.vectors.items()
        ]

    def _nearest(self, images: torch.Tensor) -> Features:
        """Pixel cosine of each image with its nearest training image, (n,)."""
        return nearest(images, self.cast.first.training).similarity[:, 0]


def _score(
    space: FeatureSpace,
    classes: FeatureClasses | None,
    images: torch.Tensor,
    vectors: Features,
    seed: int,
    workspace: Workspace,
) -> float:
    if space.classifies:
        return inception_score(vectors_of(space.log_probabilities, images, device=workspace.device), seed)[0]
    if classes is None:
        return float("nan")
    return inception_score(classes.log_probabilities(vectors), seed)[0]


def show_quality(results: Results, cast: Cast, frame: pd.DataFrame, space: FeatureSpace, said_of_classes: str) -> None:
    """Charts and tables of the rows of `QualityMeasure`, labelled with the feature space that they are measured in."""
    distance, kernel = ("FID", "KID") if space.published else (f"Fréchet distance ({space.name})", "KD")
    score = "IS" if space.classifies else "class score"
    against = HELD_OUT if HELD_OUT in set(frame["beside"]) else TRAINING
    shown = frame[frame["beside"] == against].set_index("samples of")
    comparable = (
        f"{space.name} features"
        if space.published
        else f"{space.name} features, so these are not FIDs and cannot be compared with any"
    )
    floor = ""
    if HELD_OUT in shown.index:
        floor = f" The bar of {HELD_OUT} is what {dict(shown['finite'])[HELD_OUT]} other real images get."
    results.add_chart(
        "frechet",
        f"{distance} to {against}",
        f"Lower is better. {cast.config.samples} samples of each denoiser beside {against}, in {comparable}.{floor}",
        QUALITY,
        charts.bars({str(name): float(value) for name, value in shown["frechet"].items()}, distance),
    )
    results.add_chart(
        "coverage",
        f"Coverage of {against}",
        "Share of the real images that have a sample in their neighbourhood (Naeem et al. 2020): low where samples are unlike"
        f" real images, and where they are all alike. {cast.config.samples} samples of each denoiser.",
        QUALITY,
        charts.bars({str(name): float(value) for name, value in shown["coverage"].items()}, "coverage", form=".2f"),
    )
    short = "FID" if space.published else "FD"
    columns = {"frechet": short, "kernel": kernel, "kernel_deviation": f"{kernel} ±"}
    numbers = ("precision", "recall", "density", "coverage")
    results.add_table(
        "quality",
        "Samples beside real images",
        f"All in {comparable}. {short}, {kernel}: 0 is best, and small sets are worse than large ones; precision, recall:"
        " k = 3; density, coverage: k = 5.",
        frame[["samples of", "beside", *columns, *numbers]].rename(columns=columns),
        formats=dict.fromkeys(numbers, ".3f"),
    )
    results.add_table(
        "samples",
        "Samples by themselves",
        f"{score.capitalize()}: {said_of_classes or 'not measured, as nothing tells classes'}. Nearest: mean pixel cosine with"
        f" the nearest training image. Copied: the share that is nearer to a training image than {1 - CHANCE:.0%} of held-out"
        " images are, less what chance brings there, with its interval. Finite: trajectories that stayed within all bounds.",
        frame.drop_duplicates("samples of")[
            ["samples of", "score", "nearest", "copied (%)", "copied 95 %", "finite"]
        ].rename(columns={"score": score}),
        formats={"nearest": ".3f", "copied (%)": ".0f", score: ".2f"},
    )
    results.methods["Sample quality"] = (
        f"{space.description}. FID, KID and IS by torchmetrics, precision, recall, density and coverage from exact"
        " neighbours."
        + (
            ""
            if space.published
            else " Without an Inception network no number here is comparable with a published FID."
        )
    )
