"""vastola2025, figure 3: which gaps of a square fill depends on how it is turned and on the features."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
import torch
from torch import Tensor

from scorescope.papers.vastola2025.fields import FieldMap, field_maps
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.variance.effective import probability_flow
from scorescope.variance.features import FAMILIES
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.learned_density import Density, Grid, compare
from scorescope.variance.linear import LinearModels, LinearTraining, fit_linear
from scorescope.variance.linear_kernel import noise_kernel
from scorescope.variance.point_sets import square
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NoVariance

DENSITIES, FIELDS = "What is learned on average", "Where the models' variance lies"
SOURCE = "vastola2025, figure 3"
BAND = 0.12  # half width of the strips along gaps
ENOUGH_MODELS = 50
FIELD_TIME = 0.2
EXACT = 5_000  # samples of the exact score
COARSE = 40  # cells along each side for distances between densities


class Figure3Config(pydantic.BaseModel):
    """Settings of figure 3.

    Attributes:
        rotations: of the square, radians.
        families: of features.
        per_axis: features of each coordinate, and of t.
        samples: P.
        models: how many are fitted in each condition; as many fields of the effective process are drawn.
        points: samples of each model.
        epsilon: where the flow stops.
        steps: of the flow, Euler's method.
        ridge: η.
        cells: of the picture along each side.
        seed: of everything.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    rotations: tuple[float, ...] = (0.0, math.pi / 8, math.pi / 4)
    families: tuple[str, ...] = ("gaussian", "fourier")
    per_axis: int = pydantic.Field(10, ge=2)
    samples: int = pydantic.Field(500, ge=1)
    models: int = pydantic.Field(100, ge=4)
    points: int = pydantic.Field(20_000, ge=1)
    epsilon: float = pydantic.Field(0.01, gt=0, lt=1)
    steps: int = pydantic.Field(30, ge=1)
    ridge: float = pydantic.Field(0.1, ge=0)
    cells: int = pydantic.Field(100, ge=10)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("families")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or any(name not in FAMILIES for name in names):
            raise ValueError(f"the families are {', '.join(FAMILIES)}")
        return names


