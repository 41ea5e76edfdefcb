"""vastola2025, figure 2: what 100 linear models learn of three points on the line, and whether the theory foretells it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from scorescope.papers.vastola2025.charts_density import DensityPanel, density_grid
from scorescope.papers.vastola2025.fields import FieldMap, field_maps
from scorescope.papers.vastola2025.three_points import Figure2Config, measure, scene
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.variance.effective import models_flow
from scorescope.variance.learned_density import Grid
from scorescope.variance.linear_kernel import LinearKernel, noise_kernel
from scorescope.variance.proxy import PointProxy

DENSITIES, TRENDS, AGREEMENT, FIELDS = (
    "What is learned on average",
    "When gaps are filled",
    "Theory beside fitted models",
    "Fields over position and time",
)
SOURCE = "vastola2025, figure 2"
ENOUGH_MODELS = 50
PATHS = 16
Found = Mapping[tuple[float, int], Mapping[str, Any]]


@study
class Figure2(Study[Figure2Config]):
    """Average learned densities over ε and P, by fitted models and by the effective process."""

    name = "vastola2025/fig2"
    title = "How linear models fill the gaps between three points"
    paper = "Vastola, ICLR 2025, arXiv 2504.12532, figure 2 and proposition 5.1"
    question = (
        "Do models that are fitted to noisy targets fill gaps between data points, and does their variance explain it?"
    )
    Config = Figure2Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "epsilons": (1e-3, 1e-2),
            "samples": (64, 256),
            "models": 12,
            "points": 400,
            "per_axis": 8,
            "cells": 60,
        },
        "small": {},
        "paper": {"points": 100_000},
    }

    def run(self, config: Figure2Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = {
            (epsilon, samples): workspace.computed(
                f"eps={epsilon:g}, P={samples}", functools.partial(measure, config, epsilon, samples)
            )
            for epsilon in config.epsilons
            for samples in config.samples
        }
        results = Results(study=self.name, title=self.title)
        densities(results, config, found)
        trends(results, config, found)
        agreement(results, config, found)
        fields(results, *chosen_kernel(config))
        claims(results, config, found)
        table(results, config, found)
        methods(results, config)
        return results


def densities(results: Results, config: Figure2Config, found: Found) -> None:
    """Small multiples of all conditions."""
    panels = [
        [
            DensityPanel(*(found[epsilon, samples][key] for key in ("fitted", "low", "high", "effective", "exact")))
            for epsilon in config.epsilons
        ]
        for samples in config.samples
    ]
    results.introductions[DENSITIES] = (
        "Every model is fitted to its own P noisy draws from the three data points −1, 0 and 1, and then sampled. With the"
        " exact score samples end at the points; what lies between is what the models add."
    )
    results.add_chart(
        "densities",
        "Average learned densities",
        f"Rows: number of training draws P (F/P is the capacity ratio, F = {config.feature_count} features). Columns: ε, where"
        f" sampling stops. Orange: average over {config.models} fitted models of {config.points:,} samples each, with the"
        " middle half of the models; blue: the effective process of propositions 3.1 and 5.1; grey: the exact score."
        " Triangles: data.",
        DENSITIES,
        density_grid(
            panels,
            Grid(-1.5, 1.5, config.cells).centres.numpy(),
            [f"P = {samples}" for samples in config.samples],
            [f"ε = {epsilon:g}" for epsilon in config.epsilons],
            np.array([-1.0, 0.0, 1.0]),
        ),
    )


def trends(results: Results, config: Figure2Config, found: Found) -> None:
    """Gap mass over F/P, one line for each ε."""
    ratio = [config.feature_count / samples for samples in config.samples]
    colours = palette.sequence(len(config.epsilons))
    series = []
    for epsilon, colour in zip(config.epsilons, colours, strict=True):
        gap, error = (np.array([found[epsilon, p][key] for p in config.samples]) for key in ("gap", "gap error"))
        name = f"ε = {epsilon:g}"
        series.append(charts.Series(name, ratio, gap, gap - 1.96 * error, gap + 1.96 * error, colour=colour))
        exact = [found[epsilon, p]["gap exact"] for p in config.samples]
        series.append(charts.Series(f"exact score, {name}", ratio, exact, colour=colour, dashed=True))
    results.add_chart(
        "gaps",
        "Share of samples in the gaps",
        f"Samples between the data points that are farther than 0.2 from any, over the capacity ratio F/P; averages over"
        f" {config.models} models with 95 % intervals, and dashed the same for the exact score with the same Euler steps.",
        TRENDS,
        charts.lines(charts.Panel(series, "share of samples in gaps"), "features per training draw, F/P"),
    )


def agreement(results: Results, config: Figure2Config, found: Found) -> None:
    """Distance of densities and ratio of variances over P."""
    draws, colours = list(config.samples), palette.sequence(len(config.epsilons))
    by_formula: list[charts.Series] = []
    by_moments: list[charts.Series] = []
    ratios: list[charts.Series] = []
    for epsilon, colour in zip(config.epsilons, colours, strict=True):
        name = f"ε = {epsilon:g}"
        for key, into in (("tv", by_formula), ("tv gaussian", by_moments)):
            value, low, high, floor = np.array([found[epsilon, p][key] for p in draws]).T
            into.append(charts.Series(name, draws, value, low, high, colour=colour))
            into.append(charts.Series(f"floor, {name}", draws, floor, colour=colour, dashed=True))
        low, middle, high = np.array([found[epsilon, p]["ratio"] for p in draws]).T
        ratios.append(charts.Series(name, draws, middle, low, high, colour=colour))
    results.introductions[AGREEMENT] = (
        "The theory replaces the models by a Gaussian random field with their mean and covariance. Two things can go wrong: the"
        " formula for the covariance, which holds for many draws, and the replacement by a Gaussian."
    )
    results.add_chart(
        "distances",
        "Distance between the theory's density and that of fitted models",
        f"Total variation, 0 to 1, between average densities on {config.cells} cells; bands are 95 % intervals from resampling"
        " models. Dashed: the distance that equal densities would show with as many models.",
        AGREEMENT,
        charts.lines(
            [
                charts.Panel(by_formula, "total variation", "covariance by proposition 5.1", y_range=(0, None)),
                charts.Panel(by_moments, "total variation", "covariance of the fitted models", y_range=(0, None)),
            ],
            "training draws P",
        ),
    )
    results.add_chart(
        "variances",
        "Variance by proposition 5.1 over variance between fitted models",
        "Median and middle half, over 1,000 training draws (x, t), of tr V by the formula over tr V between fitted models: 1 is"
        " agreement. The formula is exact for many draws per feature.",
        AGREEMENT,
        charts.lines(
            charts.Panel(ratios, "ratio of tr V", y_range=(0.0, None), levels={1.0: "formula and models agree"}),
            "training draws P",
        ),
    )


def fields(
    results: Results, config: Figure2Config, epsilon: float, samples: int, kernel: LinearKernel, proxy: PointProxy
) -> None:
    """Maps over (t, x) of score, noise of the target, V, and one drawn field, with trajectories."""
    process = proxy.process
    t = torch.linspace(epsilon, 1.0, max(40, config.cells // 2), dtype=torch.float64)
    x = torch.linspace(-2, 2, max(41, config.cells // 2), dtype=torch.float64)
    grid_t, grid_x = torch.meshgrid(t, x, indexing="ij")
    position = grid_x[..., None]
    generator = torch.Generator().manual_seed(config.seed)
    models = kernel.sample_models(PATHS, generator)
    starts = torch.linspace(-1.6, 1.6, PATHS, dtype=torch.float64)[:, None, None]
    times = process.times(max(60, 2 * config.steps))
    paths = torch.stack(list(models_flow(models, starts, times)))[:, :, 0, 0].T.numpy()
    lines = [np.column_stack([times.numpy(), path]) for path in paths]
    drawn = -process.diffusion(grid_t).times(models.score(position, grid_t)[0] - kernel.score(position, grid_t))
    ends, up = (float(epsilon), 1.0), (-2.0, 2.0)
    marks = np.column_stack([np.full(3, epsilon + 0.01), [-1.0, 0.0, 1.0]])
    panels = [
        FieldMap(proxy.score(position, grid_t)[..., 0].abs().numpy(), ends, up, "exact score |s|", marks, log=True),
        FieldMap(kernel.score(position, grid_t)[..., 0].abs().numpy(), ends, up, "average model |s|", marks, log=True),
        FieldMap(proxy.trace(position, grid_t).numpy(), ends, up, "target's noise, C", marks, log=True),
        FieldMap(
            kernel.trace(position, grid_t).numpy(), ends, up, "V of the models, and paths", marks, lines, log=True
        ),
        FieldMap(kernel.drift(position, grid_t)[..., 0].abs().numpy(), ends, up, "drift |βx + D s|", marks, log=True),
        FieldMap(drawn[..., 0].abs().numpy(), ends, up, "one drawn noise field |ξ|", marks, log=True),
    ]
    results.introductions[FIELDS] = (
        "Sampling runs from right (noise, t = 1) to left (data, t = ε). The score pulls towards the three points (red); the"
        " noise of the target sits between them; a model smears that noise out with its features, which makes V; and each"
        " training run amounts to one drawn field ξ, which bends the paths."
    )
    results.add_chart(
        "fields",
        f"Fields for ε = {epsilon:g}, P = {samples}",
        f"Colours are logarithmic, at most four decades. Light lines: {PATHS} paths of the effective process, each with a field"
        " of its own, from equally spaced starts.",
        FIELDS,
        field_maps(panels, 2, x_label="time t", y_label="position x", height=1.35),
    )


def claims(results: Results, config: Figure2Config, found: Found) -> None:
    """What the paper says, and the rules that decide."""
    enough = config.models >= ENOUGH_MODELS
    small = f"{config.models} models are too few; it takes {ENOUGH_MODELS}"
    gaps = np.array([[found[e, p]["gap"] for p in config.samples] for e in config.epsilons])
    over_p = _rank_correlation([1 / p for p in config.samples], gaps) if enough else None
    over_e = _rank_correlation(list(config.epsilons), gaps.T) if enough else None
    most = config.samples[-1]
    distance = max((found[e, most]["tv"] for e in config.epsilons), key=lambda d: d[0] - d[3])
    moments = max((found[e, most]["tv gaussian"] for e in config.epsilons), key=lambda d: d[0] - d[3])
    ratio = [found[e, most]["ratio"][1] for e in config.epsilons]
    filled = [found[e, p]["gap"] / max(found[e, p]["gap exact"], 1e-6) for e, p in found]
    worst = max(ratio, key=lambda value: abs(np.log(value)))
    still = max(one["gap exact"] for one in found.values())
    results.claims += [
        Claim(
            "Learned distributions resemble the data with the gaps filled in.",
            SOURCE,
            "share of samples in gaps over that of the exact score with the same steps, lowest of all conditions",
            min(filled) if enough else None,
            Rule(at_least=1.5, because="half as much again as the exact score puts there"),
            note=f"with {config.steps} steps the exact score itself leaves up to {still:.1%} in gaps"
            if enough
            else small,
        ),
        Claim(
            "Gaps fill more as the ratio F/P of features to training draws grows.",
            SOURCE,
            "rank correlation between F/P and the share of samples in gaps, mean over ε",
            over_p,
            Rule(at_least=0.8, because="nearly every step goes up"),
            note=_few(len(config.samples)) if enough else small,
        ),
        Claim(
            "Gaps fill more as the cutoff ε grows.",
            SOURCE,
            "rank correlation between ε and the share of samples in gaps, mean over P",
            over_e,
            Rule(at_least=0.5, because="more often up than down"),
            note=_few(len(config.epsilons)) if enough else small,
        ),
        Claim(
            "The V-kernel of a linear model is that of proposition 5.1.",
            "vastola2025, proposition 5.1",
            f"median ratio of tr V by the formula to that between fitted models at P = {most}, the farthest from 1 over ε",
            worst if enough else None,
            Rule(at_least=0.8, at_most=1.25, because="a quarter either way"),
            note=f"P/F is {most / config.feature_count:g}; the formula is exact for many draws a feature"
            if enough
            else small,
        ),
        Claim(
            "The average learned distribution is that of the effective process.",
            "vastola2025, propositions 3.1 and 5.1",
            f"total variation to the fitted models' density minus its floor at P = {most}, the largest over ε",
            max(0.0, distance[0] - distance[3]) if enough else None,
            Rule(at_most=0.1, because="a tenth of all samples"),
            interval=(max(0.0, distance[1] - distance[3]), max(0.0, distance[2] - distance[3])) if enough else None,
            note="" if enough else small,
        ),
        Claim(
            "Two cumulants suffice: fitted models may be replaced by a Gaussian field.",
            "vastola2025, proposition 3.1",
            f"the same with the fitted models' own mean and covariance, P = {most}",
            max(0.0, moments[0] - moments[3]) if enough else None,
            Rule(at_most=0.1, because="a tenth of all samples"),
            interval=(max(0.0, moments[1] - moments[3]), max(0.0, moments[2] - moments[3])) if enough else None,
            note="" if enough else small,
        ),
    ]
    largest, smallest = found[config.epsilons[-1], config.samples[0]], found[config.epsilons[-1], most]
    results.headline = (
        f"At ε = {config.epsilons[-1]:g} {largest['gap']:.0%} of the samples lie in gaps with {config.samples[0]} training"
        f" draws and {smallest['gap']:.0%} with {most} (exact score: {smallest['gap exact']:.1%}); with {most} the theory's"
        f" density is {smallest['tv'][0]:.2f} away in total variation (floor {smallest['tv'][3]:.2f})."
    )


def _few(conditions: int) -> str:
    return "" if conditions > 2 else f"a trend takes at least three values, there are {conditions}"


def _rank_correlation(order: list[float], rows: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    """Mean over rows; None if there are fewer than three columns."""
    if len(order) < 3:
        return None
    return float(np.mean([spearmanr(order, row).statistic for row in rows]))


def table(results: Results, config: Figure2Config, found: Found) -> None:
    """All conditions in numbers."""
    rows = [
        {
            "ε": epsilon,
            "P": samples,
            "F/P": config.feature_count / samples,
            "in gaps": one["gap"],
            "exact score": one["gap exact"],
            "effective": one["gap effective"],
            "on the grid": one["inside"],
            "TV": one["tv"][0],
            "TV floor": one["tv"][3],
            "TV, own moments": one["tv gaussian"][0],
            "KL": one["kl"][0],
            "KL floor": one["kl"][3],
            "tr V ratio": one["ratio"][1],
        }
        for (epsilon, samples), one in found.items()
    ]
    results.add_table(
        "conditions",
        "All conditions",
        "Share of samples in gaps for fitted models, for the exact score and for the effective process; share of the models'"
        " samples within the grid; distances of the effective process from the fitted models (KL in nats) with what equal"
        " densities would show; median ratio of tr V by proposition 5.1 to that between models.",
        pd.DataFrame(rows),
        formats={"in gaps": ".3f", "exact score": ".3f", "effective": ".3f", "on the grid": ".3f"},
    )


def methods(results: Results, config: Figure2Config) -> None:
    """How it was computed."""
    results.methods |= {
        "Data": "Three points, −1, 0 and 1, equally likely.",
        "Process": "VP with β_min = 0.1, β_d = 19.9; t uniform in [ε, 1].",
        "Models": f"Denoisers W φ(x, t), {config.per_axis} × {config.per_axis} {config.family} features on [−1.5, 1.5] × [ε,"
        f" 1], weight α²/S, ridge {config.ridge:g}, solved in closed form.",
        "Sampling": f"Euler's method, {config.steps} equal steps from N(0, S_1); features are evaluated where the sample is"
        " (the paper's code reads them from the nearest grid point and clamps them at ±1.5).",
        "Effective process": f"{config.models} Gaussian random fields with the mean and covariance of proposition 5.1, drawn"
        " exactly as random W, each followed by as many points.",
        "Seed": f"{config.seed}.",
    }


def chosen_kernel(config: Figure2Config) -> Any:
    """The condition whose fields are shown: the largest ε, a middle P; (config, its ε, its P, kernel, proxy)."""
    epsilon, samples = config.epsilons[-1], config.samples[len(config.samples) // 2]
    proxy, features, training = scene(config, epsilon, samples)
    return config, epsilon, samples, noise_kernel(proxy, features, training), proxy
