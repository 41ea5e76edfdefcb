"""Which training images are memorized: those with few others near them?

Merger & Goldt (arXiv 2606.14390): the local coverage of a training image, the density of the data there times how many images
there are, predicts whether it is memorized; isolated ones are. Measured here on two networks trained on disjoint sets of a
size between memorization and generalization, in two ways: which images are copied by samples, and by how much a network
denoises an image that it was trained on better than the other network does, which has not seen it, on the same noisy input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch

from scorescope.data import ImageSet, load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.lenses.audit.counting import CopyCounter
from scorescope.lenses.audit.unseen import unseen_by_all
from scorescope.lenses.drawing import draw_samples
from scorescope.lenses.methods import training_method
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import mean_intensity
from scorescope.noise import log_spaced_sigmas
from scorescope.papers.newer.drawn import line_of, mean_of
from scorescope.posterior.processes import check_same_images
from scorescope.probes.coverage import local_coverage, rank_correlation, separation, squared_distances
from scorescope.probes.errors import forward_inputs, squared_error
from scorescope.probes.intervals import mean_over_images
from scorescope.probes.proportions import Interval, wilson
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.pairs import NETWORKS, check_sizes, choose_pair, train_pair
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig

Floats = npt.NDArray[np.float64]
SOURCE = "Merger & Goldt 2026, arXiv 2606.14390"
SECTION = "Which images are memorized"
ENOUGH_IMAGES, ENOUGH_OF_EACH, SHOWN, GROUPS = 50, 10, 8, 5
LEAST_AREA, LEAST_CORRELATION = 0.6, 0.2  # the same: an area of 0.6 is a rank-biserial correlation of 0.2


class LocalCoverageConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        data: a store, or the name of a built-in data set.
        size: training images of each of the two networks.
        width: channels of the first block of the UNet.
        training: how each network is trained; those of the demo come with the package.
        levels: noise levels at which the networks denoise.
        sigma_min: the lowest, in units of [-1, 1].
        sigma_max: the highest.
        repeats: noisy versions of each image at every level.
        measurement: how samples are drawn, and how many.
        seed: of the subsets.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    size: int = pydantic.Field(100, ge=3)
    width: int = pydantic.Field(24, ge=1)
    training: TrainingConfig = TrainingConfig(steps=2000, batch=32, learning_rate=2e-3, ema_decay=0.999)
    levels: int = pydantic.Field(5, ge=2)
    sigma_min: pydantic.PositiveFloat = 0.1
    sigma_max: pydantic.PositiveFloat = 2.0
    repeats: int = pydantic.Field(4, ge=1)
    measurement: MeasurementConfig = MeasurementConfig(samples=256)
    seed: int = pydantic.Field(0, ge=0)


@dataclass(frozen=True)
class Memorized:
    """The images of both networks, those of A first.

    Attributes:
        coverage: of each within its own training set, (2N,).
        advantage: decibels by which the network that has seen it denoises it better than the other, (levels, 2N).
        copies: how many samples of its network are copies of it, (2N,).
        sigmas: levels.
        share: network -> its samples that are copies, with an interval.
    """

    coverage: Floats
    advantage: Floats
    copies: npt.NDArray[np.int64]
    sigmas: Floats
    share: Mapping[str, Interval]


@study
class LocalCoverage(Study[LocalCoverageConfig]):
    """Local coverage of training images against their memorization."""

    name = "newer/local-coverage"
    title = "Which images are memorized"
    question = "Are the training images that a network memorizes those with few others near them?"
    paper = SOURCE
    Config = LocalCoverageConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "size": 12,
            "width": 8,
            "training": {"steps": 60, "batch": 16, "ema_decay": 0.9},
            "levels": 2,
            "repeats": 1,
            "measurement": {"samples": 8, "sampler_beta": 0.5, "sigma_end": 0.3},
        },
        "small": {},
        "paper": {
            "size": 1000,
            "width": 64,
            "training": {"steps": 100_000, "batch": 128, "learning_rate": 1e-3},
            "measurement": {"samples": 10_000},
        },
    }

    def run(self, config: LocalCoverageConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError for more images than the data have, or data without test images."""
        data = load_images(config.data)
        check_same_images(data.train)
        check_sizes((config.size,), data.train)
        pair = choose_pair(data.train, config.size, config.seed)
        if data.test is None:
            raise UserError(
                f"{data.train.name} has no test images, and copies are counted beside unseen images: give some"
            )
        unseen = unseen_by_all(pair.training.values(), data.test)
        networks = train_pair(pair, config.width, config.training, workspace)
        found = measure(networks, pair.training, unseen.images, config, workspace)
        landmarks = {"": landmarks_of(pair.training[NETWORKS[0]], workspace, of="network A")}
        results = Results(study=self.name, title=self.title, landmarks=landmarks)
        predicted = separation(-found.coverage, found.copies > 0)
        correlated = rank_correlation(-found.coverage, found.advantage.mean(0))
        _show(results, found)
        _sheet(results, found, pair.training)
        _tables(results, found, predicted, correlated)
        _claims(results, found, predicted, correlated)
        results.headline = _headline(found, predicted, correlated)
        results.add_notes(unseen.notes)
        results.methods |= _methods(config, data.train, unseen.images)
        return results