@study
class Figure3(Study[Figure3Config]):
    """Average learned densities of a square over its rotation and the features."""

    name = "vastola2025/fig3"
    title = "Which gaps fill: sides or diagonals of a square"
    paper = "Vastola, ICLR 2025, arXiv 2504.12532, figure 3"
    question = "Does it depend on the features of a model, and on how the data lie, which gaps between them it fills?"
    Config = Figure3Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"rotations": (0.0,), "per_axis": 3, "samples": 60, "models": 6, "points": 300, "cells": 40},
        "small": {},
        "paper": {"points": 100_000, "cells": 200},
    }

    def run(self, config: Figure3Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = {
            (family, rotation): workspace.computed(
                f"{family}, rotation={rotation:.4f}", functools.partial(measure, config, family, rotation)
            )
            for family in config.families
            for rotation in config.rotations
        }
        results = Results(study=self.name, title=self.title)
        _densities(results, config, found)
        _fields(results, config)
        _claims(results, config, found)
        _table(results, found)
        _methods(results, config)
        return results


def measure(config: Figure3Config, family: str, rotation: float) -> dict[str, Any]:
    """Densities and gap indices of one condition."""
    proxy = PointProxy(VariancePreserving(config.epsilon), square(rotation))
    features = FAMILIES[family](2, config.per_axis, (config.epsilon, 1.0))
    training = LinearTraining(config.samples, config.ridge)
    place = config.families.index(family) * len(config.rotations) + config.rotations.index(rotation)
    generator = torch.Generator().manual_seed(1000 * config.seed + place)
    times = proxy.process.times(config.steps)
    models = fit_linear(proxy, features, training, config.models, generator)
    fields = noise_kernel(proxy, features, training).sample_models(config.models, generator)
    grid, coarse = Grid(-1.5, 1.5, config.cells, 2), Grid(-1.5, 1.5, COARSE, 2)
    strips = gap_strips(proxy.points)

    def sampled(of: LinearModels) -> tuple[Density, Density, Tensor]:
        starts = proxy.process.start(len(of) * config.points, 2, generator).reshape(len(of), config.points, 2)
        ends = follow_flow(of, starts, times)
        return Density.of(ends, grid), Density.of(ends, coarse), strip_shares(ends, strips)

    fitted, rough, shares = sampled(models)
    effective, rough_effective, effective_shares = sampled(fields)
    *_, exact = probability_flow(NoVariance(proxy), proxy.process.start(EXACT, 2, generator), times)
    distance = compare(rough, rough_effective, generator, resamples=100)
    index, error = side_index(shares)
    effective_index, effective_error = side_index(effective_shares)
    return {
        "fitted": fitted.average.numpy(),
        "effective": effective.average.numpy(),
        "index": index,
        "index error": error,
        "effective index": effective_index,
        "effective error": effective_error,
        "sides": float(shares[:, 0].mean()),
        "diagonals": float(shares[:, 1].mean()),
        "exact": strip_shares(exact[None], strips).mean(0).tolist(),
        "inside": fitted.inside,
        "tv": [distance.value, distance.low, distance.high, distance.floor],
    }


def gap_strips(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Middle halves of the four sides and of the four half diagonals of a square, each as ends (4, 2, 2)."""
    following, centre = corners.roll(-1, 0), corners.mean(0).expand_as(corners)

    def middle(first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], 1)

    return middle(corners, following), middle(corners, centre)


def strip_shares(points: Tensor, strips: tuple[Tensor, Tensor]) -> Tensor:
    """Samples (R, n, 2) a unit of area in the strips of each kind, as a share of all: (R, 2)."""
    found = []
    for ends in strips:
        inside = torch.zeros(points.shape[:-1], dtype=torch.bool)
        area = 0.0
        for first, second in ends:
            length = float((second - first).norm())
            along = (second - first) / length
            across = torch.stack([-along[1], along[0]])
            away = points - first
            forward = away @ along
            inside |= (forward >= 0) & (forward <= length) & ((away @ across).abs() <= BAND)
            area += 2 * BAND * length
        found.append(inside.double().mean(-1) / area)
    return torch.stack(found, -1)


def side_index(shares: Tensor) -> tuple[float, float]:
    """``log(density on sides / density on diagonals)`` of shares (R, 2), and its standard error over runs (delta method)."""
    mean = shares.mean(0).clamp(min=1e-6)
    relative = shares / mean
    spread = (relative[:, 0] - relative[:, 1]).std() / len(shares) ** 0.5
    return float((mean[0] / mean[1]).log()), float(spread)


def _densities(results: Results, config: Figure3Config, found: Mapping[tuple[str, float], Mapping[str, Any]]) -> None:
    ends = (-1.5, 1.5)
    panels, labels = [], []
    for family in config.families:
        for key, name in (("fitted", "fitted"), ("effective", "theory")):
            labels.append(f"{family}, {name}")
            for rotation in config.rotations:
                title = f"turned by {math.degrees(rotation):.3g}°" if len(labels) == 1 else ""
                values = found[family, rotation][key]
                panels.append(FieldMap(values, ends, ends, title, points=square(rotation).numpy(), log=True))
    results.introductions[DENSITIES] = (
        "Four data points (red) make a square. A model that fills the gaps between neighbours draws a square; one that fills"
        " the middle draws a cross. Both are boundary regions of the target's noise: the features decide."
    )
    results.add_chart(
        "densities",
        "Average learned densities",
        f"Density (logarithmic colours, four decades) averaged over {config.models} models of {config.points:,} samples each,"
        f' fitted to P = {config.samples} draws with {config.per_axis}³ features; "theory" is the effective process of'
        " propositions 3.1 and 5.1.",
        DENSITIES,
        field_maps(
            panels,
            len(config.rotations),
            bar="density (samples per unit area)",
            row_labels=labels,
            value_range=None,
        ),
    )


def _fields(results: Results, config: Figure3Config) -> None:
    """Noise of the target and V of both kinds of features on the plane."""
    rotation = config.rotations[0]
    proxy = PointProxy(VariancePreserving(config.epsilon), square(rotation))
    across = torch.linspace(-1.5, 1.5, max(31, config.cells // 2), dtype=torch.float64)
    x = torch.stack(torch.meshgrid(across, across, indexing="ij"), -1)
    t, ends, marks = torch.tensor(FIELD_TIME, dtype=torch.float64), (-1.5, 1.5), square(rotation).numpy()
    panels = [
        FieldMap(proxy.trace(x, t).numpy(), ends, ends, "target's noise, tr C", marks, log=True),
        FieldMap(proxy.score(x, t).norm(dim=-1).numpy(), ends, ends, "size of the exact score", marks, log=True),
    ]
    for family in config.families:
        features = FAMILIES[family](2, config.per_axis, (config.epsilon, 1.0))
        kernel = noise_kernel(proxy, features, LinearTraining(config.samples, config.ridge))
        panels.append(FieldMap(kernel.trace(x, t).numpy(), ends, ends, f"tr V, {family} features", marks, log=True))
    results.introductions[FIELDS] = (
        "V is the target's noise as the features see it: bumps keep it where it was, waves spread it over the plane in a"
        " pattern that follows the axes, not the data."
    )
    results.add_chart(
        "fields",
        f"Noise of the target and variance of the models at t = {FIELD_TIME:g}",
        "Top: trace of the proxy covariance, and the score. Bottom: trace of V by proposition 5.1 for each family of features.",
        FIELDS,
        field_maps(panels, 2, x_label="first coordinate", y_label="second coordinate"),
    )


def _claims(results: Results, config: Figure3Config, found: Mapping[tuple[str, float], Mapping[str, Any]]) -> None:
    enough = config.models >= ENOUGH_MODELS
    note = "" if enough else f"{config.models} models are too few; it takes {ENOUGH_MODELS}"
    index = {key: (one["index"], one["index error"]) for key, one in found.items()}
    rule = Rule(at_least=math.log(1.5), because="a density ratio half as large again")
    turned = max(_widest([index[family, r] for r in config.rotations]) for family in config.families)
    chosen = max(_widest([index[family, r] for family in config.families]) for r in config.rotations)
    results.claims += [
        Claim(
            "Which gaps are filled depends on the orientation of the data.",
            SOURCE,
            "largest difference over rotations of log(density on sides / density on diagonals), larger of the two families",
            turned[0] if enough else None,
            rule,
            interval=(turned[0] - turned[1], turned[0] + turned[1]) if enough else None,
            note=note,
        ),
        Claim(
            "Which gaps are filled depends on the features.",
            SOURCE,
            "largest difference between the families of log(density on sides / density on diagonals), over rotations",
            chosen[0] if enough else None,
            rule,
            interval=(chosen[0] - chosen[1], chosen[0] + chosen[1]) if enough else None,
            note=note,
        ),
        Claim(
            "The effective process foretells which gaps are filled.",
            "vastola2025, propositions 3.1 and 5.1",
            f"correlation of that index between fitted models and the effective process over {len(found)} conditions",
            _correlation(found) if enough and len(found) > 3 else None,
            Rule(at_least=0.7, because="half of the variance explained"),
            note=note or ("" if len(found) > 3 else "it takes more than three conditions"),
        ),
        Claim(
            "The average learned distribution is that of the effective process.",
            "vastola2025, propositions 3.1 and 5.1",
            f"total variation between fitted models and effective process on {COARSE} × {COARSE} cells minus its floor, the"
            " largest over conditions",
            max(max(0.0, one["tv"][0] - one["tv"][3]) for one in found.values()) if enough else None,
            Rule(at_most=0.1, because="a tenth of all samples"),
            note=note or f"F/P = {config.per_axis**3 / config.samples:g}: the formula for V holds for F/P well below 1",
        ),
    ]
    shapes = ", ".join(f"{family} {_shape(found[family, r]['index'])} at {math.degrees(r):.3g}°" for family, r in found)
    results.headline = f"Average over {config.models} models: {shapes}."


def _shape(index: float) -> str:
    ratio = math.exp(abs(index))
    return f"sides {ratio:.1f}× denser" if index > 0 else f"diagonals {ratio:.1f}× denser"


def _widest(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """Difference between the largest and the smallest, and 1.96 standard errors of it."""
    low, high = min(pairs), max(pairs)
    return high[0] - low[0], 1.96 * math.hypot(low[1], high[1])


def _correlation(found: Mapping[tuple[str, float], Mapping[str, Any]]) -> float:
    pairs = np.array([[one["index"], one["effective index"]] for one in found.values()])
    return float(np.corrcoef(pairs.T)[0, 1])


def _table(results: Results, found: Mapping[tuple[str, float], Mapping[str, Any]]) -> None:
    rows = [
        {
            "features": family,
            "turned by (°)": math.degrees(rotation),
            "on sides": one["sides"],
            "on diagonals": one["diagonals"],
            "index": one["index"],
            "± (95 %)": 1.96 * one["index error"],
            "index, theory": one["effective index"],
            "exact score: sides": one["exact"][0],
            "exact score: diagonals": one["exact"][1],
            "TV": one["tv"][0],
            "TV floor": one["tv"][3],
            "on the grid": one["inside"],
        }
        for (family, rotation), one in found.items()
    ]
    results.add_table(
        "conditions",
        "Sides and diagonals",
        "Samples a unit of area in strips along the middle halves of sides and half diagonals; index: log of their ratio,"
        " positive for a square, negative for a cross; the same for the exact score with the same steps; total variation"
        " between fitted models and theory.",
        pd.DataFrame(rows),
        formats={"on sides": ".3f", "on diagonals": ".3f", "index": ".2f", "± (95 %)": ".2f", "index, theory": ".2f"},
    )


def _methods(results: Results, config: Figure3Config) -> None:
    results.methods |= {
        "Data": "Four points on the unit circle, equally likely.",
        "Process": f"VP with β_min = 0.1, β_d = 19.9, ε = {config.epsilon:g}; {config.steps} Euler steps from N(0, S_1).",
        "Models": f"Denoisers W φ(x, t) with {config.per_axis}³ product features on [−1.5, 1.5]² × [ε, 1], weight α²/S, ridge"
        f" {config.ridge:g}, P = {config.samples}, in closed form.",
        "Strips": f"Within {BAND:g} of the middle half of each side and of each half diagonal.",
        "Seed": f"{config.seed}.",
    }
