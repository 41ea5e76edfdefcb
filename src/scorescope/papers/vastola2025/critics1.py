"""Critics' question 1: is the learned score Gaussian over training runs, and where not?"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic
import torch

from scorescope.data import load_images
from scorescope.lenses.subject import chosen
from scorescope.papers.vastola2025.normality import LEVEL, Normality, normality_of
from scorescope.papers.vastola2025.point_ensembles import POINT_SETS, PointEnsembleConfig, PointSet, train_ensemble
from scorescope.papers.vastola2025.runs import trained_runs
from scorescope.posterior.processes import check_same_images
from scorescope.probes.errors import forward_inputs
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import Selection, TrainingConfig
from scorescope.variance.features import bumps
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy

MODELS = ("linear model", "perceptron", "convolutional network")
SECTION = "Over training runs"
SOURCE = "vastola2025, proposition 3.1 (two cumulants are kept); critics' question 1"


class LinearRuns(pydantic.BaseModel):
    """Settings of the linear models: Gaussian bumps fitted in closed form.

    Attributes:
        points: data set.
        models: training runs.
        samples: P, noisy points of each run.
        per_axis: features along x and t each.
        ridge: η.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    points: PointSet = "three on a line"
    models: int = pydantic.Field(400, ge=20)
    samples: int = pydantic.Field(512, ge=1)
    per_axis: int = pydantic.Field(16, ge=2)
    ridge: float = pydantic.Field(0.1, ge=0)


class ConvolutionalRuns(pydantic.BaseModel):
    """Settings of the convolutional networks: bias-free UNets.

    Attributes:
        data: a store, or the name of a built-in data set.
        size: training images.
        runs: networks, which differ in their seed.
        width: channels of the first block.
        training: how each is trained.
        pixels: of each denoised image that are looked at, drawn at random.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "digits"
    size: int = pydantic.Field(200, ge=1)
    runs: int = pydantic.Field(40, ge=20)
    width: int = pydantic.Field(8, ge=1)
    training: TrainingConfig = TrainingConfig(steps=300)
    pixels: int = pydantic.Field(8, ge=1)


class Critics1Config(pydantic.BaseModel):
    """Settings.

    Attributes:
        linear: the linear models.
        perceptron: the multilayer perceptrons on points.
        convolutional: the convolutional networks on images.
        levels: noise levels.
        inputs: probe points a level.
        conclusive: whether the sizes are such that the claims can be judged.
        seed: of probe points and pixels.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    linear: LinearRuns = LinearRuns()
    perceptron: PointEnsembleConfig = PointEnsembleConfig(members=128, pool=512, width=48, steps=800)
    convolutional: ConvolutionalRuns = ConvolutionalRuns()
    levels: int = pydantic.Field(6, ge=2)
    inputs: int = pydantic.Field(20, ge=1)
    conclusive: bool = True
    seed: int = pydantic.Field(0, ge=0)


