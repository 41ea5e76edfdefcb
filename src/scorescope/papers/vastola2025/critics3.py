"""Critics' question 3: V of real networks, over an ensemble, beside C; and the effective process beside their samples."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from scorescope.lenses.drawing import full_contrast
from scorescope.lenses.memorization import COLUMNS
from scorescope.papers.vastola2025.charts_points import clouds
from scorescope.papers.vastola2025.ensemble_flows import (
    sample_variances,
)
from scorescope.papers.vastola2025.estimates import Estimate, mean_over_runs
from scorescope.papers.vastola2025.point_ensembles import (
    POINT_SETS,
)
from scorescope.papers.vastola2025.v_kernel_ensembles import Critics3Config, on_images, on_points
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.variance.learned_density import Density, Grid, compare

ALONG, SAMPLES = "Variance along the flow", "Samples"
SOURCE = "vastola2025, proposition 3.1; critics' question 3"
CASES = ("points", "images")


@study
class Critics3(Study[Critics3Config]):
    """V over an ensemble."""

    name = "vastola2025/critics3"
    title = "The V-kernel of real networks"
    question = (
        "Is the variance of networks over training runs large where the target's is, and does it predict their samples?"
    )
    paper = "Vastola 2025, arXiv 2504.12532"
    Config = Critics3Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "points": {"members": 4, "width": 16, "depth": 1, "steps": 30, "pool": 64, "samples": 32, "flow_steps": 5},
            "images": {
                "data": "digits",
                "size": 50,
                "members": 3,
                "width": 8,
                "training": {"steps": 20, "batch": 16},
                "flow_steps": 4,
                "samples": 8,
            },
            "runs": 4,
            "cells": 6,
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {"points": {"pool": 512, "samples": 128}, "images": {"training": {"steps": 1200}}},
        "paper": {
            "points": {"members": 100, "width": 128, "depth": 3, "steps": 10_000, "pool": 512, "samples": 1000},
            "images": {
                "size": 1000,
                "members": 32,
                "width": 64,
                "training": {"steps": 50_000, "batch": 512, "learning_rate": 1e-3},
                "samples": 256,
            },
            "runs": 100,
        },
    }

    def run(self, config: Critics3Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = {
            "points": workspace.computed("points", functools.partial(on_points, config)),
            "images": workspace.computed("images", functools.partial(on_images, config, workspace)),
        }
        results = Results(study=self.name, title=self.title)
        profiles(results, found)
        samples(results, config, found)
        claims(results, config, found)
        results.headline = headline(config, found)
        results.methods |= _methods(config)
        return results


def left_share(found: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """tr V over what the target's own variance would make of it, at every level; NaN where the target has hardly any."""
    target, model = found["target"].mean(1), found["model"].mean(1)
    return np.where(target > 1e-6 * target.max(), model / np.where(target > 0, target, 1), np.nan)


def rank_correlation(found: Mapping[str, Any]) -> Estimate:
    """Spearman's correlation of tr V and tr C within a level, averaged over the levels at which both vary."""
    known = found["correlation"][np.isfinite(found["correlation"])]
    return mean_over_runs(known) if len(known) else Estimate(math.nan, math.nan, math.nan)


def variance_ratio(found: Mapping[str, Any]) -> Estimate:
    """Variance of the effective process's samples over that of the members', from the same noise: mean of logarithms."""
    predicted, actual = sample_variances(found["effective"]), sample_variances(found["members"])
    kept = (predicted > 0) & (actual > 0)
    logs = mean_over_runs(np.log(predicted[kept] / actual[kept]))
    return Estimate(*(math.exp(value) for value in (logs.value, logs.low, logs.high)))


def _densities(config: Critics3Config, found: Mapping[str, Any]) -> dict[str, Density]:
    """Of the members, of the effective process, and of the average model, on the same grid."""
    reach = 1.5 * float(config.points.points_tensor.abs().max())
    grid = Grid(-reach, reach, config.cells, config.points.points_tensor.shape[1])
    named = {name: found[f"independent/{name}"][..., 0, 0, :] for name in ("members", "effective", "average")}
    return {name: Density.of(torch.from_numpy(samples).double(), grid) for name, samples in named.items()}


