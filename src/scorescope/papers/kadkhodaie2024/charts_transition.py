"""Curves over the number of training images, with the transition marked."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from scorescope.probes.transition_size import ABOVE, BELOW, TransitionSize
from scorescope.study import charts, palette

SIZE_LABEL = "training images N"


def said(found: TransitionSize) -> str:
    """N* for a caption, and how the chart shows it."""
    return f"{found.words()}; vertical line, interval shaded" if found.inside else found.words()


def over_sizes(panels: charts.Panel | Sequence[charts.Panel], transitions: Sequence[TransitionSize | None]) -> Figure:
    """Lines over N, one panel below the other, each with its N* as a vertical line and the interval of it shaded.

    Args:
        panels: with N as x.
        transitions: one a panel; None for a panel without. Where N* is outside the sizes tried, nothing is marked.
    """
    panels = [panels] if isinstance(panels, charts.Panel) else list(panels)
    figure = charts.lines(panels, SIZE_LABEL)
    for axis, found in zip(figure.axes, transitions, strict=False):
        if found is None or not found.inside:
            continue
        low = found.sizes[0] if found.low == BELOW else found.low
        high = found.sizes[-1] if found.high == ABOVE else found.high
        axis.axvspan(low, high, color=palette.GREY, alpha=0.16, linewidth=0, zorder=0)
        axis.axvline(found.value, color=palette.GREY, linewidth=1.2)
        axis.annotate(
            "N*", (found.value, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="left", va="top", color=palette.SOFT, fontsize=8.5,
        )  # fmt: skip
    return figure
