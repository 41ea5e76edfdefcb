"""The noisy against the exact target on points of the line and the plane, where everything can be seen.

The ensemble on the noisy target and that on the exact one have the same initial weights and see the same noisy points. With a
pool of P noisy points that are drawn once, the target's variance stays in what is learned, the more the smaller P is; with
fresh ones at every step it averages out as training goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from scorescope.papers.vastola2025.point_ensembles import (
    PointEnsembleConfig,
    PointSet,
    deviations_of,
    draw_from,
    off_points,
    train_ensemble,
)
from scorescope.study.workspace import Workspace

Array = npt.NDArray[np.float64]
TARGETS = ("noisy", "closed-form")
FRESH = 0


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
