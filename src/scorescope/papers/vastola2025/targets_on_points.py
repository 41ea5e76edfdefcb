"""The noisy against the exact target on points of the line and the plane, where everything can be seen.

The ensemble on the noisy target and that on the exact one have the same initial weights and see the same noisy points. With a
pool of P noisy points that are drawn once, the target's variance stays in what is learned, the more the smaller P is; with
fresh ones at every step it averages out as training goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.papers.vastola2025.charts_points import clouds, density
from scorescope.papers.vastola2025.estimates import (
    Array,
    mean_over_runs,
)
from scorescope.papers.vastola2025.point_ensembles import (
    POINT_SETS,
    PointEnsembleConfig,
    PointSet,
    deviations_of,
    draw_from,
    off_points,
    train_ensemble,
)
from scorescope.study import charts, palette
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

TARGETS = ("noisy", "closed-form")
FRESH = 0
ON_POINTS = "On points"
WORDS = {"noisy": "noisy target", "closed-form": "exact target"}
COLOURS = {"noisy": palette.BLUE, "closed-form": palette.ORANGE}


class PointsConfig(pydantic.BaseModel):
    """Settings of the part on points.

    Attributes:
        sets: data sets.
        pools: numbers of noisy points that each member draws once (P), increasing; 0, at the end, for fresh ones at every step.
        ensemble: the rest; points, pool and target are those of the case.
        radius: a sample farther from every point than this is between them.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    sets: tuple[PointSet, ...] = ("three on a line", "square")
    pools: tuple[pydantic.NonNegativeInt, ...] = (64, 512, 4096, FRESH)
    ensemble: PointEnsembleConfig = PointEnsembleConfig()
    radius: float = pydantic.Field(0.15, gt=0)


@dataclass(frozen=True)
class PointsFound:
    """What was found on one data set with one pool: M members of each target.

    Attributes:
        points: name of the data set.
        pool: P; 0 for fresh noisy points at every step.
        sigmas: (L,), from high to low.
        to_optimal: target -> squared distance to the exact denoiser, (M, L).
        run_variance: target -> variance over members, summed over coordinates, (L,).
        target_variance: ``tr Cov[x | y]``, (L,).
        samples: target -> (M, n, d).
        between: target -> share of every member's samples that lie between the points, (M,).
        model: what the members are, in words.
    """

    points: str
    pool: int
    sigmas: Array
    to_optimal: dict[str, Array]
    run_variance: dict[str, Array]
    target_variance: Array
    samples: dict[str, npt.NDArray[np.float32]]
    between: dict[str, Array]
    model: str = "network"

    @property
    def label(self) -> str:
        """ "network, square, P = 64"."""
        return f"{self.model}, {self.points}, {pool_words(self.pool)}"

    @classmethod
    def of(cls, points: str, pool: int, found: Mapping[str, Mapping[str, Any]], model: str) -> PointsFound:
        """From what was measured with each target, by the names that `deviations_of` uses, with samples and between."""
        first = found[TARGETS[0]]
        return cls(
            points=points,
            pool=pool,
            sigmas=first["sigma"],
            to_optimal={target: found[target]["to optimal"] for target in TARGETS},
            run_variance={target: found[target]["run variance"] for target in TARGETS},
            target_variance=first["target variance"],
            samples={target: found[target]["samples"] for target in TARGETS},
            between={target: found[target]["between"] for target in TARGETS},
            model=model,
        )


def pool_words(pool: int) -> str:
    """ "P = 64", or "fresh draws"."""
    return f"P = {pool}" if pool else "fresh draws"


def compare_on_points(config: PointsConfig, workspace: Workspace) -> list[PointsFound]:
    """Train, sample and measure every case. Raises UserError if training diverges."""
    return [_compare(config, points, pool, workspace) for points in config.sets for pool in config.pools]