def profiles(results: Results, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Both variances along the flow of the average model, and how alike they vary."""
    results.introductions[ALONG] = (
        "At every state of the average model's own flow: the variance of the members' denoised images over training runs, and"
        " the"
        " variance of the clean image given the noisy one, which is that of the training target. Divided by σ² they are the"
        " traces of V and of D C D."
    )
    panels = []
    for case in CASES:
        one = found[case]
        series = [
            charts.Series("over training runs (V)", one["sigma"], _positive(one["model"].mean(1)), colour=palette.BLUE),
            charts.Series("of the target (C)", one["sigma"], _positive(one["target"].mean(1)), colour=palette.ORANGE),
        ]
        panels.append(charts.Panel(series, "variance", f"{case}: {one['model'].shape[1]} flows", y_log=True))
    results.add_chart(
        "profiles",
        "Variance over training runs and of the training target",
        "If the target's noise makes the model's variance, the two curves rise and fall together; the distance between them is"
        " how"
        " much training averages out.",
        ALONG,
        charts.lines(panels),
    )
    panels = [
        charts.Panel(
            [charts.Series("rank correlation", found[case]["sigma"], found[case]["correlation"], colour=palette.GREEN)],
            "rank correlation",
            case,
            y_range=(-1.0, 1.05),
            levels={0.0: "no relation"},
        )
        for case in CASES
    ]
    results.add_chart(
        "correlations",
        "Do both vary alike over states of one noise level?",
        "Spearman's correlation of the two variances over the flows, level by level: 1 if V is largest at the states where C is"
        " largest. Levels at which either does not vary are left out.",
        ALONG,
        charts.lines(panels, legend=False),
    )
    rows = [
        {
            "case": case,
            "σ": float(sigma),
            "tr V σ²": float(m),
            "tr D C D σ²": float(t),
            "left": float(share),
            "rank correlation": r,
        }
        for case in CASES
        for sigma, m, t, share, r in zip(
            found[case]["sigma"],
            found[case]["model"].mean(1),
            found[case]["target"].mean(1),
            left_share(found[case]),
            found[case]["correlation"],
            strict=True,
        )
    ]
    results.add_table(
        "profile",
        "Both variances at every noise level",
        "Means over flows; left: their ratio, the share of the target's variance that training leaves in the model.",
        pd.DataFrame(rows),
    )


def samples(results: Results, config: Critics3Config, found: Mapping[str, Mapping[str, Any]]) -> None:
    """What members, effective process and average model sample."""
    points, images = found["points"], found["images"]
    results.introductions[SAMPLES] = (
        "From the same noise: the members' own samples, those of the average model, and those of the effective process, which"
        " is the"
        " average model plus a Gaussian field that has the members' covariance between any two states."
    )
    panels = {
        words: points[f"independent/{name}"].reshape(-1, 2)
        for name, words in (
            ("members", f"{len(points['members'])} members"),
            ("effective", "effective process"),
            ("average", "average model"),
        )
    }
    results.add_chart(
        "clouds",
        f"Samples on {config.points.points}",
        "What the members put between the training points (crosses), what the theory's two cumulants make of it, and what is"
        " left"
        " without any variance.",
        SAMPLES,
        clouds(panels, POINT_SETS[config.points.points]),
    )
    shown = COLUMNS
    rows = [
        *(images["members"][run][:shown] for run in range(2)),
        images["average"][:shown],
        *(images["effective"][run][:shown] for run in range(2)),
    ]
    count = min(len(row) for row in rows)
    results.add_sheet(
        "images",
        "Samples of images from the same noise",
        "One column, one noise. If V is all that matters, runs of the effective process differ from the average model as"
        " members do.",
        SAMPLES,
        pictures.grid(
            np.stack([full_contrast(row[:count]) for row in rows]),
            row_labels=["member 1", "member 2", "average model", "effective run 1", "effective run 2"],
        ),
    )


def claims(results: Results, config: Critics3Config, found: Mapping[str, Mapping[str, Any]]) -> None:
    """The claims, each with a rule that was written down before any result was looked at."""
    note = "" if config.conclusive else "an ensemble this small, trained this briefly, decides nothing"

    def add(sentence: str, quantity: str, estimate: Estimate, rule: Rule) -> None:
        value, interval = (estimate.value, estimate.interval) if config.conclusive else (None, None)
        results.claims.append(Claim(sentence, SOURCE, quantity, value, rule, "", interval, note=note))

    for case in CASES:
        add(
            "The variance over training runs is large where the target's variance is.",
            f"rank correlation of tr V and tr C over states of one level, mean over levels, {case}",
            rank_correlation(found[case]),
            Rule(at_least=0.5, because="at least as much alike as not"),
        )
        add(
            "The effective process varies from run to run as real networks do.",
            f"variance of its samples over that of the members' from the same noise, {case}",
            variance_ratio(found[case]),
            Rule(at_least=0.5, at_most=2.0, because="within a factor of two"),
        )
    densities, generator = _densities(config, found["points"]), torch.Generator().manual_seed(config.seed)
    effective = compare(densities["effective"], densities["members"], generator)
    average = compare(densities["average"], densities["members"], generator)
    results.add_table(
        "densities",
        "Distance of the average learned densities, points",
        f"Total variation on {config.cells} by {config.cells} cells, with 95 % intervals over resampled runs; floor: what equal"
        " densities would show with as many runs.",
        pd.DataFrame(
            {
                "from the members to": ["effective process", "average model"],
                "total variation": [effective.value, average.value],
                "low": [effective.low, average.low],
                "high": [effective.high, average.high],
                "floor": [effective.floor, average.floor],
            }
        ),
    )
    add(
        "The effective process samples what real networks sample on average.",
        "total variation between its density and the members', beyond what equal densities would show, points",
        Estimate(*(end - effective.floor for end in (effective.value, effective.low, effective.high))),
        Rule(at_most=0.1, because="nine of ten samples in the right cells"),
    )
    gain = average.value - effective.value
    add(
        "The variance is needed: without it the average model's flow is farther from the members' samples.",
        "total variation of the average model minus that of the effective process, points",
        Estimate(gain, average.low - effective.high, average.high - effective.low),
        Rule(above=0.0),
    )


def headline(config: Critics3Config, found: Mapping[str, Mapping[str, Any]]) -> str:
    """The answer on points and on images."""
    if not config.conclusive:
        return "An ensemble this small, trained this briefly, decides nothing: choose the preset small or paper."
    parts = []
    for case in CASES:
        parts.append(
            f"on {case} V and C have the rank correlation {rank_correlation(found[case]).words()} over states of one level,"
            f" and the effective process has {variance_ratio(found[case]).words()} times the members' variance in its samples"
        )
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _positive(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(values > 1e-9, values, np.nan)


def _methods(config: Critics3Config) -> dict[str, str]:
    points, images = config.points, config.images
    return {
        "Points": f"{points.points}: {points.members} multilayer perceptrons of {points.depth} blocks of {points.width} units,"
        " each"
        f" trained for {points.steps} Adam steps on "
        + ("fresh noisy points" if points.pool is None else f"its own {points.pool} noisy points")
        + f"; flow by Heun's method on {points.flow_steps} levels from {points.sigma_max:g} to {points.sigma_min:g}.",
        "Images": f"{images.size} images of {images.data}; {images.members} bias-free UNets of width {images.width} with other"
        " seeds,"
        f" {images.training.steps} steps of {images.training.batch} images; flow by Heun's method on {images.flow_steps}"
        " levels down"
        f" to {images.sigma_end:g}.",
        "Effective process": f"Flow of D̄ + Σ g_m (D_m − D̄)/√(M − 1) with g drawn once a run, {config.runs} runs.",
        "Intervals": "95 %: Student's over levels (correlation) and over starting noises (variance ratio, of logarithms);"
        " bootstrap over"
        " runs for densities.",
        "Seed": f"{config.seed} of the effective process; {points.seed} of the networks on points; 0 to {images.members - 1}"
        " on images.",
    }
