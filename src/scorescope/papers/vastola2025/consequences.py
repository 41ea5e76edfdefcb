"""The consequences of vastola2025: outliers, duplicates, gaps of different width, anisotropic noise; and that they are"
" benign."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pydantic

from scorescope.papers.vastola2025 import consequence_cases as cases
from scorescope.papers.vastola2025.charts_points import clouds, density
from scorescope.papers.vastola2025.estimates import Estimate, mean_over_runs
from scorescope.papers.vastola2025.learned_by_linear import LinearDensityConfig
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

STRUCTURE, BENIGN = "What the structure of the data does", "Benign properties"
SOURCE = "vastola2025, section 6"


class ConsequencesConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        line: linear models on the line.
        plane: linear models in the plane, with fewer features an axis.
        duplicates: how often the middle point of three is there, increasing.
        anisotropy: variance of the noise along the first axis over that along the second, increasing.
        conclusive: whether the sizes are such that the claims can be judged.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    line: LinearDensityConfig = LinearDensityConfig()
    plane: LinearDensityConfig = LinearDensityConfig(models=30, per_axis=8, samples=500, drawn=400)
    duplicates: tuple[pydantic.PositiveInt, ...] = (1, 2, 4, 8)
    anisotropy: tuple[pydantic.PositiveFloat, ...] = (0.25, 1.0, 4.0)
    conclusive: bool = True


@study
class Consequences(Study[ConsequencesConfig]):
    """What follows from generalization through variance."""

    name = "vastola2025/consequences"
    title = "Consequences of generalization through variance"
    question = "Where does the variance put samples that the training set has not, and does it do harm?"
    paper = "Vastola 2025, arXiv 2504.12532"
    Config = ConsequencesConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "line": {"models": 4, "per_axis": 8, "samples": 64, "drawn": 100, "steps": 15},
            "plane": {"models": 3, "per_axis": 5, "samples": 100, "drawn": 60, "steps": 15},
            "duplicates": (1, 4),
            "anisotropy": (0.25, 4.0),
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {"plane": {"models": 30, "per_axis": 8, "samples": 500, "drawn": 400}},
        "paper": {
            "line": {"models": 200, "drawn": 5000},
            "plane": {"models": 100, "per_axis": 10, "samples": 500, "drawn": 2000},
            "duplicates": (1, 2, 3, 4, 6, 8, 12, 16),
            "anisotropy": (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0),
        },
    }

    def run(self, config: ConsequencesConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        line, plane = config.line, config.plane
        found = {
            "outlier": workspace.computed("outlier", functools.partial(cases.outlier, line)),
            "widths": workspace.computed("widths", functools.partial(cases.gap_widths, line)),
            "duplicates": [
                workspace.computed(f"duplicates {n}", functools.partial(cases.duplicates, line, n))
                for n in config.duplicates
            ],
            "anisotropy": [
                workspace.computed(f"anisotropy {a:g}", functools.partial(cases.anisotropic, plane, a))
                for a in config.anisotropy
            ],
            "far": workspace.computed("far", functools.partial(cases.far_from_data, line)),
            "dimension": workspace.computed("dimension", functools.partial(cases.points_on_a_line, plane)),
            "likeliest": workspace.computed("likeliest", functools.partial(cases.likeliest, line)),
        }
        results = Results(study=self.name, title=self.title)
        results.introductions[STRUCTURE] = (
            "Linear models are fitted to finitely many noisy points many times over; what their samples do on average depends"
            " on where"
            " the training points lie, how often each is there, and which way the noise acts."
        )
        results.introductions[BENIGN] = (
            "Three things that the variance must not do: add noise where there are no data, blow data on a line up to a plane,"
            " or make"
            " something likelier than the training points."
        )
        _structure(results, config, found)
        _benign(results, found)
        _claims(results, config, found)
        held = sum(claim.verdict == "holds" for claim in results.claims)
        results.headline = (
            f"Of {len(results.claims)} consequences that the theory draws, {held} hold for fitted linear models."
            if config.conclusive
            else "Models this few decide nothing: choose the preset small or paper."
        )
        results.methods |= {
            "Models": f"On the line {line.models} linear models a case, P = {line.samples}, {line.per_axis} × {line.per_axis}"
            f" {line.family} features; in the plane {plane.models}, P = {plane.samples}, {plane.per_axis}³; ridge"
            f" {line.ridge:g},"
            f" VP process, ε = {line.epsilon:g}, {line.steps} Euler steps, {line.drawn} and {plane.drawn} samples of each.",
            "Near a point": f"Within {cases.NEAR:g} of it. In a gap: its middle half.",
            "Intervals": "95 %, Student's over models.",
            "Seed": f"{line.seed} and {plane.seed}.",
        }
        return results


def _structure(results: Results, config: ConsequencesConfig, found: Mapping[str, Any]) -> None:
    edges = np.linspace(-1.75, 1.75, 71)
    centres = (edges[1:] + edges[:-1]) / 2
    panels = []
    for title, key in (("an outlier at 1.2", "outlier"), ("gaps of 0.4, 0.6 and 1", "widths")):
        series = [
            charts.Series("fitted models", centres, density(found[key]["models"], edges)),
            charts.Series("average model", centres, density(found[key]["average"], edges), dashed=True),
        ]
        panels.append(charts.Panel(series, "density", title, y_range=(0.0, 3.0)))
    results.add_chart(
        "line",
        "An outlier, and gaps of different width",
        f"Average density of the samples of {config.line.models} models, in bins of 0.05; peaks above 3 are cut. Training"
        " points:"
        f" {_points(found['outlier']['points'])}; and {_points(found['widths']['points'])}.",
        STRUCTURE,
        charts.lines(panels, "x", x_log=False),
    )
    counts = list(config.duplicates)
    means = {
        name: [mean_over_runs(one[name]) for one in found["duplicates"]]
        for name in ("near middle", "near others", "in gaps")
    }
    results.add_chart(
        "duplicates",
        "A training point that is there several times",
        "Share of the samples near the middle one of three points, near the two others, and in the gaps, over how often the"
        " middle"
        " one is in the training set; bands: 95 % over models.",
        STRUCTURE,
        charts.lines(
            charts.Panel(
                [
                    charts.Series(name, counts, [m.value for m in of], [m.low for m in of], [m.high for m in of])
                    for name, of in means.items()
                ],
                "share of the samples",
            ),
            "copies of the middle point",
            x_log=False,
        ),
    )
    results.add_chart(
        "anisotropy",
        "Noise that is stronger along one axis",
        "Four training points (crosses) and the samples of the fitted models; the title says how many times more variance the"
        " noise"
        " has along the first axis than along the second.",
        STRUCTURE,
        clouds(
            {
                f"{a:g} times": one["models"].reshape(-1, 2)
                for a, one in zip(config.anisotropy, found["anisotropy"], strict=True)
            },
            found["anisotropy"][0]["points"],
        ),
    )


def _benign(results: Results, found: Mapping[str, Any]) -> None:
    far = found["far"]
    results.add_chart(
        "far",
        "Variance of the target and of fitted models over the distance from the data",
        "Traces of D C D and of V from the middle of the training points −1, 0 and 1 outwards, at t = 0.1: beyond the outermost"
        " point the target's variance must vanish. The Gaussian features do beyond their window, which ends at 1.5.",
        BENIGN,
        charts.lines(
            charts.Panel(
                [
                    charts.Series("of the target (D C D)", far["x"], far["target"]),
                    charts.Series("of models (V)", far["x"], far["model"]),
                ],
                "variance",
                y_log=True,
            ),
            "x",
            x_log=False,
        ),
    )
    dimension, likely = found["dimension"], found["likeliest"]
    results.add_table(
        "benign",
        "Benign properties in numbers",
        "Thickness: standard deviation of the samples across the line that the training points lie on, over that along it.",
        pd.DataFrame(
            [
                {"property": "effective dimension, data", "value": f"{dimension['data dimension']:.3f}"},
                {
                    "property": "effective dimension, samples",
                    "value": mean_over_runs(dimension["dimension"]).words(".3f"),
                },
                {
                    "property": "the same, average model",
                    "value": mean_over_runs(dimension["average dimension"]).words(".3f"),
                },
                {"property": "thickness across the line", "value": mean_over_runs(dimension["thickness"]).words(".3f")},
                {
                    "property": "density at training points over the highest elsewhere",
                    "value": f"{likely['ratio']:.2f}",
                },
            ]
        ),
    )


def _claims(results: Results, config: ConsequencesConfig, found: Mapping[str, Any]) -> None:
    note = "" if config.conclusive else "models this few decide nothing"

    def add(
        sentence: str, quantity: str, estimate: Estimate, rule: Rule, source: str = SOURCE, caveat: str = ""
    ) -> None:
        value, interval = (estimate.value, estimate.interval) if config.conclusive else (None, None)
        results.claims.append(Claim(sentence, source, quantity, value, rule, "", interval, note=note or caveat))

    outlier, widths, copies = found["outlier"], found["widths"], found["duplicates"]
    add(
        "The gap to an outlier is filled less than gaps among the others.",
        "density of samples in the middle of the gaps among the others minus that towards the outlier, mean over models",
        mean_over_runs(outlier["inner"] - outlier["outer"]),
        Rule(above=0.0),
    )
    add(
        "Narrow gaps are filled more than wide ones.",
        "density of samples in the middle of the narrowest gap minus that of the widest",
        mean_over_runs(widths["gaps"][:, 0] - widths["gaps"][:, -1]),
        Rule(above=0.0),
    )
    add(
        "A duplicated point draws more of the samples than its share of the training set.",
        f"share of the samples near it minus its share of the training set, {config.duplicates[-1]} copies",
        mean_over_runs(copies[-1]["near middle"] - copies[-1]["data share"]),
        Rule(above=0.0),
        "expected here; vastola2025 asks what duplicates do",
    )
    add(
        "Duplicates leave less in the gaps.",
        f"share in the gaps with {config.duplicates[0]} copy minus with {config.duplicates[-1]} copies",
        mean_over_runs(copies[0]["in gaps"] - copies[-1]["in gaps"]),
        Rule(above=0.0),
    )
    first, last = found["anisotropy"][0], found["anisotropy"][-1]
    add(
        "Anisotropic noise fills gaps along the axis of more noise.",
        f"share of the samples in the gaps along the first axis minus along the second, noise ratio {config.anisotropy[-1]:g},"
        f" minus the same at {config.anisotropy[0]:g}",
        mean_over_runs((last["along first"] - last["along second"]) - (first["along first"] - first["along second"])),
        Rule(above=0.0),
    )
    far = found["far"]
    add(
        "No noise is added far from the data.",
        "trace of D C D at the farthest x over its largest value, t = 0.1",
        Estimate(float(far["target"][-1] / far["target"].max()), np.nan, np.nan),
        Rule(at_most=0.01, because="a hundredth of what there is between the points"),
    )
    add(
        "Fitted models vary little far from the data.",
        "trace of V at the farthest x over its largest value, t = 0.1",
        Estimate(float(far["model"][-1] / far["model"].max()), np.nan, np.nan),
        Rule(at_most=0.01, because="a hundredth of what there is between the points"),
        caveat=f"Gaussian features vanish there by themselves; at x = 1.5, the end of their window, it is"
        f" {float(np.interp(1.5, far['x'], far['model']) / far['model'].max()):.2g}.",
    )
    dimension = found["dimension"]
    add(
        "The effective dimension of data on a line does not rise.",
        "participation ratio of the samples' covariance minus that of the average model's samples",
        mean_over_runs(dimension["dimension"] - dimension["average dimension"]),
        Rule(at_most=0.1, because="a tenth of a dimension"),
    )
    add(
        "Training points stay the likeliest.",
        "lowest average density at a training point over the highest in the middle of a gap",
        Estimate(float(found["likeliest"]["ratio"]), np.nan, np.nan),
        Rule(at_least=1.0),
    )


def _points(points: Any) -> str:
    return ", ".join(f"{float(x):g}" for x in np.ravel(points)).replace("-", "−")
