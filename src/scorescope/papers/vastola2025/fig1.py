"""vastola2025, figure 1: where the training target is noise, and which way that noise points."""

from __future__ import annotations

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
from scorescope.variance.effective import effective_process, probability_flow
from scorescope.variance.point_sets import FIGURE_1
from scorescope.variance.processes import LinearSignal
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel, NoVariance

MAPS, FIELDS = "Where the target is noise", "One set of points, field by field"
SOURCE = "vastola2025, figure 1 and section 3"
CIRCLE = 64  # positions on a circle
FAR = 3.0


class Figure1Config(pydantic.BaseModel):
    """Settings of figure 1.

    Attributes:
        times: t of the maps, with α² = 1 − t and S = t I.
        cells: of a map along each side.
        reach: maps go from −reach to reach.
        field_set: the set whose fields are shown one by one.
        field_time: the time at which they are.
        kappa: κ of the naive estimator whose noise and trajectories are shown.
        trajectories: how many are drawn.
        steps: of a trajectory.
        seed: of starts and noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    times: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 0.75)
    cells: int = pydantic.Field(101, ge=5)
    reach: float = pydantic.Field(2.0, gt=0)
    field_set: str = "hexagon"
    field_time: float = pydantic.Field(0.2, gt=0, lt=1)
    kappa: float = pydantic.Field(0.02, ge=0)
    trajectories: int = pydantic.Field(24, ge=1)
    steps: int = pydantic.Field(120, ge=2)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("times")
    @classmethod
    def _within(cls, times: tuple[float, ...]) -> tuple[float, ...]:
        if not times or not all(0 < t < 1 for t in times):
            raise ValueError("times must lie between 0 and 1")
        return times

    @pydantic.field_validator("field_set")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FIGURE_1:
            raise ValueError(f"the sets are {', '.join(FIGURE_1)}")
        return name


@study
class Figure1(Study[Figure1Config]):
    """Maps of the proxy score's relative variance for four sets of points."""

    name = "vastola2025/fig1"
    title = "Where the training target is noise"
    paper = "Vastola, ICLR 2025, arXiv 2504.12532, figure 1"
    question = "In which regions is the target that a diffusion model is trained on mostly noise rather than score?"
    Config = Figure1Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"cells": 31, "trajectories": 6, "steps": 30},
        "small": {},
        "paper": {"cells": 201},
    }

    def run(self, config: Figure1Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        results = Results(study=self.name, title=self.title)
        proxies = {name: PointProxy(LinearSignal(), points()) for name, points in FIGURE_1.items()}
        _fraction_maps(results, config, proxies)
        _fields(results, config, proxies[config.field_set])
        measured = {name: _regions(proxy, min(config.times)) for name, proxy in proxies.items()}
        _claims(results, measured, min(config.times))
        _table(results, config, proxies)
        between = np.mean([found["between"] for found in measured.values()])
        around = np.mean([found["around"] for found in measured.values()])
        results.headline = (
            f"Half way between neighbouring points {between:.0%} of the target's size is noise, around the points"
            f" {around:.0%} (t = {min(config.times):g}, mean of four sets)."
        )
        results.methods |= {
            "Points": "Six points in the plane for each set, all equally likely.",
            "Process": "α² = 1 − t, S = t I; everything in closed form in float64.",
            "Noise share": "tr C / (tr C + ‖s‖²), with s the score and C the covariance of its noisy stand-in, the proxy"
            " score S⁻¹(α x0 − x), over the x0 that x may have come from.",
            "Trajectories": f"Euler's method in {config.steps} geometric steps from t = 0.99 to 0.01, seed {config.seed}.",
        }
        return results


def _plane(config: Figure1Config) -> Tensor:
    """Positions of a map, (cells, cells, 2)."""
    across = torch.linspace(-config.reach, config.reach, config.cells, dtype=torch.float64)
    return torch.stack(torch.meshgrid(across, across, indexing="ij"), -1)


def _fraction_maps(results: Results, config: Figure1Config, proxies: Mapping[str, PointProxy]) -> None:
    x, ends = _plane(config), (-config.reach, config.reach)
    panels = []
    for row, proxy in enumerate(proxies.values()):
        found = np.stack([proxy.fraction(x, torch.tensor(t)).numpy() for t in config.times])
        results.arrays[f"fraction-{row}"] = found.astype(np.float32)
        for values, t in zip(found, config.times, strict=True):
            title = f"t = {t:g}" if row == 0 else ""
            panels.append(FieldMap(values, ends, ends, title, points=proxy.points.numpy()))
    results.introductions[MAPS] = (
        "Training shows a network a noisy point x and asks for the direction to the clean point that it came from. Where x may"
        " have come from several points, the answer differs from one draw to the next: that is the noise mapped here."
    )
    results.add_chart(
        "fraction",
        "Share of noise in the training target",
        "Each row is a set of six data points (red), each column a noise level. Bright: the target is nearly all noise; dark:"
        " nearly all score. At low noise the bright regions are the boundaries between points; as t grows they merge.",
        MAPS,
        field_maps(
            panels,
            len(config.times),
            bar="tr C / (tr C + ‖s‖²)",
            value_range=(0.0, 1.0),
            row_labels=list(proxies),
        ),
    )


def _fields(results: Results, config: Figure1Config, proxy: PointProxy) -> None:
    x, t, ends = _plane(config), torch.tensor(config.field_time, dtype=torch.float64), (-config.reach, config.reach)
    naive, marks = NaiveKernel(proxy, config.kappa), proxy.points.numpy()
    generator = torch.Generator().manual_seed(config.seed)
    times = torch.logspace(math.log10(0.99), -2, config.steps + 1, dtype=torch.float64)
    starts = proxy.process.start(config.trajectories, 2, generator)
    still = torch.stack(list(probability_flow(NoVariance(proxy), starts, times)), 1).numpy()
    noisy = torch.stack(list(effective_process(naive, starts, times, generator)), 1).numpy()
    drift = naive.drift(x, t).norm(dim=-1)
    panels = [
        FieldMap(proxy.score(x, t).norm(dim=-1).numpy(), ends, ends, "size of the score s", marks, log=True),
        FieldMap(
            proxy.trace(x, t).numpy(),
            ends,
            ends,
            "noise of the target, tr C",
            marks,
            arrows=_directions(proxy, x, t),
            log=True,
        ),
        FieldMap(drift.numpy(), ends, ends, "drift of the flow, no noise", marks, list(still), log=True),
        FieldMap(
            naive.trace(x, t).numpy(), ends, ends, f"naive noise, κ = {config.kappa:g}", marks, list(noisy), log=True
        ),
    ]
    results.introductions[FIELDS] = (
        "A sample starts as noise and follows the score back to the data. With the exact score every path ends at a data point."
        " A learned score is off by an error that is large where the target was noisy, and that error moves paths into gaps."
    )
    results.add_chart(
        "fields",
        f"The fields of the {config.field_set} at t = {config.field_time:g}",
        "Top left: how strongly the score pulls. Top right: how noisy its target is; strokes show the direction of that"
        f" noise, from one candidate point to another. Bottom: speed of the flow with {config.trajectories} exact paths, and"
        " noise of the naive estimator, which trusts one drawn point a step, with its paths from the same starts.",
        FIELDS,
        field_maps(panels, 2, x_label="first coordinate", y_label="second coordinate"),
    )


def _directions(proxy: PointProxy, x: Tensor, t: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Strokes along the first eigenvector of C on a coarse grid where C is not negligible, (n, 4)."""
    every = max(1, len(x) // 13)
    places = x[every // 2 :: every, every // 2 :: every].reshape(-1, 2)
    size, along = (part[:, 0] for part in proxy.leading(places, t, 1))
    kept = size > 0.01 * size.max()
    strokes = 0.18 * along * (size / size.max()).sqrt().clamp(min=0.3)[:, None]
    return torch.cat([places, strokes], 1)[kept].numpy()


def _regions(proxy: PointProxy, t: float) -> dict[str, float]:
    """Noise share between neighbours, around points and far away, and how the noise points between neighbours."""
    time = torch.tensor(t, dtype=torch.float64)
    points = proxy.process.alpha(time) * proxy.points
    apart = torch.cdist(points, points) + torch.diag(torch.full((len(points),), math.inf, dtype=torch.float64))
    nearest = apart.argmin(1)
    between = (points + points[nearest]) / 2
    angles = torch.arange(CIRCLE, dtype=torch.float64) * (2 * math.pi / CIRCLE)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    around = points[:, None] + time.sqrt() * circle
    far = points.mean(0) + FAR * circle
    along = points[nearest] - points
    leading = proxy.leading(between, time, 1)[1][:, 0]
    aligned = (leading * along / along.norm(dim=1, keepdim=True)).sum(1).abs()
    return {
        "between": float(proxy.fraction(between, time).mean()),
        "around": float(proxy.fraction(around, time).mean()),
        "far": float(proxy.fraction(far, time).mean()),
        "aligned": float(aligned.mean()),
    }


def _claims(results: Results, measured: Mapping[str, Mapping[str, float]], t: float) -> None:
    results.claims += [
        Claim(
            "The proxy score's variance is large in boundary regions, between data points, and small around them.",
            SOURCE,
            f"noise share half way between nearest neighbours minus that one standard deviation of the noise away from the"
            f" points, at t = {t:g}, the lowest of four sets",
            min(found["between"] - found["around"] for found in measured.values()),
            Rule(at_least=0.25, because="a quarter of the scale, plain to the eye"),
        ),
        Claim(
            "No noise is added far away from the data.",
            SOURCE,
            f"mean noise share at a distance of {FAR:g} from the centre, t = {t:g}, the highest of four sets",
            max(found["far"] for found in measured.values()),
            Rule(at_most=0.05, because="five hundredths of the scale"),
        ),
        Claim(
            "The noise points from one candidate point to the other.",
            SOURCE,
            f"mean |cosine| between the first eigenvector of C half way between nearest neighbours and the line through them,"
            f" t = {t:g}, the lowest of four sets",
            min(found["aligned"] for found in measured.values()),
            Rule(at_least=0.9, because="within 26 degrees"),
        ),
    ]


def _table(results: Results, config: Figure1Config, proxies: Mapping[str, PointProxy]) -> None:
    rows = [{"set": name, "t": t, **_regions(proxy, t)} for name, proxy in proxies.items() for t in config.times]
    frame = pd.DataFrame(rows).rename(
        columns={"between": "between neighbours", "around": "around points", "far": "far away", "aligned": "|cosine|"}
    )
    results.add_table(
        "regions",
        "Noise share by region",
        "Half way between nearest neighbours; on circles of one standard deviation of the noise around the points; at"
        f" a distance of {FAR:g} from the centre; and how well the noise points along the line between neighbours.",
        frame,
        formats={"between neighbours": ".3f", "around points": ".3f", "far away": ".4f", "|cosine|": ".3f"},
    )
