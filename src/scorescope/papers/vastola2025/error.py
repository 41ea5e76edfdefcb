"""The error of what is learned: divergence from a known truth over the number of data points."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch

from scorescope.papers.vastola2025.estimates import Estimate, mean_over_runs
from scorescope.papers.vastola2025.gaussian_error import divergences, exact_case, floor
from scorescope.papers.vastola2025.learned_by_linear import LinearDensityConfig
from scorescope.papers.vastola2025.mixture_error import Mixture, mixture_errors
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

MIXTURE, GAUSSIAN = "A mixture, learned by linear models", "A Gaussian, learned by a lazy network: exactly solvable"
SOURCE = "vastola2025, section on generalization error"


class ErrorConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        data: numbers of data points N, increasing.
        sets: draws of the data for each N, mixture.
        linear: the linear models.
        runs: training runs for each N, Gaussian.
        deviation: standard deviation of the Gaussian truth.
        mean: its mean.
        time: τ, of the lazy network's gradient flow.
        depth: hidden layers of the lazy network.
        epsilon: ε of the Gaussian part.
        steps: of its flow.
        conclusive: whether the sizes are such that the claims can be judged.
        seed: of the Gaussian part.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: tuple[pydantic.PositiveInt, ...] = (4, 8, 16, 32, 64, 128)
    sets: int = pydantic.Field(8, ge=2)
    linear: LinearDensityConfig = LinearDensityConfig(models=10, samples=1024, drawn=1000, epsilon=1e-2, steps=150)
    runs: int = pydantic.Field(40, ge=2)
    deviation: float = pydantic.Field(0.5, gt=0)
    mean: float = 0.3
    time: float = pydantic.Field(30.0, gt=0)
    depth: int = pydantic.Field(1, ge=0)
    epsilon: float = pydantic.Field(1e-2, gt=0)
    steps: int = pydantic.Field(60, ge=2)
    conclusive: bool = True
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("data")
    @classmethod
    def _increasing(cls, data: tuple[int, ...]) -> tuple[int, ...]:
        if len(data) < 2 or list(data) != sorted(set(data)):
            raise ValueError("numbers of data points must increase, two of them at least")
        return data


@study
class Error(Study[ErrorConfig]):
    """Divergence over the number of data points."""

    name = "vastola2025/error"
    title = "The error of what is learned"
    question = (
        "How fast does the learned density come near the truth as data are added, and is a kernel estimate better?"
    )
    paper = "Vastola 2025, arXiv 2504.12532"
    Config = ErrorConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": (4, 16),
            "sets": 2,
            "linear": {"models": 3, "samples": 200, "drawn": 200, "per_axis": 8, "steps": 15, "epsilon": 1e-2},
            "runs": 3,
            "steps": 12,
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {"linear": {"models": 10, "samples": 1024, "drawn": 1000, "epsilon": 1e-2, "steps": 150}},
        "paper": {
            "data": (4, 8, 16, 32, 64, 128, 256, 512, 1024),
            "sets": 30,
            "linear": {"models": 50, "samples": 1024, "drawn": 5000, "epsilon": 1e-2, "steps": 300},
            "runs": 300,
            "steps": 200,
        },
    }

    def run(self, config: ErrorConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        truth = exact_case(config.epsilon, config.mean, config.deviation)
        mixture, gaussian = [], []
        for data in config.data:
            compute = functools.partial(mixture_errors, Mixture(), data, config.sets, config.linear)
            mixture.append(workspace.computed(f"mixture N={data}", compute))
            gaussian.append(workspace.computed(f"gaussian N={data}", functools.partial(_gaussian, config, data)))
        results = Results(study=self.name, title=self.title)
        results.introductions[MIXTURE] = (
            "Data points are drawn from two Gaussians on the line; linear models learn from noisy versions of these points"
            " only. Beside"
            " the average learned density stand memorization (the exact score), the average model, which has no variance, and"
            " the"
            " kernel density estimate whose bandwidth is the best for the truth."
        )
        results.introductions[GAUSSIAN] = (
            "Gaussian data and a lazy network that is affine in x: every training run learns a Gaussian, whose divergence is"
            " known"
            " without samples, and the two cumulants of the theory are all there are."
        )
        _charts(results, config, mixture, gaussian, floor(truth, config.steps))
        _tables(results, config, mixture, gaussian)
        _claims(results, config, mixture, gaussian)
        results.headline = _headline(config, mixture, gaussian)
        linear = config.linear
        results.methods |= {
            "Mixture": f"Means −0.7 and 0.5, standard deviation 0.2; {config.sets} draws of the data for each N;"
            f" {linear.models} linear"
            f" models each, fitted to {linear.samples} noisy points, {linear.per_axis} × {linear.per_axis} {linear.family}"
            f" features, ridge {linear.ridge:g}, ε = {linear.epsilon:g}; {linear.models * linear.drawn} samples for each"
            f" density, {linear.steps} Euler steps, compared on 72 cells with half a sample added to each.",
            "Kernel estimate": "Gaussian, the bandwidth of the smallest divergence among 60 from 0.01 to 1, on the same cells.",
            "Gaussian": f"Mean {config.mean:g}, standard deviation {config.deviation:g}; f = u(t) x + v(t) with lazy ReLU"
            " networks of"
            f" {config.depth} hidden layers as coefficients, gradient flow for τ = {config.time:g} on the noise-weighted loss,"
            " N"
            f" noisy points, one of each data point; {config.runs} runs for each N; Euler's method, {config.steps} steps,"
            f" ε = {config.epsilon:g}.",
            "Averages": "Geometric means with 95 % Student's intervals over draws of the data or runs: a few runs are very"
            " wrong.",
            "Seed": f"{config.linear.seed} and {config.seed}.",
        }
        return results


def _gaussian(config: ErrorConfig, data: int) -> dict[str, Any]:
    """What `divergences` returns, and the divergence of the best ``kernel`` estimate of the same data, (runs,)."""
    truth = exact_case(config.epsilon, config.mean, config.deviation)
    generator = torch.Generator().manual_seed(config.seed)
    found = divergences(truth, data, config.runs, config.time, config.depth, config.steps, generator)
    return found | {"kernel": np.array([_best_kernel(config, points) for points in found["data"]])}


def _best_kernel(config: ErrorConfig, points: npt.NDArray[np.float64]) -> float:
    """Smallest divergence of a kernel estimate from the Gaussian truth over bandwidths, by a sum over a fine grid, nats."""
    x = np.linspace(config.mean - 6 * config.deviation, config.mean + 6 * config.deviation, 600)
    log_truth = -(((x - config.mean) / config.deviation) ** 2) / 2 - np.log(config.deviation * np.sqrt(2 * np.pi))
    found = []
    for width in config.deviation * np.geomspace(0.03, 3.0, 40):
        logits = -(((x[:, None] - points) / width) ** 2) / 2
        top = logits.max(1)
        log_estimate = top + np.log(np.exp(logits - top[:, None]).mean(1)) - np.log(width * np.sqrt(2 * np.pi))
        found.append(float((np.exp(log_truth) * (log_truth - log_estimate)).sum() * (x[1] - x[0])))
    return min(found)


def geometric(values: npt.ArrayLike) -> Estimate:
    """Geometric mean with its interval."""
    logs = mean_over_runs(np.log(np.asarray(values, dtype=np.float64)))
    return Estimate(*(float(np.exp(value)) for value in (logs.value, logs.low, logs.high)))


def _series(name: str, data: Sequence[int], values: Sequence[Any], *, dashed: bool = False) -> charts.Series:
    means = [geometric(one) for one in values]
    return charts.Series(
        name, data, [m.value for m in means], [m.low for m in means], [m.high for m in means], dashed=dashed
    )


def _charts(
    results: Results, config: ErrorConfig, mixture: Sequence[Any], gaussian: Sequence[Any], lowest: float
) -> None:
    names = {
        "learned": "learned, on average",
        "average": "average model",
        "exact": "exact score",
        "kernel": "best kernel estimate",
    }
    results.add_chart(
        "mixture",
        "Divergence from the truth over the number of data points",
        f"KL(truth ‖ density) over {config.sets} draws of the data: geometric means and 95 % intervals.",
        MIXTURE,
        charts.lines(
            charts.Panel(
                [
                    _series(words, config.data, [one[name] for one in mixture], dashed=name != "learned")
                    for name, words in names.items()
                ],
                "divergence (nats)",
                y_log=True,
            ),
            "number of data points N",
        ),
    )
    results.add_chart(
        "gaussian",
        "The same where everything is known",
        f"Training runs with actual noisy targets, and runs drawn from the theory's mean and V: {config.runs} each for every N."
        f" The exact score has {lowest:.1g} nats with the same steps.",
        GAUSSIAN,
        charts.lines(
            charts.Panel(
                [
                    _series("training runs", config.data, [one["real"] for one in gaussian]),
                    _series("theory", config.data, [one["theory"] for one in gaussian], dashed=True),
                    _series("best kernel estimate", config.data, [one["kernel"] for one in gaussian], dashed=True),
                ],
                "divergence (nats)",
                y_log=True,
            ),
            "number of data points N",
        ),
    )


def _tables(results: Results, config: ErrorConfig, mixture: Sequence[Any], gaussian: Sequence[Any]) -> None:
    rows = []
    for data, one, other in zip(config.data, mixture, gaussian, strict=True):
        row: dict[str, object] = {"N": data}
        for name in ("learned", "average", "exact", "kernel"):
            row[f"mixture, {name}"] = geometric(one[name]).value
        row["Gaussian, spread over V"] = float(other["spread"].mean())
        row["best bandwidth"] = float(one["bandwidth"].mean())
        for name in ("real", "theory", "kernel"):
            row[f"Gaussian, {name}"] = geometric(other[name]).value
        rows.append(row)
    results.add_table(
        "errors",
        "Divergence from the truth",
        "Geometric means over draws of the data or training runs, nats.",
        pd.DataFrame(rows),
    )


def _claims(results: Results, config: ErrorConfig, mixture: Sequence[Any], gaussian: Sequence[Any]) -> None:
    note = "" if config.conclusive else "models and data this few decide nothing"
    first, last = config.data[0], config.data[-1]

    def add(sentence: str, quantity: str, estimate: Estimate, rule: Rule) -> None:
        value, interval = (estimate.value, estimate.interval) if config.conclusive else (None, None)
        results.claims.append(Claim(sentence, SOURCE, quantity, value, rule, "", interval, note=note))

    for name, found, key in (("mixture", mixture, "learned"), ("Gaussian", gaussian, "real")):
        add(
            "The error falls as data points are added.",
            f"divergence at N = {last} over that at N = {first}, {name}",
            geometric(found[-1][key] / found[0][key]),
            Rule(below=1.0),
        )
        add(
            "What is learned is as good as the best Gaussian kernel density estimate.",
            f"divergence of the learned density over that of the kernel estimate, N = {last}, {name}",
            geometric(found[-1][key] / found[-1]["kernel"]),
            Rule(at_most=1.0),
        )
    add(
        "Generalization through variance is better than memorization.",
        f"divergence of the learned density over that of the exact score, N = {first}, mixture",
        geometric(mixture[0]["learned"] / mixture[0]["exact"]),
        Rule(below=1.0),
    )
    spread = mean_over_runs(np.concatenate([one["spread"] for one in gaussian]))
    same = Rule(at_least=0.8, at_most=1.25, because="a quarter, what this many runs can tell")
    add(
        "For Gaussian data and the lazy network the effective process is exact.",
        "squared deviation of training runs from the theory's average, over the theory's variance, mean over all N",
        spread,
        same,
    )


def _headline(config: ErrorConfig, mixture: Sequence[Any], gaussian: Sequence[Any]) -> str:
    if not config.conclusive:
        return "Models and data this few decide nothing: choose the preset small or paper."
    last = config.data[-1]
    one, other = mixture[-1], gaussian[-1]
    return (
        f"With {last} data points linear models are {geometric(one['learned']).value:.2g} nats from a mixture, the best kernel"
        " estimate"
        f" {geometric(one['kernel']).value:.2g}; a lazy network is {geometric(other['real']).value:.2g} nats from a Gaussian"
        " (the theory"
        f" says {geometric(other['theory']).value:.2g}), the best kernel estimate {geometric(other['kernel']).value:.2g}."
    )
