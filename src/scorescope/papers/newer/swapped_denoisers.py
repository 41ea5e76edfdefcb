"""At which noise levels a network memorizes: another denoiser takes its place in one interval of them at a time.

arXiv 2602.17846: sample with a network that memorizes, let another denoiser take its place in one interval of noise levels,
and count copies. Where that prevents copies, memorization sits: at medium noise. Measured here in both directions, out of the
memorizing denoiser's sampling and into another's. What memorizes is the optimal denoiser of a few images, which is what a
network that memorizes approaches, or a network; what takes its place is a network trained on many other images, and the
Gaussian of those images, which needs no training. All runs start from the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from scorescope.lenses.audit.counting import Copies
from scorescope.papers.newer.drawn import line_of, mean_of
from scorescope.papers.newer.swapped_runs import (
    IN,
    MEMORIZING,
    NETWORK,
    OUT,
    PATH,
    AllRuns,
    Runs,
    SwappedDenoisersConfig,
    all_runs,
)
from scorescope.probes.intervals import LEVEL, redrawn_weights
from scorescope.probes.proportions import Interval
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
SOURCE = "arXiv 2602.17846"
SECTION = "Where memorization sits"
DIRECTIONS = {OUT: "taken out of its sampling", IN: "put into the other's sampling"}
ENOUGH_SAMPLES, MOST_COPIES, FEWEST_COPIES = 64, 0.25, 0.5
SHOWN, NOTICEABLE = 8, 0.02


@study
class SwappedDenoisers(Study[SwappedDenoisersConfig]):
    """Copies after a denoiser was swapped in one interval of noise levels."""

    name = "newer/swapped-denoisers"
    title = "Where memorization sits"
    question = "At which noise levels must a denoiser that memorizes be replaced for its samples to be no copies?"
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
        "paper": {
            "side": 28,
            "memorizing": NETWORK,
            "network": {"architecture": "ddpm++", "arguments": {}, "training": {"steps": 60_000}},
        },
    }

    def run(self, config: SwappedDenoisersConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if the data have too few images, or a denoiser does not take them."""
        made = all_runs(config, workspace)
        alone = made.alone.copies
        landmarks = {"": landmarks_of(made.few, workspace, of=f"the {made.few.stored} images")}
        results = Results(study=self.name, title=self.title, landmarks=landmarks)
        _show(results, alone, made.runs, config)
        _show_samples(results, made, config)
        _table(results, alone, made.runs, config)
        for runs in made.runs:
            _claims(results, alone, runs, config)
        results.headline = _headline(alone, made.runs, config)
        results.add_notes(made.notes)
        results.methods |= _methods(config, made)
        return results


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
                swapped = runs.copies(direction)
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
            " memorizing denoiser is replaced there, below it replaces the other. Bands: 95 % intervals.",
            SECTION,
            charts.lines(panels),
            folded=key == "distance",
        )


def _colour(name: str) -> str:
    return palette.BY_NAME.get(name, palette.TEAL)


def _show_samples(results: Results, made: AllRuns, config: SwappedDenoisersConfig) -> None:
    """Samples from the same noise, one row a run, and the training images that are nearest to those without a swap."""
    runs = made.runs[0]
    rows = [one.images[:SHOWN] for one in (made.alone, *runs.swapped[OUT], runs.alone)]
    labels = ["nothing swapped", *(f"σ {_span(*one)}" for one in config.intervals), f"{runs.word} alone"]
    own = made.few.tensor()
    nearest = torch.cdist(torch.from_numpy(rows[0]).flatten(1), own.flatten(1)).argmin(1)
    results.add_sheet(
        "samples",
        f"The same noise, {runs.word} in one interval",
        "Top: the training images nearest to what the memorizing denoiser makes of the noise; below what is made when"
        f" the {runs.word} takes its place at the noise levels of the row.",
        SECTION,
        pictures.grid(np.stack([own[nearest].numpy(), *rows]), row_labels=["nearest training image", *labels]),
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
        add(runs.word, "–", "–", runs.alone.copies)
    for runs in found:
        for direction in DIRECTIONS:
            outer, inner = (MEMORIZING, runs.word) if direction == OUT else (runs.word, MEMORIZING)
            for interval, copies in zip(config.intervals, runs.copies(direction), strict=True):
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
    if runs.alone.copies.share.value > MOST_COPIES:
        return said.format(runs.alone.copies.share.value, f"the {runs.word}", "most", MOST_COPIES)
    return ""


def _claims(results: Results, alone: Copies, runs: Runs, config: SwappedDenoisersConfig) -> None:
    """The strongest interval is neither that of the highest noise nor that of the lowest, in either direction."""
    note = _untested(alone, runs, config)
    taken = middle_advantage(alone.above, [one.above for one in runs.copies(OUT)])
    put = middle_advantage(-1.0 * runs.alone.copies.above, [-1.0 * one.above for one in runs.copies(IN)])
    for sentence, quantity, found in (
        (
            "Memorization sits at medium noise: replacing the memorizing denoiser there prevents most copies.",
            "fewer copies by the strongest inner interval than by the stronger end",
            taken,
        ),
        (
            "Memorization sits at medium noise: the memorizing denoiser makes most copies in another's sampling there.",
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
    parts = [f"{alone.share.value:.0%} of the memorizing denoiser's samples are copies."]
    for runs in found:
        span, left = _strongest(alone, runs.copies(OUT), config, 1)
        there, made = _strongest(runs.alone.copies, runs.copies(IN), config, -1)
        if alone.share.value - left > NOTICEABLE:
            parts.append(f"With the {runs.word} in its place for σ {span} {left:.0%} are, the fewest of all intervals.")
        else:
            parts.append(f"With the {runs.word} in its place in any one interval {left:.0%} or more still are.")
        own = runs.alone.copies.share.value
        if made - own > NOTICEABLE:
            parts.append(
                f"In the sampling of the {runs.word}, {own:.0%} copies, it makes the most for σ {there}: {made:.0%}."
            )
        else:
            parts.append(f"In the sampling of the {runs.word} it makes no copies in any one interval.")
    return " ".join(parts)


def _said(name: str, config: SwappedDenoisersConfig) -> str:
    if name.startswith(PATH):
        return f"the checkpoint {name.removeprefix(PATH)}, on its own training images"
    return config.network.said if name == NETWORK else f"{name}, without training, of its images"


def _methods(config: SwappedDenoisersConfig, made: AllRuns) -> dict[str, str]:
    alone = made.alone.copies
    return {
        "Images": f"{made.few.name}: {made.few.stored} for the memorizing denoiser, {made.many.stored} others for what takes"
        f" its place; {made.unseen.stored} that neither has seen calibrate the count.",
        "Memorizing denoiser": _said(config.memorizing, config),
        "In its place": "; ".join(f"{name}: {_said(name, config)}" for name in config.others),
        "Sampling": f"Heun's method on {config.levels} EDM levels from σ = {made.sigma_max:g} to {config.sigma_min:g},"
        f" {config.samples} samples a run, from the same noise in every run.",
        "Copies": f"The audit's count in pixels, by the {alone.statistic}: samples that are nearer to the training set than"
        f" {1 - alone.chance:.1%} of unseen images are, less what chance puts there.",
        "Rule": "Inner intervals are all but the lowest and the highest; what each changes is the share of samples above that"
        " level, before less after. Intervals are bootstraps over samples, the same draws for all runs.",
        "Seed": f"{config.seed} for images and noise.",
    }
