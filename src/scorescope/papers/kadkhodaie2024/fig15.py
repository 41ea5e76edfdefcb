"""Figure 15: the gap between seen and unseen images over N, for the same images at several resolutions.

How many images it takes for the gap to close, N*, is fitted by ``N* ∝ d^e`` over the number of values d of an image, as a
straight line in logarithms. An exponent e below 1 says that N* grows more slowly than the image does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.foundation import UserError
from scorescope.lenses.memorization import psnr_of_images
from scorescope.papers.kadkhodaie2024.charts_transition import SIZE_LABEL
from scorescope.papers.kadkhodaie2024.psnr_gaps import RULE, THRESHOLD, Gaps, psnr_gaps
from scorescope.papers.kadkhodaie2024.trained import (
    PAPER,
    PUBLISHED,
    TINY,
    Material,
    TrainedConfig,
    open_material,
    trained_pair,
    training_methods,
)
from scorescope.probes.transition_size import TransitionSize, crossings, middle
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

GAP, GROWTH = "The gap at every resolution", "How many images it takes"
Floats = npt.NDArray[np.float64]


def _increasing(sides: tuple[int, ...]) -> tuple[int, ...]:
    if len(sides) < 2 or list(sides) != sorted(set(sides)):
        raise ValueError("sides must increase, and there must be two at least")
    if any(side % 2 or side < 4 for side in sides):
        raise ValueError("sides must be even numbers of 4 pixels or more, for the network's poolings")
    return sides


class Fig15Config(TrainedConfig):
    """Settings of figure 15.

    Attributes:
        sides: of the images, in pixels, increasing; the largest at most that of the data.
        gap_threshold: PSNR gap in dB below which seen and unseen images count as denoised alike.
    """

    sides: Annotated[tuple[int, ...], pydantic.AfterValidator(_increasing)] = (8, 14, 28)
    gap_threshold: float = pydantic.Field(THRESHOLD, gt=0)


@dataclass(frozen=True)
class Growth:
    """How N* grows with the image.

    Attributes:
        exponent: e of ``N* ∝ d^e``; None where fewer than two resolutions have an N* among the sizes tried.
        interval: the middle 95 % of what sets of images, drawn again, give.
        used: which resolutions have an N*, one bool each.
    """

    exponent: float | None
    interval: tuple[float, float] | None
    used: tuple[bool, ...]


@study
class Fig15(Study[Fig15Config]):
    """The transition at several resolutions."""

    name = "kadkhodaie2024/fig15"
    paper = PAPER
    title = "Training images needed at growing resolution"
    question = "How does the number of training images at which memorization ends grow with the number of pixels?"
    Config = Fig15Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": TINY | {"sizes": (2, 20, 200), "sides": (4, 8)},
        "small": {},
        "paper": PUBLISHED
        | {
            "data": "natural-patches:size=80,n=100000,test_n=2000",
            "sizes": (10, 100, 1000, 10000),
            "sides": (20, 40, 80),
        },
    }

    def run(self, config: Fig15Config, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError for sizes or sides that the data do not allow."""
        material = open_material(config, workspace)
        _check_sides(config.sides, material)
        gaps = []
        for side in config.sides:
            found = []
            for size in config.sizes:
                trained = trained_pair(material, size, config, workspace, side)
                measure = functools.partial(psnr_of_images, trained, config.measurement)
                found.append(workspace.computed(f"{side}x{side},N={size}/psnr", measure))
            gaps.append(psnr_gaps(config.sizes, found, config.gap_threshold))
        dimensions = [material.images.image_shape[0] * side**2 for side in config.sides]
        return self._results(config, material, gaps, dimensions)

    def _results(self, config: Fig15Config, material: Material, gaps: list[Gaps], dimensions: Sequence[int]) -> Results:
        results = Results(study=self.name, title=self.title, question=self.question, paper=self.paper)
        growth = growth_of(dimensions, gaps)
        results.headline = _headline(config, material, gaps, growth)
        _chart(results, config, gaps)
        _growth(results, config, gaps, dimensions, growth)
        results.claims.append(_claim(growth, config.untested))
        results.methods |= material.methods | training_methods(config)
        results.methods |= {
            "Resolutions": "Images are averaged over the area of each new pixel; the subsets are the same images at every"
            " resolution. Networks have as many blocks as their resolution asks for (kadkhodaie2024, table 1).",
            "Measurement": f"{config.measurement.psnr_images} training and held-out images, each,"
            f" {config.measurement.psnr_levels} noise levels, the same for every resolution.",
            "Rule": RULE.format(threshold=config.gap_threshold),
            "Exponent": "Least squares in log N* against log d over the resolutions whose N* is among the sizes tried. In the"
            " interval, an N* that leaves the sizes when images are drawn again stands at the nearest end of them.",
            "Seed": f"{config.measurement.seed} for all noise and choices of the measurements.",
        }
        return results