@study
class Critics1(Study[Critics1Config]):
    """Gaussian or not."""

    name = "vastola2025/critics1"
    title = "Is the learned score Gaussian over training runs?"
    question = (
        "The theory keeps mean and covariance over training runs: are there no higher cumulants, and where are they?"
    )
    paper = "Vastola 2025, arXiv 2504.12532"
    Config = Critics1Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "linear": {"models": 40, "samples": 64, "per_axis": 6},
            "perceptron": {"members": 20, "width": 8, "depth": 1, "steps": 20, "pool": 32},
            "convolutional": {
                "size": 20,
                "runs": 20,
                "width": 4,
                "training": {"steps": 3, "batch": 4},
                "pixels": 2,
            },
            "levels": 3,
            "inputs": 4,
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {
            "perceptron": {"members": 128, "pool": 512, "width": 48, "steps": 800},
            "convolutional": {"training": {"steps": 300}},
        },
        "paper": {
            "linear": {"models": 5000, "samples": 1024},
            "perceptron": {"members": 500, "width": 128, "depth": 3, "pool": 512, "steps": 10_000},
            "convolutional": {
                "data": "fashion-mnist",
                "size": 1000,
                "runs": 200,
                "width": 32,
                "training": {"steps": 10_000, "batch": 128, "learning_rate": 1e-3},
            },
            "inputs": 50,
        },
    }

    def run(self, config: Critics1Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        outputs = {
            MODELS[0]: workspace.computed("linear", functools.partial(_linear, config)),
            MODELS[1]: workspace.computed("perceptron", functools.partial(_perceptron, config)),
            MODELS[2]: workspace.computed("convolutional", functools.partial(_convolutional, config, workspace)),
        }
        whole = {name: normality_of(found["outputs"]) for name, found in outputs.items()}
        by_level = {
            name: [normality_of(found["outputs"][:, level]) for level in range(len(found["sigma"]))]
            for name, found in outputs.items()
        }
        results = Results(study=self.name, title=self.title)
        results.introductions[SECTION] = (
            "Every coordinate of what a model answers at every probe point is one number with one value a training run. Of a"
            " Gaussian number skewness and excess kurtosis are 0; with finitely many runs they scatter around it by a known"
            " amount. The more runs, the smaller the deviations that a test can see."
        )
        _charts(results, outputs, whole, by_level)
        _tables(results, outputs, whole, by_level)
        for name, found in whole.items():
            key = name.replace(" ", "-")
            results.arrays |= {f"{key}-skewness": found.skewness, f"{key}-excess-kurtosis": found.excess}
            results.arrays |= {f"{key}-p-values": found.p_values, f"{key}-rejected": found.rejected}
        _claims(results, config, whole)
        results.headline = _headline(config, whole)
        results.methods |= _methods(config)
        return results


def _linear(config: Critics1Config) -> dict[str, Any]:
    """``outputs`` (R, L, B, d) and ``sigma`` (L,), from high to low."""
    how = config.linear
    process = VariancePreserving(1e-3)
    proxy = PointProxy(process, torch.tensor(POINT_SETS[how.points]))
    features = bumps(proxy.dimension, how.per_axis, (process.epsilon, process.horizon))
    training = LinearTraining(samples=how.samples, ridge=how.ridge)
    models = fit_linear(proxy, features, training, how.models, torch.Generator().manual_seed(config.seed))
    generator = torch.Generator().manual_seed(config.seed + 1)
    times = torch.linspace(0.9, 0.05, config.levels, dtype=torch.float64)
    outputs = []
    for time in times:
        at = time.expand(config.inputs)
        clean = proxy.points[torch.randint(len(proxy.points), (config.inputs,), generator=generator)]
        outputs.append(models.output(process.forward(clean, at, generator), at))
    sigma = process.mean_variance(times, 1).sqrt() / process.alpha(times)
    return {"outputs": torch.stack(outputs, 1).numpy(), "sigma": sigma.numpy()}


def _perceptron(config: Critics1Config) -> dict[str, Any]:
    members = train_ensemble(config.perceptron)
    points = config.perceptron.points_tensor
    generator = torch.Generator().manual_seed(config.seed + 1)
    sigmas = np.geomspace(config.perceptron.sigma_max / 2, 2 * config.perceptron.sigma_min, config.levels)
    outputs = []
    for sigma in sigmas:
        clean = points[torch.randint(len(points), (config.inputs,), generator=generator)]
        noisy = clean + float(sigma) * torch.randn(clean.shape, generator=generator)
        outputs.append(members.everywhere(noisy[:, None, None], float(sigma))[:, :, 0, 0])
    return {"outputs": torch.stack(outputs, 1).numpy(), "sigma": sigmas}


def _convolutional(config: Critics1Config, workspace: Workspace) -> dict[str, Any]:
    how, data = config.convolutional, load_images(config.convolutional.data).train
    check_same_images(data)
    images = Selection(total=data.stored, size=how.size, count=1, seed=config.seed).choose(data)
    runs = [how.training.model_copy(update={"seed": seed}) for seed in range(how.runs)]
    networks = trained_runs([images] * how.runs, runs, how.width, workspace, "training runs to compare")
    high = networks[0].sigma_range[1]
    sigmas = [float(sigma) for sigma in np.geomspace(high / 2, 0.05, config.levels)]
    clean = chosen(images, config.inputs, config.seed)
    pixels = torch.randperm(clean[0].numel(), generator=torch.Generator().manual_seed(config.seed))[: how.pixels]
    outputs = []
    with torch.no_grad():
        for noisy, sigma in zip(forward_inputs(clean, sigmas, config.seed), sigmas, strict=True):
            outputs.append(torch.stack([network(noisy, sigma).flatten(1)[:, pixels] for network in networks]))
    return {"outputs": torch.stack(outputs, 1).numpy(), "sigma": np.array(sigmas)}


def _charts(
    results: Results,
    outputs: Mapping[str, Mapping[str, Any]],
    whole: Mapping[str, Normality],
    by_level: Mapping[str, list[Normality]],
) -> None:
    panels, expected = {}, []
    for name, found in whole.items():
        panels[name] = {"skewness": found.skewness, "excess kurtosis": np.clip(found.excess, -3, 3)}
        expected.append(f"{name} ±{found.expected_skewness:.2f} and ±{found.expected_excess:.2f}")
    results.add_chart(
        "histograms",
        "Skewness and excess kurtosis of every output",
        f"Gaussian numbers would scatter by chance (root mean square): {'; '.join(expected)}. Beyond ±3 counts as ±3.",
        SECTION,
        charts.histograms(panels, "skewness, excess kurtosis", x_range=(-3.0, 3.0)),
    )
    series = []
    for name, levels in by_level.items():
        series.append(charts.Series(name, outputs[name]["sigma"], [level.below_level for level in levels]))
    results.add_chart(
        "levels",
        "Where they are not Gaussian",
        f"Share of the outputs whose test gives p < {LEVEL:g}, level by level; by chance it would be {LEVEL:g}.",
        SECTION,
        charts.lines(charts.Panel(series, "share with p < 0.05", y_range=(-0.03, 1.03), levels={LEVEL: "by chance"})),
    )
    panels_q = []
    for name, found in whole.items():
        sorted_p = np.sort(found.p_values)
        chance = (np.arange(len(sorted_p)) + 0.5) / len(sorted_p)
        panels_q.append(
            charts.Panel(
                [charts.Series("p-values in order", chance, sorted_p, colour=palette.BLUE)],
                "p-value",
                name,
                identity=True,
            )
        )
    results.add_chart(
        "p-values",
        "All p-values in order",
        "On the dotted line everything is Gaussian; the farther below it, the more outputs are not.",
        SECTION,
        charts.lines(panels_q, "expected by chance", x_log=False, columns=2, legend=False),
    )


def _tables(
    results: Results,
    outputs: Mapping[str, Mapping[str, Any]],
    whole: Mapping[str, Normality],
    by_level: Mapping[str, list[Normality]],
) -> None:
    def row(name: str, where: object, found: Normality) -> dict[str, object]:
        return {
            "model": name,
            "σ": where,
            "runs": found.runs,
            "outputs": len(found.p_values),
            "skewness (RMS)": float(np.sqrt((found.skewness**2).mean())),
            "by chance": found.expected_skewness,
            "excess kurtosis (mean)": float(found.excess.mean()),
            "its RMS by chance": found.expected_excess,
            "p < 0.05": found.below_level,
            "rejected (Holm)": found.rejected_share,
        }

    rows = [row(name, "all", found) for name, found in whole.items()]
    for name, levels in by_level.items():
        rows += [row(name, f"{s:.3g}", one) for s, one in zip(outputs[name]["sigma"], levels, strict=True)]
    results.add_table(
        "normality",
        "Tests of normality",
        "D'Agostino and Pearson's K² for every output over the runs; rejected: after Holm's correction for all outputs of the"
        " row"
        " together, family-wise level 0.05. Outputs at neighbouring points are correlated, which Holm's procedure allows.",
        pd.DataFrame(rows),
    )


def _claims(results: Results, config: Critics1Config, whole: Mapping[str, Normality]) -> None:
    for name, found in whole.items():
        results.claims.append(
            Claim(
                "The learned score is Gaussian over training runs, so that two cumulants say all.",
                SOURCE,
                f"share of the outputs for which the test of normality gives p < {LEVEL:g}, {name}, {found.runs} runs",
                found.below_level if config.conclusive else None,
                Rule(at_most=0.1, because="twice what chance gives"),
                note="" if config.conclusive else "runs this few and this short decide nothing",
            )
        )
        results.claims.append(
            Claim(
                "Higher cumulants are small.",
                SOURCE,
                f"root mean square skewness over what chance gives with {found.runs} runs, {name}",
                float(np.sqrt((found.skewness**2).mean())) / found.expected_skewness if config.conclusive else None,
                Rule(at_most=1.5, because="half as much again"),
                note="" if config.conclusive else "runs this few and this short decide nothing",
            )
        )


def _headline(config: Critics1Config, whole: Mapping[str, Normality]) -> str:
    if not config.conclusive:
        return "Runs this few and this short decide nothing: choose the preset small or paper."
    parts = [
        f"{name} {found.below_level:.0%} ({found.rejected_share:.0%} after correction)" for name, found in whole.items()
    ]
    return (
        f"Share of outputs that are not Gaussian over training runs at p < {LEVEL:g}, where {LEVEL:.0%} would be by chance:"
        f" {'; '.join(parts)}."
    )


def _methods(config: Critics1Config) -> dict[str, str]:
    linear, mlp, conv = config.linear, config.perceptron, config.convolutional
    return {
        "Linear model": f"{linear.models} fits to {linear.samples} noisy points each of {linear.points},"
        f" {linear.per_axis} × {linear.per_axis} Gaussian bumps, ridge {linear.ridge:g}, denoised point as output.",
        "Perceptron": f"{mlp.members} runs on {mlp.points}, {mlp.depth} blocks of {mlp.width} units, {mlp.steps} Adam steps on "
        + ("fresh noisy points." if mlp.pool is None else f"{mlp.pool} noisy points of each run's own."),
        "Convolutional network": f"{conv.runs} bias-free UNets of width {conv.width} on {conv.size} images of {conv.data},"
        f" {conv.training.steps} steps of {conv.training.batch}; {conv.pixels} pixels of each answer.",
        "Probe points": f"{config.inputs} noisy training points or images at each of {config.levels} levels, the same for all"
        " runs.",
        "Test": f"D'Agostino and Pearson's K² over runs, for each output; threshold p < {LEVEL:g}, and Holm's procedure with"
        f" family-wise level {LEVEL:g} over all outputs of a model.",
        "Seed": f"{config.seed} of probe points and pixels.",
    }
