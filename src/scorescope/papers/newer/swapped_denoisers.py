"""At which noise levels a network memorizes: another denoiser takes its place in one interval of them at a time.

arXiv 2602.17846: sample with a network that memorizes, let another denoiser take its place in one interval of noise levels,
and count copies. Where that prevents copies, memorization sits: at medium noise. Measured here in both directions, out of a
memorizing network's sampling and into another denoiser's, with two that take its place: a network trained on many other
images, and the Gaussian of those images, which needs no training. All runs start from the same noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch
from torch import Tensor

from scorescope.data import ImageSet, load_images
from scorescope.data.resolution import at_side
from scorescope.denoisers import Denoiser, denoisers
from scorescope.denoisers.swapped import SwappedDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.audit.counting import Copies, CopyCounter
from scorescope.noise import edm_sigmas
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, trained_on
from scorescope.papers.newer.drawn import line_of, mean_of
from scorescope.posterior.processes import check_same_images
from scorescope.probes.intervals import LEVEL, redrawn_weights
from scorescope.probes.proportions import Interval
from scorescope.sampling import heun, last
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
SOURCE = "arXiv 2602.17846"
SECTION = "Where memorization sits"
MEMORIZING, NETWORK, OTHER_NETWORK = "memorizing network", "network", "other network"
OUT, IN = "out", "in"
DIRECTIONS = {OUT: "taken out of its sampling", IN: "put into the other's sampling"}
ENOUGH_SAMPLES, MOST_COPIES, FEWEST_COPIES = 64, 0.25, 0.5
SHOWN = 8


class SwappedDenoisersConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        data: a store, or the name of a built-in data set.
        side: to which images are averaged, pixels; None to leave them as they are.
        few: training images of the network that memorizes.
        many: training images of what takes its place, none of them among the few.
        network: both networks.
        others: what takes its place: ``network``, or names of denoisers without training.
        edges: noise levels between the intervals; the first interval is all below the first, the last all above the last.
        levels: of the sampler.
        sigma_min: the lowest, in units of [-1, 1].
        sigma_max: the highest.
        samples: from each run.
        seed: of the images and the noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    side: pydantic.PositiveInt | None = 14
    few: int = pydantic.Field(100, ge=3)
    many: int = pydantic.Field(20_000, ge=3)
    network: NetworkSettings = NetworkSettings.model_validate(
        {
            "architecture": "mlp",
            "arguments": {"width": 96, "depth": 3},
            "training": {
                "steps": 12_000,
                "batch": 64,
                "learning_rate": 2e-3,
                "objective": {"noise": "log-uniform", "sigma_min": 0.01, "sigma_max": 80.0, "weight": "edm"},
            },
        }
    )
    others: tuple[str, ...] = pydantic.Field((NETWORK, "gaussian"), min_length=1)
    edges: tuple[pydantic.PositiveFloat, ...] = pydantic.Field((0.135, 0.37, 1.0, 2.7, 7.4), min_length=2)
    levels: int = pydantic.Field(24, ge=4)
    sigma_min: pydantic.PositiveFloat = 0.01
    sigma_max: pydantic.PositiveFloat = 80.0
    samples: int = pydantic.Field(256, ge=4)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("edges")
    @classmethod
    def _increasing(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if list(edges) != sorted(set(edges)):
            raise ValueError("edges must increase")
        return edges

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """(low, high) of every interval, from low noise to high."""
        return list(itertools.pairwise((0.0, *self.edges, math.inf)))

    @property
    def centres(self) -> Floats:
        """Where charts draw the intervals: their geometric middles, the open ones as far out as their neighbours."""
        edges = np.array(self.edges)
        inner = np.sqrt(edges[:-1] * edges[1:])
        return np.concatenate([[edges[0] ** 2 / inner[0]], inner, [edges[-1] ** 2 / inner[-1]]])


@dataclass(frozen=True)
class Runs:
    """What was sampled with one denoiser in the memorizing network's place.

    Attributes:
        other: its name.
        alone: the copies among its own samples.
        swapped: direction -> the copies for every interval.
    """

    other: str
    alone: Copies
    swapped: Mapping[str, list[Copies]]

    @property
    def word(self) -> str:
        """What charts and tables call it."""
        return OTHER_NETWORK if self.other == NETWORK else self.other


@study
class SwappedDenoisers(Study[SwappedDenoisersConfig]):
    """Copies after a denoiser was swapped in one interval of noise levels."""

    name = "newer/swapped-denoisers"
    title = "Where memorization sits"
    question = "At which noise levels must a network be replaced for its samples to be no copies?"
    paper = SOURCE
    Config = SwappedDenoisersConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "side": None,
            "few": 20,
            "many": 600,
            "network": {"arguments": {"width": 32, "depth": 2}, "training": {"steps": 200, "batch": 32}},
            "edges": (0.3, 2.0),
            "levels": 6,
            "samples": 8,
        },
        "small": {},
        "paper": {"side": 28, "network": {"architecture": "ddpm++", "arguments": {}, "training": {"steps": 60_000}}},
    }

    def run(self, config: SwappedDenoisersConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if the data have too few images, or a denoiser does not take them."""
        for name in config.others:
            if name != NETWORK:
                denoisers[name]  # an unknown name is refused before anything is trained
        few, many, unseen = _sets(config)
        check_same_images(few)
        trained = trained_on({"few": few, "many": many}, config.network, workspace)
        cast: dict[str, Denoiser] = {MEMORIZING: trained["few"]}
        for name in config.others:
            cast[name] = trained["many"] if name == NETWORK else denoisers[name].build(many)
        counter = CopyCounter(few, unseen, config.seed)
        alone = _counted(workspace, MEMORIZING, cast[MEMORIZING], counter, config)
        found = []
        for name in track(config.others, "swapping denoisers"):
            swapped: dict[str, list[Copies]] = {}
            for direction in DIRECTIONS:
                outer, inner = (MEMORIZING, name) if direction == OUT else (name, MEMORIZING)
                swapped[direction] = [
                    _counted(
                        workspace,
                        f"{name} {direction} {low:g}",
                        SwappedDenoiser(cast[outer], cast[inner], low, high),
                        counter,
                        config,
                    )
                    for low, high in config.intervals
                ]
            found.append(Runs(name, _counted(workspace, name, cast[name], counter, config), swapped))
        landmarks = {"": landmarks_of(few, workspace, of=f"the {config.few} images")}
        results = Results(study=self.name, title=self.title, landmarks=landmarks)
        _show(results, alone, found, config)
        _show_samples(results, found[0], config, few, workspace)
        _table(results, alone, found, config)
        for runs in found:
            _claims(results, alone, runs, config)
        results.headline = _headline(alone, found, config)
        results.add_notes(counter.sets.notes)
        results.methods |= _methods(config, few, many, unseen, alone)
        return results