def measure(
    networks: Mapping[str, NetworkDenoiser],
    training: Mapping[str, ImageSet],
    unseen: ImageSet,
    config: LocalCoverageConfig,
    workspace: Workspace,
) -> Memorized:
    """Coverage, advantage and copies of every training image of two networks."""
    sigmas = log_spaced_sigmas(config.levels, config.sigma_min, config.sigma_max).numpy()
    advantage, copies, share = [], [], {}
    for own, other in (NETWORKS, NETWORKS[::-1]):
        images = training[own]
        errors = {
            name: workspace.computed(
                f"{name} on images of {own}", functools.partial(_errors, networks[name], images, sigmas, config)
            )
            for name in (own, other)
        }
        advantage.append(10 * np.log10(errors[other] / errors[own]))
        samples = workspace.computed(f"samples/{own}", functools.partial(_samples, networks[own], images, config))
        counted = CopyCounter(images, unseen, config.seed).count(torch.from_numpy(samples))
        copies.append(np.bincount(counted.nearest[counted.above], minlength=images.stored))
        share[own] = counted.share
    coverage = np.concatenate([local_coverage(training[name]) for name in NETWORKS])
    return Memorized(coverage, np.concatenate(advantage, 1), np.concatenate(copies), sigmas, share)


def _errors(network: NetworkDenoiser, images: ImageSet, sigmas: Floats, config: LocalCoverageConfig) -> Floats:
    """Mean squared error a pixel of every image at every level, over the repeats, (levels, N)."""
    clean = images.tensor()
    total = np.zeros((len(sigmas), len(clean)))
    with torch.no_grad():
        for repeat in range(config.repeats):
            inputs = forward_inputs(clean, list(sigmas), config.measurement.seed + repeat)
            for level, (noisy, sigma) in enumerate(zip(inputs, sigmas, strict=True)):
                total[level] += squared_error(network(noisy, float(sigma)), clean).numpy()
    return total / config.repeats


def _samples(network: NetworkDenoiser, images: ImageSet, config: LocalCoverageConfig) -> npt.NDArray[np.float32]:
    centre = mean_intensity(images, config.measurement.seed)
    drawn = draw_samples(network, config.measurement.samples, centre, config.measurement, images)
    return np.asarray(drawn.images.numpy())


def _groups(coverage: Floats) -> list[npt.NDArray[np.int64]]:
    """Images in five groups of equal size, from isolated to covered."""
    return [group for group in np.array_split(np.argsort(coverage, kind="stable"), GROUPS) if group.size]


def _show(results: Results, found: Memorized) -> None:
    groups = _groups(found.coverage)
    x = [float(found.coverage[group].mean()) for group in groups]
    means = [mean_of(found.advantage.mean(0)[group]) for group in groups]
    copied = [wilson(float((found.copies[group] > 0).mean()), len(group)) for group in groups]
    panels = [
        charts.Panel([line_of("copied", x, copied, palette.RED)], "share of images", "copied by a sample"),
        charts.Panel(
            [line_of("better denoised", x, means, palette.BLUE)],
            "advantage (dB)",
            "better denoised by the network that has seen them",
        ),
    ]
    results.add_chart(
        "coverage",
        "Isolated images and covered ones",
        "The training images of both networks in five groups, from those with few others near them (left) to those with many:"
        " how many of them samples copy, and by how much the network trained on them denoises them better than the other."
        " Bands: 95 % intervals.",
        SECTION,
        charts.lines(panels, "local coverage, ln of neighbours", x_log=False),
    )
    halves = np.array_split(np.argsort(found.coverage, kind="stable"), 2)
    series = []
    for name, half, colour in (("isolated half", halves[0], palette.RED), ("covered half", halves[1], palette.GREEN)):
        mean = mean_over_images(found.advantage[:, half])
        series.append(charts.Series(name, found.sigmas, mean.value, mean.low, mean.high, colour=colour))
    results.add_chart(
        "levels",
        "At which noise levels training images are better denoised",
        "By how much the network that has seen an image denoises it better than the one that has not, for the more isolated and"
        " the more covered half of the images. Bands: 95 % intervals over images.",
        SECTION,
        charts.lines(charts.Panel(series, "advantage (dB)", levels={0.0: "seen and unseen alike"})),
    )


