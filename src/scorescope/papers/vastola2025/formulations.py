"""vastola2025, formulations: the three cases of the theory for models of the score, of the clean point and of the noise."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
import torch
from torch import Tensor

from scorescope.papers.vastola2025.fields import FieldMap, field_maps
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.variance.effective import naive_estimator
from scorescope.variance.features import bumps
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.formulations import FORMULATIONS, Formulation
from scorescope.variance.learned_density import Density, Grid, compare
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.linear_kernel import fitted_kernel, misfit_kernel, noise_kernel
from scorescope.variance.point_sets import scattered, three
from scorescope.variance.processes import Process, VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NaiveKernel

LEARNED, FIELDS = "What a linear model makes of each", "Variance of each"
SOURCE = "vastola2025, appendix on formulations"
ENOUGH_MODELS = 50
PLACES = 1000
QUARTILES = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
FULL = ((1.2, 0.3), (0.3, 0.7))


class FormulationsConfig(pydantic.BaseModel):
    """Settings of the study of formulations.

    Attributes:
        per_axis: features of x, and of t.
        samples: P; proposition 5.1 is exact for P much larger than F.
        models: how many are fitted for each formulation.
        points: samples of each.
        epsilon: where the flow stops.
        steps: of the flow, Euler's method.
        ridge: η.
        kappa: κ of the naive estimator.
        cells: of the grid from −1.5 to 1.5.
        seed: of everything.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    per_axis: int = pydantic.Field(8, ge=2)
    samples: int = pydantic.Field(1280, ge=1)
    models: int = pydantic.Field(100, ge=4)
    points: int = pydantic.Field(10_000, ge=1)
    epsilon: float = pydantic.Field(0.01, gt=0, lt=1)
    steps: int = pydantic.Field(30, ge=1)
    ridge: float = pydantic.Field(1e-3, ge=0)
    kappa: float = pydantic.Field(0.02, ge=0)
    cells: int = pydantic.Field(100, ge=10)
    seed: int = pydantic.Field(0, ge=0)