def _sets(config: SwappedDenoisersConfig) -> tuple[ImageSet, ImageSet, ImageSet]:
    """The few, the many, and images that neither network has seen."""
    data = load_images(config.data)
    order = np.random.default_rng(config.seed).permutation(data.train.stored)
    used = config.few + config.many
    rest = order[used:]
    if used > len(order) or (data.test is None and len(rest) < 3):
        raise UserError(
            f"few={config.few} and many={config.many} do not fit into the {len(order)} images of {data.train.name}, with some"
            " left that no network is trained on: set them to less"
        )
    unseen = data.test if data.test is not None else data.train.subset(rest)
    sets = [data.train.subset(order[: config.few]), data.train.subset(order[config.few : used]), unseen]
    few, many, left = (one if config.side is None else at_side(one, config.side) for one in sets)
    return few, many, left


def _counted(
    workspace: Workspace, name: str, denoiser: Denoiser, counter: CopyCounter, config: SwappedDenoisersConfig
) -> Copies:
    return counter.count(torch.from_numpy(_samples(workspace, name, denoiser, config)))


def _samples(
    workspace: Workspace, name: str, denoiser: Denoiser | None, config: SwappedDenoisersConfig
) -> npt.NDArray[np.float32]:
    """The samples of a run, (n, C, H, W), from the same noise for all; a cell of the run."""

    def drawn() -> npt.NDArray[np.float32]:
        assert denoiser is not None
        generator = torch.Generator().manual_seed(config.seed)
        start = config.sigma_max * torch.randn((config.samples, *denoiser.image_shape), generator=generator)
        sample: Tensor = last(
            heun(denoiser, start, edm_sigmas(config.levels, config.sigma_min, config.sigma_max))
        ).noisy
        return np.asarray(sample.float().numpy())

    found: npt.NDArray[np.float32] = workspace.computed(f"samples/{name}", drawn)
    return found


