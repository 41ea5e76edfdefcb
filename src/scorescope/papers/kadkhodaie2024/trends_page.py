"""Whether numbers grow towards theory, over size and training: the page, and the rule that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.probes.trends import Trend, trends
from scorescope.study import charts, palette
from scorescope.study.claims import NOT_TESTED, Claim, Rule
from scorescope.study.results import Results

Floats = npt.NDArray[np.float64]
PHOTOGRAPHS, SYMMETRIC = "photographs", 0.3
SECTION_SLOPES, SECTION_ASYMMETRY = "PSNR slopes on C^α images", "Asymmetry of the Jacobian"
RULE = Rule(above=0.0, because="the whole interval is on theory's side of zero")
GROWS, GROWS_NOT = "grows towards", "does not grow towards"


class Shown(Protocol):
    """What the page says of the settings."""

    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def lengths(self) -> tuple[int, ...]: ...
    @property
    def test_images(self) -> int: ...
    @property
    def jacobian_images(self) -> int: ...
    @property
    def jacobian_sigma(self) -> float: ...
    @property
    def too_small(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number that theory knows, on networks of P sizes at T lengths.

    Attributes:
        name: for tables.
        sentence: of its claims, which "with training" or "with the network's size" ends.
        figure: of the paper.
        theory: what the number is in theory, or at most by the claim that failed.
        measured: (P, T).
        low: lower ends of their 95 % intervals over test images, (P, T).
        high: upper ends.
        psnr: mean output PSNR of the same networks over the levels of the fit, dB, (P, T).
    """

    name: str
    sentence: str
    figure: str
    theory: float
    measured: Floats
    low: Floats
    high: Floats
    psnr: Floats

    @property
    def nearness(self) -> Floats:
        """How near it is to theory, from either side: 0 at theory, else below."""
        return np.asarray(-np.abs(self.measured - self.theory))

    @property
    def where(self) -> str:
        """The class of images."""
        return self.name.split(", ")[1]


def fill(
    results: Results,
    slopes: Sequence[Quantity],
    skew: Sequence[Quantity],
    parameters: Sequence[int],
    config: Shown,
) -> None:
    """The page.

    Args:
        results: what is filled.
        slopes: of the classes of C^α images.
        skew: asymmetries, of all classes; that of photographs is the claim's.
        parameters: of each size.
        config: of the study.
    """
    found: list[tuple[Quantity, Trend, Trend]] = []
    for group in (slopes, skew):
        found += zip(group, *trends([one.nearness for one in group], parameters, config.lengths), strict=True)
    claimed = [row for row in found if row[0] in slopes or row[0].where == PHOTOGRAPHS]
    results.headline = ". ".join(_said(*row, tested=not config.too_small) for row in claimed) + "."
    _charts(results, slopes, skew, parameters, config)
    _tables(results, found, parameters, config)
    few = config.too_small
    for one, trained, grown in claimed:
        for how, per, trend in (("training", "the steps", trained), ("the network's size", "the parameters", grown)):
            said = f"{trend.value:+.3f} a doubling, {one.measured[-1, -1]:.2f} at the largest size and length"
            results.claims.append(
                Claim(
                    f"{one.sentence} with {how}.",
                    f"kadkhodaie2024, {one.figure}",
                    f"change towards theory a doubling of {per}: lower end of its 95 % interval",
                    None if few else trend.low,
                    RULE,
                    interval=None if few else (trend.low, trend.high),
                    note=f"{few}; measured {said}" if few else f"{said}: {verdict(trend)}",
                )
            )


def verdict(trend: Trend) -> str:
    """What the rule says, of a trend towards theory."""
    return GROWS if RULE.holds(trend.low) else GROWS_NOT