def growth_of(dimensions: Sequence[int], gaps: Sequence[Gaps]) -> Growth:
    """The exponent of N* over the number of values of an image.

    Held-out images that are drawn again are the same at every resolution, as `psnr_gaps` draws them.
    """
    used = tuple(one.transition.inside for one in gaps)
    if sum(used) < 2:
        return Growth(None, None, used)
    kept = [one for one, inside in zip(gaps, used, strict=True) if inside]
    logs = np.log([d for d, inside in zip(dimensions, used, strict=True) if inside])
    exponent = _slope(logs, np.log([[one.transition.value for one in kept]]))[0]
    drawn = [np.clip(crossings(one.sizes, one.drawn - one.threshold), one.sizes[0], one.sizes[-1]) for one in kept]
    low, high = middle(_slope(logs, np.log(np.stack(drawn, axis=1))))
    return Growth(float(exponent), (min(low, float(exponent)), max(high, float(exponent))), used)


def _slope(x: Floats, rows: Floats) -> Floats:
    """Least-squares slope of each row over x: (R, S) -> (R,)."""
    centred = x - x.mean()
    return np.asarray(rows @ centred / (centred @ centred))


def _check_sides(sides: Sequence[int], material: Material) -> None:
    _, height, width = material.images.image_shape
    if height != width or sides[-1] > height:
        raise UserError(
            f"sides up to {sides[-1]} asked for: the images of {material.whole.name} have {height}×{width} pixels; square"
            " images can be averaged to fewer pixels, not to more: set sides to smaller ones"
        )


def _headline(config: Fig15Config, material: Material, gaps: Sequence[Gaps], growth: Growth) -> str:
    each = "; ".join(f"at {side}×{side} {one.transition.words()}" for side, one in zip(config.sides, gaps, strict=True))
    if growth.exponent is None or growth.interval is None:
        said = "so the sizes tried do not say how N* grows with the image"
    else:
        power = f"{growth.exponent:.2f}".replace("-", "−")
        said = f"N* grows as the number of pixels to the power {power} (95 % interval {_span(growth.interval)})"
    return f"On {material.whole.name}, {each}: {said}."


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}".replace("-", "−")


def _chart(results: Results, config: Fig15Config, gaps: Sequence[Gaps]) -> None:
    series = [
        charts.Series(f"{side}×{side}", one.sizes, one.gap, one.low, one.high, colour=colour)
        for side, one, colour in zip(config.sides, gaps, palette.sequence(len(gaps)), strict=True)
    ]
    results.add_chart(
        "gap",
        "PSNR on training images less that on held-out images",
        "The gap, averaged over noise levels and two networks, against the number of training images, with 95 % intervals over"
        f" {config.measurement.psnr_images} images; where a line falls below {config.gap_threshold:g} dB is the N* of its"
        " resolution.",
        GAP,
        charts.lines(
            charts.Panel(series, "gap (dB)", levels={config.gap_threshold: f"{config.gap_threshold:g} dB"}), SIZE_LABEL
        ),
    )


def _growth(
    results: Results, config: Fig15Config, gaps: Sequence[Gaps], dimensions: Sequence[int], growth: Growth
) -> None:
    value, low, high = (np.array([_inside(one.transition, end) for one in gaps]) for end in ("value", "low", "high"))
    series = [charts.Series("N*", dimensions, value, low, high)]
    caption = (
        "The N at which the gap closes, with its 95 % interval; an interval that leaves the sizes tried ends with them."
    )
    if growth.exponent is not None:
        x = np.asarray(dimensions, dtype=float)
        used = np.array(growth.used)
        middle_of_both = np.log(value[used]).mean() - np.log(x[used]).mean()
        series.append(
            charts.Series("as many images as values", x, x * np.exp(middle_of_both), colour=palette.GREY, dashed=True)
        )
        caption += " Dashed: what growth in proportion to the image would be, exponent 1."
    if any(growth.used):
        panel = charts.Panel(series, SIZE_LABEL, y_log=True)
        results.add_chart(
            "growth", "N* against the size of the image", caption, GROWTH, charts.lines(panel, "values of an image d")
        )
    rows = [
        {
            "side": side,
            "d": d,
            "N*": one.transition.value_words(),
            "95 % interval": one.transition.interval_words(),
        }
        | {f"gap at {size:,}": gap for size, gap in zip(one.sizes, one.gap, strict=True)}
        for side, d, one in zip(config.sides, dimensions, gaps, strict=True)
    ]
    columns = [f"gap at {size:,}" for size in config.sizes]
    results.add_table(
        "sizes",
        "N* and gaps at every resolution",
        "N* for images of side × side pixels and d values, and the gap for every N.",
        pd.DataFrame(rows),
        formats=dict.fromkeys(columns, ".2f"),
        units=dict.fromkeys(columns, "dB") | {"side": "pixels"},
    )


def _inside(found: TransitionSize, end: str) -> float:
    """One end of an interval, held within the sizes tried; no number where N* itself is outside."""
    return float(np.clip(getattr(found, end), found.sizes[0], found.sizes[-1])) if found.inside else float("nan")


def _claim(growth: Growth, untested: str) -> Claim:
    if not untested and growth.exponent is None:
        untested = "fewer than two resolutions have their transition among the sizes tried"
    return Claim(
        "The number of training images needed grows more slowly than the image.",
        "kadkhodaie2024, figure 15",
        "exponent e of N* ∝ d^e, d the number of values of an image",
        None if untested else growth.exponent,
        Rule(below=1.0, because="1 would be in proportion to the image"),
        interval=None if untested else growth.interval,
        note=untested,
    )
