"""vastola2025, limits: a kernel density estimate if all noise comes at the end, Gaussians around paths if it is small."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
import torch
from scipy.stats import spearmanr
from torch import Tensor

from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.variance.effective import effective_process, models_flow
from scorescope.variance.features import bumps
from scorescope.variance.learned_density import Density, Grid, total_variation
from scorescope.variance.limits import EndNoise, gaussian_mixture, kernel_density, semiclassical
from scorescope.variance.linear import LinearTraining
from scorescope.variance.linear_kernel import LinearKernel, noise_kernel
from scorescope.variance.point_sets import scattered, three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel

AT_END, SMALL = "All noise at the end", "Little noise"
SOURCE = "vastola2025, appendix on limits"
ENOUGH_POINTS = 5000
PLANE_CELLS = 24


class LimitsConfig(pydantic.BaseModel):
    """Settings of the study of limits.

    Attributes:
        epsilon: where the flow stops.
        bandwidth: standard deviation of the noise at the end.
        stretches: lengths of the time before ε in which that noise acts.
        kappas: κ of the naive estimator, for little noise.
        draws: P of linear models, for little noise.
        starts: from how many positions trajectories start, for little noise.
        points: trajectories in all.
        steps: of the flow.
        per_axis: features of x, and of t, of the linear model.
        cells: of the grid from −2 to 2.
        seed: of everything.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    epsilon: float = pydantic.Field(0.01, gt=0, lt=0.5)
    bandwidth: float = pydantic.Field(0.17, gt=0)
    stretches: tuple[pydantic.PositiveFloat, ...] = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
    kappas: tuple[pydantic.PositiveFloat, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    draws: tuple[pydantic.PositiveInt, ...] = (1000, 10_000, 100_000, 1_000_000, 10_000_000)
    starts: int = pydantic.Field(24, ge=2)
    points: int = pydantic.Field(20_000, ge=10)
    steps: int = pydantic.Field(60, ge=2)
    per_axis: int = pydantic.Field(8, ge=2)
    cells: int = pydantic.Field(80, ge=10)
    seed: int = pydantic.Field(0, ge=0)


@study
class Limits(Study[LimitsConfig]):
    """Both closed forms against simulations of the effective process."""

    name = "vastola2025/limits"
    title = "Two limits of the effective process"
    paper = "Vastola, ICLR 2025, arXiv 2504.12532, appendix"
    question = "Do simulations of the effective process go over into its closed forms where those should hold?"
    Config = LimitsConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "stretches": (0.1, 0.001),
            "kappas": (1e-4, 1e-1),
            "draws": (1000, 1_000_000),
            "starts": 4,
            "points": 800,
            "steps": 20,
            "per_axis": 4,
            "cells": 40,
        },
        "small": {},
        "paper": {"points": 100_000, "starts": 100, "steps": 120, "per_axis": 16},
    }

    def run(self, config: LimitsConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        late = workspace.computed("noise at the end", functools.partial(noise_at_end, config))
        white = workspace.computed("little white noise", functools.partial(little_white, config))
        frozen = workspace.computed("little frozen noise", functools.partial(little_frozen, config))
        results = Results(study=self.name, title=self.title)
        _at_end(results, config, late)
        _small(results, config, white, frozen)
        _claims(results, config, late, white, frozen)
        results.headline = (
            f"With all noise in the last {min(config.stretches):g} before ε, the density is {late['line'][-1][0]:.3f} from a"
            f" kernel density estimate (chance alone {late['line'][-1][1]:.3f}); with κ = {min(config.kappas):g} the spread of"
            f" trajectories is {white['ratio'][0][1]:.2f} times the semiclassical one, with κ = {max(config.kappas):g} it is"
            f" {white['ratio'][-1][1]:.2f} times."
        )
        results.methods |= {
            "Process": f"VP, ε = {config.epsilon:g}; three points on the line and six in the plane, exact scores.",
            "Noise at the end": f"Standard deviation {config.bandwidth:g} in all; {config.steps} geometric steps before it,"
            " 20 during.",
            "Little noise": f"{config.starts} starts drawn from N(0, S_1); {config.points // config.starts} trajectories from"
            " each; the naive kernel for white noise, proposition 5.1 for frozen noise.",
            "Chance": "Mean total variation between the closed form and as many draws from it.",
            "Seed": f"{config.seed}.",
        }
        return results


def noise_at_end(config: LimitsConfig) -> dict[str, Any]:
    """Total variation to the kernel density estimate and what chance alone makes, for each stretch."""
    found: dict[str, Any] = {"line": [], "plane": []}
    for key, points in (("line", three()), ("plane", scattered())):
        proxy = PointProxy(VariancePreserving(config.epsilon), points)
        size = proxy.dimension
        total = config.bandwidth**2 * torch.eye(size, dtype=torch.float64)
        grid = Grid(-2.0, 2.0, config.cells if size == 1 else PLANE_CELLS, size)
        wanted = kernel_density(proxy, total, grid)
        for stretch in sorted(config.stretches, reverse=True):
            generator = torch.Generator().manual_seed(config.seed)
            kernel = EndNoise(proxy, total, stretch)
            starts = proxy.process.start(config.points, size, generator)
            *_, ends = effective_process(kernel, starts, kernel.times(config.steps, 20), generator)
            shares = Density.of(ends[None], grid).shares[0]
            found[key].append([float(total_variation(shares, wanted)), _chance(wanted, config.points, generator)])
            if key == "line":
                found.setdefault("densities", []).append(shares.numpy())
        if key == "line":
            found["estimate"] = wanted.numpy()
    return found


def _chance(shares: Tensor, count: int, generator: torch.Generator) -> float:
    """Mean total variation between shares and as many draws from them."""
    found = []
    for _ in range(20):
        cells = torch.multinomial(shares.clamp(min=0), count, replacement=True, generator=generator)
        found.append(total_variation(torch.bincount(cells, minlength=len(shares)) / count, shares))
    return float(torch.stack(found).mean())


def little_white(config: LimitsConfig) -> dict[str, Any]:
    """Naive noise of growing strength: spread over the predicted one, and distance of densities."""
    proxy = PointProxy(VariancePreserving(config.epsilon), three())
    found: dict[str, Any] = {"ratio": [], "tv": []}
    for kappa in sorted(config.kappas):
        generator = torch.Generator().manual_seed(config.seed)
        kernel, times = NaiveKernel(proxy, kappa), _geometric(config)
        starts = proxy.process.start(config.starts, 1, generator)
        ends, covariances = semiclassical(kernel, starts, times)
        each = config.points // config.starts
        *_, final = effective_process(kernel, starts.repeat_interleave(each, 0), times, generator)
        _compare(found, config, final.reshape(config.starts, each), ends, covariances, generator)
    return found


def little_frozen(config: LimitsConfig) -> dict[str, Any]:
    """Fields of linear models fitted to fewer and fewer draws, that is, with more and more noise."""
    proxy = PointProxy(VariancePreserving(config.epsilon), three())
    features = bumps(1, config.per_axis, (config.epsilon, 1.0))
    found: dict[str, Any] = {"ratio": [], "tv": []}
    for samples in sorted(config.draws, reverse=True):
        generator = torch.Generator().manual_seed(config.seed)
        kernel: LinearKernel = noise_kernel(proxy, features, LinearTraining(samples, 1e-3))
        times = proxy.process.times(30)
        starts = proxy.process.start(config.starts, 1, generator)
        ends, covariances = semiclassical(kernel, starts, times)
        runs = max(10, config.points // config.starts)
        fields = kernel.sample_models(runs, generator)
        *_, final = models_flow(fields, starts.expand(runs, config.starts, 1), times)
        _compare(found, config, final[..., 0].T, ends, covariances, generator)
    return found


def _geometric(config: LimitsConfig) -> Tensor:
    return torch.logspace(0, float(np.log10(config.epsilon)), config.steps + 1, dtype=torch.float64)


def _compare(
    found: dict[str, Any],
    config: LimitsConfig,
    final: Tensor,
    ends: Tensor,
    covariances: Tensor,
    generator: torch.Generator,
) -> None:
    """Append quartiles over starts of simulated over predicted spread, and total variation with its chance level."""
    ratio = final.std(1) / covariances[:, 0, 0].sqrt()
    found["ratio"].append([float(ratio.quantile(share)) for share in (0.25, 0.5, 0.75)])
    grid = Grid(-2.0, 2.0, config.cells)
    wanted = gaussian_mixture(ends, covariances, grid)
    shares = Density.of(final.reshape(1, -1, 1), grid).shares[0]
    found["tv"].append([float(total_variation(shares, wanted)), _chance(wanted, final.numel(), generator)])


def _at_end(results: Results, config: LimitsConfig, late: Mapping[str, Any]) -> None:
    stretches = sorted(config.stretches, reverse=True)
    series = []
    for key, name in (("line", "three points on the line"), ("plane", "six points in the plane")):
        value, chance = np.array(late[key]).T
        series.append(charts.Series(name, stretches, value))
        series.append(charts.Series(f"chance, {name}", stretches, chance, dashed=True))
    results.introductions[AT_END] = (
        "If a model's errors only mattered just before the end, sampling would first reach the data points and then be blurred:"
        " a kernel density estimate, in which noise fills gaps without regard to where they are. Earlier noise is pulled back"
        " towards the data by the score."
    )
    results.add_chart(
        "kde",
        "Distance to a kernel density estimate",
        f"Total variation between {config.points:,} simulated samples and the closed form, over the length of the stretch of"
        " time before ε in which all noise acts; dashed: what chance alone makes.",
        AT_END,
        charts.lines(charts.Panel(series, "total variation", y_log=True), "stretch of time with noise"),
    )
    grid = Grid(-2.0, 2.0, config.cells)
    centres, width = grid.centres.numpy(), grid.width
    lines = [
        charts.Series(f"noise in the last {stretches[place]:g}", centres, late["densities"][place][:-1] / width)
        for place in (0, len(stretches) - 1)
    ]
    lines.append(charts.Series("kernel density estimate", centres, late["estimate"][:-1] / width, dashed=True))
    results.add_chart(
        "densities",
        "Early and late noise of the same size",
        "Densities for three points on the line with the longest and the shortest stretch, and the closed form of the latter.",
        AT_END,
        charts.lines(charts.Panel(lines, "density"), "x", x_log=False),
    )


def _small(results: Results, config: LimitsConfig, white: Mapping[str, Any], frozen: Mapping[str, Any]) -> None:
    results.introductions[SMALL] = (
        "With little noise every trajectory stays near the one without noise, and ends in a Gaussian around it whose width"
        " follows from the flow's own stretching. More noise carries trajectories to another data point, which no"
        " Gaussian can describe."
    )
    panels, distances = [], []
    for found, x, name in (
        (white, sorted(config.kappas), "white noise: κ"),
        (frozen, [1 / p for p in sorted(config.draws, reverse=True)], "frozen noise: 1/P"),
    ):
        low, middle, high = np.array(found["ratio"]).T
        panels.append(
            charts.Panel(
                [charts.Series("simulated over predicted", x, middle, low, high)],
                "ratio of spreads",
                name,
                levels={1.0: "semiclassical"},
                y_range=(0.0, None),
            )
        )
        value, chance = np.array(found["tv"]).T
        distances += [
            {"noise": name.split(":")[0], "strength": s, "spread ratio": m, "TV": v, "chance": c}
            for s, m, v, c in zip(x, middle, value, chance, strict=True)
        ]
    for panel, key in zip(panels, ("white", "frozen"), strict=True):
        results.add_chart(
            f"spread-{key}",
            f"Spread of trajectories, {panel.title}",
            f"Standard deviation of the ends of trajectories from one start over the closed form; median and middle half of"
            f" {config.starts} starts.",
            SMALL,
            charts.lines(panel, panel.title),
        )
    results.add_table(
        "small",
        "Little noise in numbers",
        "Strength of the noise (κ, or 1/P), median ratio of spreads, total variation between the simulated density and the"
        " mixture of Gaussians around the deterministic ends, and what chance alone makes.",
        pd.DataFrame(distances),
    )


def _claims(
    results: Results,
    config: LimitsConfig,
    late: Mapping[str, Any],
    white: Mapping[str, Any],
    frozen: Mapping[str, Any],
) -> None:
    enough = config.points >= ENOUGH_POINTS
    note = "" if enough else f"{config.points} trajectories are too few; it takes {ENOUGH_POINTS}"
    excess = max(late[key][-1][0] - late[key][-1][1] for key in ("line", "plane"))
    trend = [spearmanr(range(len(late[key])), [v[0] for v in late[key]]).statistic for key in ("line", "plane")]
    results.claims += [
        Claim(
            "If all noise is added at the end, the learned distribution is a kernel density estimate.",
            SOURCE,
            f"total variation to it with noise in the last {min(config.stretches):g}, minus chance, larger of two"
            " sets of points",
            max(0.0, excess) if enough else None,
            Rule(at_most=0.05, because="a twentieth of all samples, for the steps before are finite"),
            note=note,
        ),
        Claim(
            "The later the noise, the closer to a kernel density estimate.",
            SOURCE,
            "rank correlation of the distance with the stretch, from long to short, the weaker of two sets of points",
            max(trend) if enough and len(config.stretches) > 3 else None,
            Rule(at_most=-0.8, because="nearly every step goes down"),
            note=note or ("" if len(config.stretches) > 3 else "it takes more than three stretches"),
        ),
    ]
    for found, name in (
        (white, f"white noise, κ = {min(config.kappas):g}"),
        (frozen, f"frozen noise, P = {max(config.draws):,}"),
    ):
        results.claims.append(
            Claim(
                "With little noise the learned distribution is Gaussian around the deterministic path.",
                SOURCE,
                f"median ratio of simulated to semiclassical spread, {name}",
                found["ratio"][0][1] if enough else None,
                Rule(at_least=0.9, at_most=1.1, because="a tenth either way"),
                interval=(found["ratio"][0][0], found["ratio"][0][2]) if enough else None,
                note=note,
            )
        )