def _said(one: Quantity, trained: Trend, grown: Trend, tested: bool) -> str:
    start, end = one.measured[0, 0], one.measured[-1, -1]
    numbers = f"{one.name[0].upper()}{one.name[1:]}: {start:.2f} to {end:.2f} (theory {one.theory:.2f})"
    if not tested:
        return f"{numbers}, too small a run to say whether it grows towards theory"
    yes = [how for how, trend in (("training", trained), ("size", grown)) if RULE.holds(trend.low)]
    no = [how for how, trend in (("training", trained), ("size", grown)) if not RULE.holds(trend.low)]
    said = f"{GROWS} theory with {' and '.join(yes)}" if yes else f"{GROWS_NOT} theory, with {' or '.join(no)}"
    but = f", not with {no[0]}" if yes and no else ""
    return f"{numbers}, {said}{but}"


def _charts(
    results: Results,
    slopes: Sequence[Quantity],
    skew: Sequence[Quantity],
    parameters: Sequence[int],
    config: Shown,
) -> None:
    colours = palette.sequence(len(parameters))

    def panel(one: Quantity, label: str, levels: Mapping[float, str]) -> charts.Panel:
        series = [
            charts.Series(f"{count:,} parameters", config.lengths, one.measured[k], one.low[k], one.high[k], colours[k])
            for k, count in enumerate(parameters)
        ]
        return charts.Panel(series, label, one.where, levels=levels)

    results.add_chart(
        "slopes",
        "PSNR slopes over training, for each size",
        "A line is one network along its training; dashed: the optimal slope α/(α+1), which theory gives for small noise."
        f" Bands: 95 % intervals over {config.test_images} test images.",
        SECTION_SLOPES,
        charts.lines([panel(one, "PSNR slope", {one.theory: "optimal"}) for one in slopes], "steps of training"),
    )
    results.add_chart(
        "asymmetry",
        "Asymmetry over training, for each size",
        f"‖J − Jᵀ‖/‖J‖ at σ = {config.jacobian_sigma:g}: 0 for every posterior mean, √2 for a random matrix. Bands: 95 %"
        f" intervals over {config.jacobian_images} test images.",
        SECTION_ASYMMETRY,
        charts.lines(
            [panel(one, "asymmetry", {SYMMETRIC: "nearly symmetric"}) for one in skew],
            "steps of training",
            columns=2 if len(skew) > 2 else 1,
        ),
    )


def _tables(
    results: Results,
    found: Sequence[tuple[Quantity, Trend, Trend]],
    parameters: Sequence[int],
    config: Shown,
) -> None:
    rows = [
        {
            "number": one.name,
            "theory": one.theory,
            "smallest": one.measured[0, 0],
            "largest": one.measured[-1, -1],
            "with": how,
            "change": trend.value,
            "low": trend.low,
            "high": trend.high,
            "verdict": NOT_TESTED if config.too_small else verdict(trend),
        }
        for one, trained, grown in found
        for how, trend in (("training", trained), ("size", grown))
    ]
    frame = pd.DataFrame(rows)
    results.add_table(
        "trends",
        "Change towards theory a doubling of steps, and of parameters",
        "The number in the smallest network after the fewest steps, and in the largest after the most; how much nearer to"
        " theory it comes with each doubling, with 95 % intervals over networks, and what the rule says.",
        frame,
        formats=dict.fromkeys(("theory", "smallest", "largest", "change", "low", "high"), ".3f"),
    )
    results.add_table(
        "cells",
        "Every network at every length",
        f"With 95 % intervals over {config.test_images} test images for slopes, {config.jacobian_images} for asymmetry;"
        " and the network's mean output PSNR over the levels of the fit.",
        pd.DataFrame(
            [
                {
                    "number": one.name,
                    "width": width,
                    "parameters": count,
                    "steps": steps,
                    "measured": one.measured[k, t],
                    "low": one.low[k, t],
                    "high": one.high[k, t],
                    "theory": one.theory,
                    "PSNR": one.psnr[k, t],
                }
                for one, _, _ in found
                for k, (width, count) in enumerate(zip(config.widths, parameters, strict=True))
                for t, steps in enumerate(config.lengths)
            ]
        ),
        formats={**dict.fromkeys(("measured", "low", "high", "theory"), ".3f"), "PSNR": ".2f"},
        units={"PSNR": "dB"},
    )
