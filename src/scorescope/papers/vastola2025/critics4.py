"""Critics' question 4: when does the variance remove mass from a gap between training points instead of filling it?"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch
from torch import Tensor

from scorescope.papers.vastola2025.estimates import Estimate, mean_over_runs
from scorescope.papers.vastola2025.learned_by_linear import Family, LinearDensityConfig, learned, line_proxy, naive
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Array = npt.NDArray[np.float64]
SECTION = "Mass in the gap"
NAIVE = "naive noise"
SOURCE = "vastola2025, section 6 (variance fills gaps); critics' question 4"


class Critics4Config(pydantic.BaseModel):
    """Settings.

    Attributes:
        widths: distances of the two training points on the line, increasing.
        samples: P of the fitted models.
        families: features.
        kappas: κ of the naive estimator's white noise.
        linear: the rest; samples and family are those of the case.
        conclusive: whether the sizes are such that the claims can be judged.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    widths: tuple[pydantic.PositiveFloat, ...] = (0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
    samples: tuple[pydantic.PositiveInt, ...] = (64, 256, 1024)
    families: tuple[Family, ...] = ("gaussian", "fourier")
    kappas: tuple[pydantic.PositiveFloat, ...] = (0.01, 0.05)
    linear: LinearDensityConfig = LinearDensityConfig(steps=150, drawn=300)
    conclusive: bool = True


@dataclass(frozen=True)
class GapFound:
    """The middle half of one gap.

    Attributes:
        case: what makes the variance, in words.
        family: the features, or `NAIVE`.
        width: of the gap.
        with_variance: share of the samples in it, mean over runs.
        average: the same for the average model, which has no variance.
        exact: the same for the exact score.
        effect: with variance minus average model, with its interval over runs.
    """

    case: str
    family: str
    width: float
    with_variance: float
    average: float
    exact: float
    effect: Estimate

    @property
    def says(self) -> str:
        """``fills``, ``empties`` or ``undecided``, by the interval of the effect."""
        if self.effect.low > 0:
            return "fills"
        return "empties" if self.effect.high < 0 else "undecided"


@study
class Critics4(Study[Critics4Config]):
    """Gaps that lose mass."""

    name = "vastola2025/critics4"
    title = "Gaps that lose mass"
    question = "When does the variance of the learned score remove mass from the gap between two training points?"
    paper = "Vastola 2025, arXiv 2504.12532"
    Config = Critics4Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "widths": (0.4, 1.5),
            "samples": (64,),
            "kappas": (0.05,),
            "linear": {"models": 6, "per_axis": 8, "drawn": 100, "steps": 20},
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {"linear": {"steps": 150, "drawn": 300}},
        "paper": {
            "widths": (0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0, 1.25, 1.5, 1.75, 2.0),
            "samples": (64, 128, 256, 512, 1024),
            "linear": {"models": 200, "drawn": 5000, "steps": 300},
        },
    }

    def run(self, config: Critics4Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = [
            GapFound(**{**cell, "effect": Estimate(*cell["effect"])})
            for width in config.widths
            for cell in workspace.computed(f"width {width:g}", functools.partial(_gap, config, width))
        ]
        results = Results(study=self.name, title=self.title)
        results.introductions[SECTION] = (
            "Two training points on the line, and the share of the samples in the middle half of the gap between them: with the"
            " variance over training runs, and without it, which is the flow of the average model. Their difference is what the"
            " variance does."
        )
        _charts(results, config, found)
        _tables(results, found)
        _claims(results, config, found)
        results.headline = _headline(config, found)
        results.methods |= {
            "Models": f"{config.linear.models} linear models a case, {config.linear.per_axis} × {config.linear.per_axis}"
            " features on"
            f" [−1.5, 1.5] and in t, ridge {config.linear.ridge:g}, denoised point as output; VP process, ε ="
            f" {config.linear.epsilon:g}, {config.linear.steps} Euler steps, {config.linear.drawn} samples of each model.",
            "Steps": "Many more than the 30 of the paper's figures, with which even the exact score leaves samples in a narrow"
            " gap.",
            "Without variance": "The model with the mean weights of the fitted ones, whose own uncertainty is not in the"
            " intervals; for the"
            " naive noise, the exact score.",
            "Intervals": "95 %, Student's over the models of a case, paired: both flows start from the same noise. A gap is"
            " filled"
            " or emptied if the interval does not hold 0.",
            "Seed": f"{config.linear.seed}.",
        }
        return results


def _gap(config: Critics4Config, width: float) -> list[dict[str, Any]]:
    """All cases of one width."""
    linear = config.linear
    proxy = line_proxy(torch.tensor([[-width / 2], [width / 2]]), linear.epsilon)
    found = []
    for family in config.families:
        for samples in config.samples:
            runs = learned(proxy, linear.model_copy(update={"family": family, "samples": samples}))
            found.append(_measured(f"{family}, P = {samples}", family, width, runs.models, runs.average, runs.exact))
    for kappa in config.kappas:
        runs = naive(proxy, linear, kappa)
        found.append(_measured(f"{NAIVE}, κ = {kappa:g}", NAIVE, width, runs.models, runs.average, runs.exact))
    return found


def _measured(case: str, family: str, width: float, models: Tensor, average: Tensor, exact: Tensor) -> dict[str, Any]:
    with_variance, without, reference = (middle_share(samples, width) for samples in (models, average, exact))
    effect = mean_over_runs(with_variance - without)
    return {
        "case": case,
        "family": family,
        "width": width,
        "with_variance": float(with_variance.mean()),
        "average": float(without.mean()),
        "exact": float(reference.mean()),
        "effect": [effect.value, effect.low, effect.high],
    }


def middle_share(samples: Tensor, width: float) -> Array:
    """Share of every run's samples in the middle half of the gap around 0: (M, n, 1) -> (M,)."""
    return np.asarray((samples[..., 0].abs() < width / 4).double().mean(1).numpy())


def _charts(results: Results, config: Critics4Config, found: Sequence[GapFound]) -> None:
    groups = dict.fromkeys(one.family for one in found)
    panels = []
    for family in groups:
        series = []
        for case in dict.fromkeys(one.case for one in found if one.family == family):
            here = [one for one in found if one.case == case]
            series.append(
                charts.Series(
                    case.split(", ")[1],
                    [one.width for one in here],
                    [one.effect.value for one in here],
                    [one.effect.low for one in here],
                    [one.effect.high for one in here],
                )
            )
        panels.append(charts.Panel(series, "change of mass", family, levels={0.0: "fills above, empties below"}))
    results.add_chart(
        "effect",
        "What the variance does to a gap",
        f"Share of the samples in the middle half of the gap, with the variance minus without it; bands: 95 % over"
        f" {config.linear.models} models.",
        SECTION,
        charts.lines(panels, "width of the gap", x_log=False),
    )
    panels = []
    for case in dict.fromkeys(one.case for one in found):
        here = [one for one in found if one.case == case]
        widths = [one.width for one in here]
        panels.append(
            charts.Panel(
                [
                    charts.Series("with variance", widths, [one.with_variance for one in here]),
                    charts.Series("average model", widths, [one.average for one in here], dashed=True),
                    charts.Series("exact score", widths, [one.exact for one in here], dashed=True),
                ],
                "share in the gap",
                case,
            )
        )
    results.add_chart(
        "shares",
        "Share of the samples in the middle of the gap",
        "A gap that the average model has filled already, because its features are too coarse to see it, is one that the"
        " variance"
        " can only empty. The exact score leaves no gap filled but for what its finite steps leave there.",
        SECTION,
        charts.lines(panels, "width of the gap", x_log=False, columns=2),
    )


def _tables(results: Results, found: Sequence[GapFound]) -> None:
    results.add_table(
        "gaps",
        "Every gap",
        "Shares of the samples in the middle half of the gap; the variance fills or empties it if the 95 % interval says so.",
        pd.DataFrame(
            [
                {
                    "case": one.case,
                    "width": one.width,
                    "with variance": one.with_variance,
                    "average model": one.average,
                    "exact score": one.exact,
                    "change": one.effect.words(".3f"),
                    "variance": one.says,
                }
                for one in found
            ]
        ),
    )


def filled_before(found: Sequence[GapFound], says: str) -> float:
    """Mean share that the average model has in the gap, over the gaps that the variance fills or empties; NaN if none."""
    shares = [one.average for one in found if one.says == says]
    return float(np.mean(shares)) if shares else math.nan


def _claims(results: Results, config: Critics4Config, found: Sequence[GapFound]) -> None:
    note = "" if config.conclusive else "models this few decide nothing"
    for family in dict.fromkeys(one.family for one in found):
        here = [one for one in found if one.family == family]
        emptied = sum(one.says == "empties" for one in here) / len(here)
        results.claims.append(
            Claim(
                "Variance fills gaps: it never removes mass from one.",
                SOURCE,
                f"share of the {len(here)} gaps that lose mass beyond doubt, {family}",
                emptied if config.conclusive else None,
                Rule(at_most=0.05, because="what chance would give"),
                note=note,
            )
        )
    linear = [one for one in found if one.family != NAIVE]
    difference = filled_before(linear, "empties") - filled_before(linear, "fills")
    results.claims.append(
        Claim(
            "It removes mass where the average model has filled the gap already.",
            "this project's answer to critics' question 4",
            "mean share of the average model in gaps that are emptied minus that in gaps that are filled, linear models",
            difference if config.conclusive and math.isfinite(difference) else None,
            Rule(above=0.0),
            note=note or ("" if math.isfinite(difference) else "not both kinds of gaps were seen"),
        )
    )


def _headline(config: Critics4Config, found: Sequence[GapFound]) -> str:
    if not config.conclusive:
        return "Models this few decide nothing: choose the preset small or paper."
    counts = {says: sum(one.says == says for one in found) for says in ("fills", "empties", "undecided")}
    sentence = f"Of {len(found)} gaps the variance fills {counts['fills']} and empties {counts['empties']}."
    empties, fills = filled_before(found, "empties"), filled_before(found, "fills")
    if math.isfinite(empties) and math.isfinite(fills):
        sentence += (
            f" Those that it empties held {empties:.2f} of the average model's samples already, those that it fills"
            f" {fills:.2f}."
        )
    return sentence