@study
class Formulations(Study[FormulationsConfig]):
    """No variance, naive and linear models in three formulations."""

    name = "vastola2025/formulations"
    title = "Score, clean point or noise: what a model predicts"
    paper = "Vastola, ICLR 2025, arXiv 2504.12532, propositions 3.1, 4.1 and 5.1 in three formulations"
    question = "Does the theory say the same of models that predict the score, the clean point or the noise?"
    Config = FormulationsConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"per_axis": 3, "samples": 100, "models": 8, "points": 300, "cells": 40},
        "small": {},
        "paper": {"per_axis": 16, "samples": 20_480, "points": 100_000, "cells": 200},
    }

    def run(self, config: FormulationsConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        same = workspace.computed("identities", functools.partial(identities, config))
        found = workspace.computed("linear", functools.partial(linear_models, config))
        results = Results(study=self.name, title=self.title)
        _same(results, same)
        _learned(results, config, found)
        _fields(results, config)
        _claims(results, config, same, found)
        apart = max(value[0] - value[3] for value in found["distances"].values())
        results.headline = (
            f"Exact and naive scores are the same in all three formulations to {max(same.values()):.0e};"
            f" linear models with the same features are not: their average densities differ by up to {apart:.2f} in total"
            " variation beyond chance."
        )
        results.methods |= {
            "Identities": "Relative differences at 200 random positions and times for VP and EDM noise, isotropic and full;"
            " for the naive estimator along whole trajectories with the same draws.",
            "Linear models": f"Three points on the line, VP, ε = {config.epsilon:g}; {config.per_axis} × {config.per_axis}"
            f" Gaussian features, P = {config.samples}, ridge {config.ridge:g}; the weight makes all three losses the same.",
            "Seed": f"{config.seed}.",
        }
        return results


def identities(config: FormulationsConfig) -> dict[str, float]:
    """Largest relative differences between formulations where there should be none."""
    full = torch.tensor(FULL, dtype=torch.float64)
    processes: list[Process] = [VariancePreserving(), VariancePreserving(shape=full), VarianceExploding(shape=full)]
    worst = {"score": 0.0, "proxy covariance": 0.0, "naive trajectories": 0.0}
    for process in processes:
        generator = torch.Generator().manual_seed(config.seed)
        proxy = PointProxy(process, scattered())
        t = 0.05 + 0.9 * torch.rand(200, generator=generator, dtype=torch.float64)
        x = torch.randn(200, 2, generator=generator, dtype=torch.float64)
        score, covariance = proxy.score(x, t), proxy.covariance(x, t)
        for form in FORMULATIONS.values():
            output = form.from_score(process, score, x, t)
            back = form.to_score(process, output, x, t)
            gain = form.gain(process, t, 2)
            spread = gain @ proxy.target_covariance(form, x, t) @ gain.mT
            worst["score"] = max(worst["score"], _difference(back, score))
            worst["proxy covariance"] = max(worst["proxy covariance"], _difference(spread, covariance))
    proxy = PointProxy(VariancePreserving(0.05), scattered())
    paths = [_naive_ends(config, proxy, form) for form in FORMULATIONS.values()]
    plain = _plain_naive_ends(config, proxy)
    worst["naive trajectories"] = max(_difference(path, plain) for path in paths)
    return worst


def _difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _naive_ends(config: FormulationsConfig, proxy: PointProxy, form: Formulation) -> Tensor:
    """The naive estimator written for one formulation's output: output + sqrt(κ/Δt) (target − output)."""
    process, generator = proxy.process, torch.Generator().manual_seed(config.seed)
    times = process.times(100)
    x = process.start(200, 2, generator)
    for t, following in itertools.pairwise(times):
        at, step = t.expand(len(x)), following - t
        exact = form.from_score(process, proxy.score(x, at), x, at)
        target = form.target(process, proxy.draw_clean(x, at, generator), x, at)
        output = exact + (config.kappa / step.abs()).sqrt() * (target - exact)
        x = x + step * process.drift(x, at, form.to_score(process, output, x, at))
    return x


def _plain_naive_ends(config: FormulationsConfig, proxy: PointProxy) -> Tensor:
    generator = torch.Generator().manual_seed(config.seed)
    starts = proxy.process.start(200, 2, generator)
    *_, end = naive_estimator(NaiveKernel(proxy, config.kappa), starts, proxy.process.times(100), generator)
    return end


def linear_models(config: FormulationsConfig) -> dict[str, Any]:
    """Fitted models in each formulation: densities, variance by formula and between models, distances."""
    proxy, grid = PointProxy(VariancePreserving(config.epsilon), three()), Grid(-1.5, 1.5, config.cells)
    features, times = bumps(1, config.per_axis, (config.epsilon, 1.0)), proxy.process.times(config.steps)
    densities, found = {}, {}
    for name, form in FORMULATIONS.items():
        generator = torch.Generator().manual_seed(config.seed)  # the same draws and starts for each
        training = LinearTraining(config.samples, config.ridge, form)
        models = fit_linear(proxy, features, training, config.models, generator)
        starts = proxy.process.start(config.models * config.points, 1, generator)
        ends = follow_flow(models, starts.reshape(config.models, -1, 1), times)
        densities[name] = Density.of(ends, grid)
        _, t, x = proxy.draw_training(PLACES, generator)
        between = fitted_kernel(models).trace(x, t)
        kernels = [kernel(proxy, features, training) for kernel in (noise_kernel, misfit_kernel)]
        reached = between > 0  # far from all features, models are zero and do not vary: there is no ratio
        ratios = [(kernel.trace(x, t) / between)[reached].quantile(QUARTILES).tolist() for kernel in kernels]
        found[name] = {
            "average": densities[name].average.numpy(),
            "inside": densities[name].inside,
            "ratio": ratios[0],
            "leading": ratios[1],
        }
    names, generator = list(FORMULATIONS), torch.Generator().manual_seed(config.seed)
    distances = {}
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            one = compare(densities[first], densities[second], generator)
            distances[f"{first}, {second}"] = [one.value, one.low, one.high, one.floor]
    return {"models": found, "distances": distances}


def _same(results: Results, same: Mapping[str, float]) -> None:
    results.add_table(
        "identities",
        "Largest relative difference between formulations",
        "Score, clean point and noise are linear functions of each other, given x and t, so exact score, proxy covariance and"
        " the naive estimator's trajectories are the same whichever is predicted: the differences are rounding.",
        pd.DataFrame({"quantity": list(same), "relative difference": list(same.values())}),
        formats={"relative difference": ".1e"},
    )


def _learned(results: Results, config: FormulationsConfig, found: Mapping[str, Any]) -> None:
    grid = Grid(-1.5, 1.5, config.cells)
    series = [charts.Series(name, grid.centres.numpy(), one["average"]) for name, one in found["models"].items()]
    results.introductions[LEARNED] = (
        "A linear model is a different set of functions in each formulation: bumps that add up to a score are not bumps that"
        " add up to a denoiser. The theory's formula applies to each, but what is learned differs."
    )
    results.add_chart(
        "densities",
        "Average learned densities of linear models",
        f"Average over {config.models} models of {config.points:,} samples each, with the same features, draws and starts.",
        LEARNED,
        charts.lines(charts.Panel(series, "density"), "x", x_log=False),
    )
    rows = [
        {
            "prediction": name,
            "on the grid": one["inside"],
            "tr V: prop. 5.1 / models": one["ratio"][1],
            "tr V: with misfit / models": one["leading"][1],
        }
        for name, one in found["models"].items()
    ]
    results.add_table(
        "linear",
        "Linear models in each formulation",
        "Share of samples on the grid, and median ratio of tr V by the formula to that between models, over 1,000 training"
        " draws: by proposition 5.1 (the target's noise alone), and with the features' misfit added.",
        pd.DataFrame(rows),
        formats={"on the grid": ".3f"},
    )
    results.add_table(
        "distances",
        "Distance between formulations",
        "Total variation between average densities, with its 95 % interval and what equal densities would show.",
        pd.DataFrame(
            [
                {"pair": pair, "TV": d[0], "low": d[1], "high": d[2], "floor": d[3]}
                for pair, d in found["distances"].items()
            ]
        ),
    )


def _fields(results: Results, config: FormulationsConfig) -> None:
    proxy = PointProxy(VariancePreserving(config.epsilon), three())
    t = torch.linspace(config.epsilon, 1.0, max(30, config.cells // 2), dtype=torch.float64)
    x = torch.linspace(-2, 2, max(41, config.cells // 2), dtype=torch.float64)
    grid_t, grid_x = torch.meshgrid(t, x, indexing="ij")
    features, ends, up = bumps(1, config.per_axis, (config.epsilon, 1.0)), (config.epsilon, 1.0), (-2.0, 2.0)
    panels = []
    for name, form in FORMULATIONS.items():
        kernel = noise_kernel(proxy, features, LinearTraining(config.samples, config.ridge, form))
        panels.append(FieldMap(kernel.trace(grid_x[..., None], grid_t).numpy(), ends, up, name, log=True))
    results.add_chart(
        "variance",
        "tr V over position and time",
        "By proposition 5.1 for a linear model of each kind with the same features; logarithmic colours, at most four decades.",
        FIELDS,
        field_maps(panels, 3, x_label="time t", y_label="position x", height=1.3),
    )


def _claims(results: Results, config: FormulationsConfig, same: Mapping[str, float], found: Mapping[str, Any]) -> None:
    enough = config.models >= ENOUGH_MODELS
    note = "" if enough else f"{config.models} models are too few; it takes {ENOUGH_MODELS}"
    results.claims += [
        Claim(
            "Proxy score and proxy covariance are the same in all formulations.",
            SOURCE,
            "largest relative difference",
            max(same["score"], same["proxy covariance"]),
            Rule(at_most=1e-8, because="rounding in float64"),
        ),
        Claim(
            "Proposition 4.1 holds in all formulations: the naive estimator is the same process.",
            SOURCE,
            "largest relative difference between the ends of trajectories with the same draws",
            same["naive trajectories"],
            Rule(at_most=1e-6, because="rounding along 100 steps"),
        ),
    ]
    for key, sentence, source in (
        ("ratio", "Proposition 5.1 holds in all formulations.", SOURCE),
        (
            "leading",
            "With the features' misfit added, the formula is that of fitted models in all formulations.",
            SOURCE,
        ),
    ):
        ratios = {name: one[key][1] for name, one in found["models"].items()}
        worst = max(ratios, key=lambda name: abs(np.log(ratios[name])))
        results.claims.append(
            Claim(
                sentence,
                source,
                f"median ratio of tr V by the formula to that between models, the farthest from 1 ({worst})",
                ratios[worst] if enough else None,
                Rule(at_least=0.8, at_most=1.25, because="a quarter either way"),
                note=note or f"P/F = {config.samples / config.per_axis**2:g}",
            )
        )
    pair = max(found["distances"], key=lambda name: found["distances"][name][0] - found["distances"][name][3])
    value, low, high, floor = found["distances"][pair]
    results.claims.append(
        Claim(
            "What a linear model learns depends on the formulation, through its features.",
            SOURCE,
            f"largest total variation between average densities minus its floor ({pair})",
            max(0.0, value - floor) if enough else None,
            Rule(at_least=0.05, because="a twentieth of all samples"),
            interval=(max(0.0, low - floor), max(0.0, high - floor)) if enough else None,
            note=note,
        )
    )
