"""What a section of a page says, small: one number, one sentence and one small chart, for a row at the top of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from scorescope.study.charts import STYLE, Series
from scorescope.study.palette import colours_of

SIZE = (1.8, 1.0)  # inches: about as wide as it is shown, so that its text has the size of small print


@dataclass(frozen=True)
class Glance:
    """What one section says.

    Attributes:
        section: its heading.
        number: the number that says most, with its unit.
        sentence: what it means.
        drawing: a small chart, SVG as text.
    """

    section: str
    number: str
    sentence: str
    drawing: str


@matplotlib.rc_context(STYLE)
def small_chart(series: Sequence[Series], x_label: str, *, x_log: bool = True, y_from_zero: bool = True) -> Figure:
    """Lines that show a shape, with the ends of both axes as the only numbers.

    Args:
        series: the lines, without legend: a dashed one is for comparison.
        x_label: what the x axis is, in a word or two.
        x_log: logarithmic x axis.
        y_from_zero: whether the y axis begins at zero.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    axis = figure.subplots()
    colours = colours_of(one.name for one in series)
    for one in series:
        x, y = np.asarray(one.x, dtype=float), np.asarray(one.y, dtype=float)
        dashes = (0, (3.2, 1.6)) if one.dashed else "-"
        axis.plot(x, y, color=one.colour or colours[one.name], linestyle=dashes, linewidth=1.6)
        if one.low is not None and one.high is not None:
            low, high = np.asarray(one.low, dtype=float), np.asarray(one.high, dtype=float)
            axis.fill_between(x, low, high, color=one.colour or colours[one.name], alpha=0.16, linewidth=0)
    if x_log:
        axis.set_xscale("log")
    if y_from_zero:
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    values = np.concatenate([np.ravel(np.asarray(one.x, dtype=float)) for one in series])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks([float(values.min()), float(values.max())])
    bottom, top = (float(end) for end in axis.get_ylim())
    axis.set_yticks([max(bottom, 0.0) if y_from_zero else bottom, top])
    for ruler in (axis.xaxis, axis.yaxis):
        ruler.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.grid(False)
    axis.tick_params(labelsize=8, length=2)
    axis.set_xlabel(x_label, fontsize=8, labelpad=-6)
    return figure


def _short(value: float) -> str:
    """Two significant digits, no exponent."""
    if value == 0 or not math.isfinite(value):
        return "0"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