def _compare(config: PointsConfig, points: PointSet, pool: int, workspace: Workspace) -> PointsFound:
    found = {}
    for target in TARGETS:
        settings = config.ensemble.model_copy(update={"points": points, "pool": pool or None, "target": target})
        name = f"{points}/{pool_words(pool)}/{target}"
        found[target] = workspace.computed(name, functools.partial(_measured, settings, config.radius))
    return PointsFound.of(points, pool, found, model="network")


def _measured(config: PointEnsembleConfig, radius: float) -> dict[str, Any]:
    members = train_ensemble(config)
    samples = draw_from(members, config)
    between = off_points(samples, config.points_tensor, radius)
    return deviations_of(members, config) | {"samples": samples.numpy(), "between": between.numpy()}


def show_points(results: Results, found: Sequence[PointsFound], config: PointsConfig) -> None:
    """All that is shown of the part on points."""
    results.introductions[ON_POINTS] = (
        f"{config.ensemble.members} small networks for each target, each with its own P noisy points, drawn once; the fewer"
        " they"
        " are, the more of the target's variance is left in what is learned."
    )
    for model, name in dict.fromkeys((one.model, one.points) for one in found):
        here = [one for one in found if (one.model, one.points) == (model, name)]
        if here[0].samples["noisy"].shape[-1] == 1:
            _densities(results, here)
        else:
            _clouds(results, here)
    rows = []
    for one in found:
        row: dict[str, object] = {"model": one.model, "points": one.points, "draws": pool_words(one.pool)}
        for target in TARGETS:
            row[f"deviation, {WORDS[target]}"] = float(one.to_optimal[target].mean())
            row[f"over models, {WORDS[target]}"] = float(one.run_variance[target].mean())
            row[f"between points, {WORDS[target]}"] = mean_over_runs(one.between[target]).words(".3f")
        rows.append(row)
    results.add_table(
        "points",
        "The two targets on points",
        "Deviation: mean squared distance to the exact denoiser over noise levels. Over models: the part of it that is"
        " variance"
        f" over training runs. Between points: share of the samples farther than {config.radius:g} from every training point.",
        pd.DataFrame(rows),
    )


def _clouds(results: Results, here: Sequence[PointsFound]) -> None:
    panels = {
        f"{pool_words(one.pool)}, {WORDS[target].split()[0]}": one.samples[target].reshape(-1, 2)
        for one in here
        for target in TARGETS
    }
    members = here[0].samples[TARGETS[0]].shape[0]
    results.add_chart(
        f"clouds-{_key(here[0])}",
        f"Samples of all {here[0].model}s, {here[0].points}",
        "Left: trained on the noisy target, right: on the exact one. What lies between the crosses, the training points, is"
        f" generalization. Samples of {members} {here[0].model}s from the same noise.",
        ON_POINTS,
        clouds(panels, POINT_SETS[here[0].points]),
    )


def _densities(results: Results, here: Sequence[PointsFound]) -> None:
    edges = np.linspace(-1.75, 1.75, 71)
    centres = (edges[1:] + edges[:-1]) / 2
    panels = []
    for one in here:
        series = [
            charts.Series(
                WORDS[target],
                centres,
                density(one.samples[target], edges),
                colour=COLOURS[target],
                dashed=target != TARGETS[0],
            )
            for target in TARGETS
        ]
        panels.append(charts.Panel(series, "density", pool_words(one.pool)))
    members = here[0].samples[TARGETS[0]].shape[0]
    results.add_chart(
        f"densities-{_key(here[0])}",
        f"Average learned density, {here[0].model}s, {here[0].points}",
        f"Samples of {members} {here[0].model}s for each target, in bins of 0.05; memorization has peaks at the training points"
        " and nothing between them.",
        ON_POINTS,
        charts.lines(panels, "x", x_log=False),
    )


def _key(one: PointsFound) -> str:
    return f"{one.model} {one.points}".lower().replace(" ", "-")