def _sheet(results: Results, found: Memorized, training: Mapping[str, ImageSet]) -> None:
    """The most isolated and the most covered images of network A, each over its nearest other training image."""
    images = training[NETWORKS[0]]
    order = np.argsort(found.coverage[: images.stored], kind="stable")
    nearest = squared_distances(images).argmin(1)
    shown = min(SHOWN, images.stored // 2)
    rows = [order[:shown], nearest[order[:shown]], order[-shown:], nearest[order[-shown:]]]
    results.add_sheet(
        "images",
        "The most isolated images, and the most covered",
        "Of network A, each over the nearest other image of its training set.",
        SECTION,
        pictures.grid(
            np.stack([images.tensor(row).numpy() for row in rows]),
            row_labels=["isolated", "nearest", "covered", "nearest"],
        ),
    )


def _tables(results: Results, found: Memorized, predicted: Interval, correlated: Interval) -> None:
    levels = [rank_correlation(-found.coverage, row) for row in found.advantage]
    often = rank_correlation(-found.coverage, found.copies)
    rows = [("copied by a sample or not", "all", "area under the curve", predicted)]
    rows += [("how often copied", "all", "rank correlation", often)]
    rows += [("better denoised", "all", "rank correlation", correlated)]
    rows += [
        ("better denoised", f"{sigma:.2g}", "rank correlation", one)
        for sigma, one in zip(found.sigmas, levels, strict=True)
    ]
    results.add_table(
        "predicted",
        "What isolation predicts",
        "How well minus the local coverage predicts the memorization of an image, with 95 % bootstrap intervals over images; an"
        " area of 0.5 and a correlation of 0 are chance.",
        pd.DataFrame(
            [{"of an image": what, "σ": level, "by": by, "value": one.words()} for what, level, by, one in rows]
        ),
    )
    groups = _groups(found.coverage)
    advantage = [mean_of(found.advantage.mean(0)[group]) for group in groups]
    results.add_table(
        "groups",
        "From isolated to covered images",
        "Fifths of the images of both networks; intervals are 95 %.",
        pd.DataFrame(
            {
                "coverage": [float(found.coverage[group].mean()) for group in groups],
                "images": [len(group) for group in groups],
                "copied": [wilson(float((found.copies[group] > 0).mean()), len(group)).words() for group in groups],
                "copies": [int(found.copies[group].sum()) for group in groups],
                "advantage (dB)": [one.words() for one in advantage],
            }
        ),
        formats={"coverage": ".2f"},
    )


def _claims(results: Results, found: Memorized, predicted: Interval, correlated: Interval) -> None:
    count = len(found.coverage)
    copied = int((found.copies > 0).sum())
    few = f"{count} images; at least {ENOUGH_IMAGES} are asked for" if count < ENOUGH_IMAGES else ""
    rare = ""
    if min(copied, count - copied) < ENOUGH_OF_EACH:
        rare = f"{copied} of {count} images are copied; {ENOUGH_OF_EACH} of either kind are asked for"
    for sentence, quantity, one, rule, note in (
        (
            "Isolated training images are the ones that samples copy.",
            "probability that an image that is copied is more isolated than one that is not",
            predicted,
            Rule(at_least=LEAST_AREA, because="0.1 above chance"),
            few or rare,
        ),
        (
            "Isolated training images are the ones that a network denoises better than one that has not seen them.",
            "rank correlation of isolation with the advantage in dB, over the noise levels",
            correlated,
            Rule(at_least=LEAST_CORRELATION, because="as much as 0.1 above chance for the first"),
            few,
        ),
    ):
        known = not note and math.isfinite(one.value)
        results.claims.append(
            Claim(
                sentence,
                SOURCE,
                quantity,
                one.value if known else None,
                rule,
                interval=(one.low, one.high) if known else None,
                note=note or ("" if known else "the number is not defined here"),
            )
        )


def _headline(found: Memorized, predicted: Interval, correlated: Interval) -> str:
    copied = " and ".join(f"{one.value:.0%}" for one in found.share.values())
    said = f"Of the samples of two networks on {len(found.coverage) // 2:,} images each {copied} are copies. "
    if math.isfinite(predicted.value):
        said += f"An image that is copied is more isolated than one that is not with probability {predicted.words()}. "
    return (
        f"{said}How isolated an image is has a rank correlation of {correlated.words()} with how much better the network that"
        " has seen it denoises it."
    )


def _methods(config: LocalCoverageConfig, images: ImageSet, unseen: ImageSet) -> dict[str, str]:
    what = config.measurement
    return {
        "Data": f"{images.name}: two disjoint sets of {config.size:,} images, drawn with seed {config.seed}; {unseen.stored:,}"
        " images that neither network has seen.",
        "Networks": f"Bias-free, blind UNet of width {config.width}. {training_method(config.training)}",
        "Coverage": "ln Σ exp(−‖x − x'‖² / 2h²) over the other images x' of the same training set; h is the median distance of"
        " an image to its nearest other one.",
        "Advantage": f"10 log10 of the other network's squared error over the own one's, on the same {config.repeats} noisy"
        f" versions of the image at each of {config.levels} levels from σ = {config.sigma_max:g} to {config.sigma_min:g}; mean"
        " over levels.",
        "Copies": f"{what.samples} samples of each network by the blind ascent; a sample counts for the training image it is"
        " most similar to if it lies nearer to the training set than 99 % of unseen images do (the audit's count in pixels).",
        "Intervals": "95 %, bootstrap over images. They do not say how far another training run would change a number.",
    }