def _span(low: float, high: float) -> str:
    if low == 0:
        return f"below {high:g}"
    return f"above {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def _show(results: Results, alone: Copies, found: list[Runs], config: SwappedDenoisersConfig) -> None:
    for key, title, y_label in (
        ("copies", "Copies after a swap in one interval", "share of copies"),
        ("distance", "Distance to the nearest training image after a swap", "root mean square a pixel"),
    ):
        panels = []
        for direction, words in DIRECTIONS.items():
            series = []
            for runs in found:
                swapped = runs.swapped[direction]
                found_here = [one.share if key == "copies" else mean_of(one.distance) for one in swapped]
                series.append(line_of(f"with {runs.word}", config.centres, found_here, _colour(runs.other)))
            levels = {}
            if direction == OUT:
                levels = {alone.share.value if key == "copies" else float(alone.distance.mean()): "nothing swapped"}
            panels.append(charts.Panel(series, y_label, f"{MEMORIZING} {words}", levels=levels))
        results.add_chart(
            key,
            title,
            "Every point is a run in which one interval of noise levels is denoised by the other of two denoisers; above, the"
            " memorizing network is replaced there, below it replaces the other. Bands: 95 % intervals.",
            SECTION,
            charts.lines(panels),
            folded=key == "distance",
        )


def _colour(name: str) -> str:
    return palette.BY_NAME.get(name, palette.TEAL)


def _show_samples(
    results: Results, runs: Runs, config: SwappedDenoisersConfig, few: ImageSet, workspace: Workspace
) -> None:
    """Samples from the same noise, one row a run, and the training images that are nearest to those without a swap."""
    names = [MEMORIZING, *(f"{runs.other} {OUT} {low:g}" for low, _ in config.intervals), runs.other]
    labels = ["nothing swapped", *(f"σ {_span(*one)}" for one in config.intervals), f"{runs.word} alone"]
    rows = [_samples(workspace, name, None, config)[:SHOWN] for name in names]
    own = few.tensor().flatten(1)
    nearest = torch.cdist(torch.from_numpy(rows[0]).flatten(1), own).argmin(1)
    results.add_sheet(
        "samples",
        f"The same noise, {runs.word} in one interval",
        "Top: the training images nearest to what the memorizing network makes of the noise; below what is made when"
        f" the {runs.word} takes its place at the noise levels of the row.",
        SECTION,
        pictures.grid(
            np.stack([few.tensor(nearest.numpy()).numpy(), *rows]), row_labels=["nearest training image", *labels]
        ),
    )


def _table(results: Results, alone: Copies, found: list[Runs], config: SwappedDenoisersConfig) -> None:
    rows: list[dict[str, object]] = []

    def add(outer: str, inner: str, span: str, copies: Copies) -> None:
        rows.append(
            {
                "sampling of": outer,
                "swapped for": inner,
                "σ": span,
                "share of copies": copies.share.words(),
                "distance": mean_of(copies.distance).words(".3f"),
            }
        )

    add(MEMORIZING, "–", "–", alone)
    for runs in found:
        add(runs.word, "–", "–", runs.alone)
    for runs in found:
        for direction in DIRECTIONS:
            outer, inner = (MEMORIZING, runs.word) if direction == OUT else (runs.word, MEMORIZING)
            for interval, copies in zip(config.intervals, runs.swapped[direction], strict=True):
                add(outer, inner, _span(*interval), copies)
    results.add_table(
        "runs",
        "Every run",
        "Share of copies by the audit's calibrated count, and root mean square distance a pixel to the nearest training image,"
        " with 95 % intervals.",
        pd.DataFrame(rows),
    )


def middle_advantage(before: npt.ArrayLike, after: npt.ArrayLike) -> Interval:
    """By how much more the strongest inner interval changes the share of copies than the stronger of the two at the ends.

    Args:
        before: whether each sample is a copy without a swap, (n,).
        after: the same for K intervals, from low noise to high, (K, n), samples from the same noise.

    Returns:
        The largest change over inner intervals less the largest over the two outer ones, with its 95 % bootstrap interval over
        samples, in each draw of which the strongest are chosen anew. Change is towards fewer copies: before less after.
    """
    first, rows = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    change = first[None] - rows

    def advantage(effects: Floats) -> Floats:
        return np.asarray(effects[..., 1:-1].max(-1) - np.maximum(effects[..., 0], effects[..., -1]))

    value = float(advantage(change.mean(1)))
    drawn = advantage(redrawn_weights(len(first)) @ change.T)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def _untested(alone: Copies, runs: Runs, config: SwappedDenoisersConfig) -> str:
    if config.samples < ENOUGH_SAMPLES:
        return f"{config.samples} samples a run; at least {ENOUGH_SAMPLES} are asked for"
    said = "{:.0%} of the samples of {} are copies; at {} {:.0%} are asked for"
    if alone.share.value < FEWEST_COPIES:
        return said.format(alone.share.value, f"the {MEMORIZING}", "least", FEWEST_COPIES)
    if runs.alone.share.value > MOST_COPIES:
        return said.format(runs.alone.share.value, f"the {runs.word}", "most", MOST_COPIES)
    return ""


def _claims(results: Results, alone: Copies, runs: Runs, config: SwappedDenoisersConfig) -> None:
    """The strongest interval is neither that of the highest noise nor that of the lowest, in either direction."""
    note = _untested(alone, runs, config)
    taken = middle_advantage(alone.above, [one.above for one in runs.swapped[OUT]])
    put = middle_advantage(-1.0 * runs.alone.above, [-1.0 * one.above for one in runs.swapped[IN]])
    for sentence, quantity, found in (
        (
            "Memorization sits at medium noise: replacing the memorizing network there prevents most copies.",
            "fewer copies by the strongest inner interval than by the stronger end",
            taken,
        ),
        (
            "Memorization sits at medium noise: the memorizing network makes most copies in another's sampling there.",
            "more copies by the strongest inner interval than by the stronger end",
            put,
        ),
    ):
        results.claims.append(
            Claim(
                sentence,
                SOURCE,
                f"{quantity}, share of samples, {runs.word}",
                None if note else found.value,
                Rule(above=0.0, because="the strongest interval is not at an end"),
                interval=None if note else (found.low, found.high),
                note=note,
            )
        )


def _strongest(before: Copies, after: list[Copies], config: SwappedDenoisersConfig, sign: int) -> tuple[str, float]:
    effects = [sign * (before.share.value - one.share.value) for one in after]
    place = int(np.argmax(effects))
    return _span(*config.intervals[place]), after[place].share.value


def _headline(alone: Copies, found: list[Runs], config: SwappedDenoisersConfig) -> str:
    parts = [f"{alone.share.value:.0%} of the memorizing network's samples are copies."]
    for runs in found:
        span, left = _strongest(alone, runs.swapped[OUT], config, 1)
        there, made = _strongest(runs.alone, runs.swapped[IN], config, -1)
        parts.append(
            f"With the {runs.word} in its place for σ {span} {left:.0%} are, the fewest of all intervals. In the sampling of"
            f" the {runs.word}, {runs.alone.share.value:.0%} copies, it makes the most for σ {there}: {made:.0%}."
        )
    return " ".join(parts)


def _methods(
    config: SwappedDenoisersConfig, few: ImageSet, many: ImageSet, unseen: ImageSet, alone: Copies
) -> dict[str, str]:
    return {
        "Images": f"{few.name}: {few.stored} for the memorizing network, {many.stored} others for what takes its place;"
        f" {unseen.stored} that neither has seen calibrate the count.",
        "Networks": f"Both: {config.network.said}.",
        "Sampling": f"Heun's method on {config.levels} EDM levels from σ = {config.sigma_max:g} to {config.sigma_min:g},"
        f" {config.samples} samples a run, from the same noise in every run.",
        "Copies": f"The audit's count in pixels, by the {alone.statistic}: samples that are nearer to the training set than"
        f" {1 - alone.chance:.1%} of unseen images are, less what chance puts there.",
        "Rule": "Inner intervals are all but the lowest and the highest; what each changes is the share of samples above that"
        " level, before less after. Intervals are bootstraps over samples, the same draws for all runs.",
        "Seed": f"{config.seed} for images and noise.",
    }
