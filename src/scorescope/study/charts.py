"""Charts in one style: legible on a phone, the same colour for the same denoiser everywhere, drawn without global state.

Every chart is 4.8 inches wide, so that its text has the size of a page's small print on a screen of 390 pixels, and
grows downwards: panels stand below each other or in two columns. Text stays text in the SVG, in the reader's own
sans-serif font; it is laid out for DejaVu Sans, which is wider than nearly all of them.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from scorescope.study.free_corner import free_corner
from scorescope.study.palette import GREY, INK, PAPER, RULE, SOFT, colours_of

WIDTH = 4.8  # inches
SIGMA, INPUT_PSNR = "noise level σ", "input PSNR (dB)"
MARKERS = "osD^vPXph"  # lines differ in more than colour
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": RULE,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 3.4,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.4,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "scorescope",
}
FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'Liberation Sans', Arial, sans-serif"


@dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: as the legend says it; also chooses the colour, see `palette.BY_NAME`.
        x: (n,).
        y: (n,); a NaN leaves a gap.
        low: (n,) lower end of the band, or None.
        high: (n,) upper end of the band, or None.
        colour: another than the name's.
        dashed: for the second of two kinds of lines (test beside train, reverse beside forward).
    """

    name: str
    x: npt.ArrayLike
    y: npt.ArrayLike
    low: npt.ArrayLike | None = None
    high: npt.ArrayLike | None = None
    colour: str | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes with its lines.

    Attributes:
        series: the lines.
        y_label: what they show, with unit.
        title: of the panel.
        y_log: logarithmic scale.
        y_range: (low, high), or None for what the lines need.
        levels: horizontal lines with a word each, where the eye needs a reference ({0: "no better than the optimal"}).
        identity: draw the line where y equals x.
    """

    series: Sequence[Series]
    y_label: str
    title: str = ""
    y_log: bool = False
    y_range: tuple[float | None, float | None] | None = None
    levels: Mapping[float, str] | None = None
    identity: bool = False


@matplotlib.rc_context(STYLE)
def lines(
    panels: Panel | Sequence[Panel],
    x_label: str = SIGMA,
    *,
    x_log: bool = True,
    columns: int = 1,
    share_y: bool = False,
    heights: Sequence[float] = (),
    legend: bool = True,
) -> Figure:
    """Lines over a shared x axis: one panel, several below each other, or small multiples in two columns.

    Args:
        panels: from top left to bottom right.
        x_label: of the shared x axis.
        x_log: logarithmic x axis.
        columns: 1, or 2 for small multiples.
        share_y: the same y range in all panels.
        heights: relative heights of the rows, equal by default.
        legend: one legend above all panels.
    """
    panels = [panels] if isinstance(panels, Panel) else list(panels)
    colours = colours_of(series.name for panel in panels for series in panel.series)
    markers = dict(zip(colours, itertools.cycle(MARKERS), strict=False))
    figure, axes = _panels(len(panels), columns, share_y, heights, sum(heights) / len(heights) if heights else 1)
    for place, (panel, axis) in enumerate(zip(panels, axes, strict=True)):
        if x_log:
            axis.set_xscale("log")
        for series in panel.series:
            _draw_series(axis, series, series.colour or colours[series.name], markers[series.name])
        _finish_panel(axis, panel)
        if x_log:
            _plain_log_ticks(axis, 3 if columns > 1 else 6)
        if place >= len(panels) - columns:
            axis.set_xlabel(x_label)
        if share_y and place % columns:
            axis.set_ylabel("")
    if legend:
        _legend(figure, axes)
    return figure


def psnr_in_out(panels: Panel | Sequence[Panel], *, columns: int = 1) -> Figure:
    """Output against input PSNR, dB, with the line on which nothing is gained; panels share their range."""
    panels = [panels] if isinstance(panels, Panel) else list(panels)
    marked = [Panel(p.series, p.y_label, p.title, levels=p.levels, y_range=p.y_range, identity=True) for p in panels]
    return lines(marked, INPUT_PSNR, x_log=False, columns=columns, share_y=True)


@matplotlib.rc_context(STYLE)
def histograms(
    panels: Mapping[str, Mapping[str, npt.ArrayLike]],
    x_label: str,
    *,
    x_range: tuple[float, float] | None = None,
    bins: int = 32,
) -> Figure:
    """Overlaid histograms on shared bins, one panel below the other, each as a share of its values.

    Args:
        panels: title -> name -> values (n,); NaNs are left out.
        x_label: what the values are.
        x_range: of the bins; that of all values by default.
        bins: how many.
    """
    pooled = np.concatenate(
        [np.ravel(values) for panel in panels.values() for values in panel.values()] or [np.zeros(1)]
    )
    pooled = pooled[np.isfinite(pooled)]
    low, high = x_range or ((float(pooled.min()), float(pooled.max())) if pooled.size else (0.0, 1.0))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    colours = colours_of(name for panel in panels.values() for name in panel)
    figure, axes = _panels(len(panels), 1, False, (), 0.5 if len(panels) > 1 else 0.8)
    for axis, (title, panel) in zip(axes, panels.items(), strict=True):
        for name, values in panel.items():
            kept = np.ravel(np.asarray(values, dtype=float))
            kept = np.clip(kept[np.isfinite(kept)], edges[0], edges[-1])
            shares = np.histogram(kept, edges)[0] / max(1, len(kept))
            axis.stairs(shares, edges, fill=True, color=colours[name], alpha=0.25)
            axis.stairs(shares, edges, color=colours[name], linewidth=1.6, label=name)
            if len(kept):
                axis.axvline(float(kept.mean()), color=colours[name], linewidth=1, linestyle=(0, (2, 2)))
        axis.set_title(title)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.grid(False, axis="y")
        if axis is not axes[-1]:
            axis.tick_params(labelbottom=False)
    axes[-1].set_xlabel(x_label)
    _legend(figure, axes)
    return figure


@matplotlib.rc_context(STYLE)
def bars(
    values: Mapping[str, float], x_label: str, *, form: str = ".3g", colours: Mapping[str, str] | None = None
) -> Figure:
    """Horizontal bars, one a name, each with its number; a NaN is written as "not measured".

    Args:
        values: name -> length.
        x_label: what the lengths are, with unit.
        form: format of the numbers.
        colours: name -> colour, for names whose colour is not the house's.
    """
    figure = _figure(0.55 + 0.3 * len(values))
    axis = figure.subplots()
    chosen = {**colours_of(values), **(colours or {})}
    lengths = [value if math.isfinite(value) else 0.0 for value in values.values()]
    places = np.arange(len(values))
    axis.barh(places, lengths, color=[chosen[name] for name in values], height=0.62)
    for place, value, length in zip(places, values.values(), lengths, strict=True):
        text = f"{value:{form}}".replace("-", "−") if math.isfinite(value) else "not measured"
        side = -1 if length < 0 else 1
        axis.annotate(
            text,
            (length, place),
            (4 * side, 0),
            textcoords="offset points",
            va="center",
            ha="left" if side > 0 else "right",
        )
    axis.set_yticks(places, list(values))
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.invert_yaxis()
    axis.margins(x=0.16)
    axis.grid(False, axis="y")
    axis.spines["left"].set_visible(False)
    axis.axvline(0, color=SOFT, linewidth=0.8)
    axis.set_xlabel(x_label)
    return figure


@matplotlib.rc_context(STYLE)
def heat_table(
    values: npt.ArrayLike,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    x_label: str = "",
    y_label: str = "",
    form: str = ".2f",
    value_range: tuple[float, float] | None = None,
) -> Figure:
    """A table whose cells are shaded by their value; the number stands in each cell, a NaN leaves it empty.

    Args:
        values: (R, K).
        row_labels: R texts.
        column_labels: K texts.
        x_label: what the columns are.
        y_label: what the rows are.
        form: format of the numbers.
        value_range: values of the palest and of the darkest shade; the range of the values by default.
    """
    cells = np.asarray(values, dtype=float)
    rows, columns = cells.shape
    known = cells[np.isfinite(cells)]
    low, high = value_range or ((float(known.min()), float(known.max())) if known.size else (0.0, 1.0))
    figure = _figure(0.7 + 0.34 * rows)
    axis = figure.subplots()
    shade = matplotlib.colormaps["Blues"]
    for row, column in np.ndindex(rows, columns):
        value = float(cells[row, column])
        if not math.isfinite(value):
            continue
        share = float(np.clip((value - low) / (high - low or 1.0), 0, 1))
        axis.fill_between([column, column + 1], row, row + 1, color=shade(0.06 + 0.84 * share), linewidth=0)
        # Neither of these is a house colour: they must stay as they are on a dark page, whose cells are as pale.
        ink = "#fdfdfd" if share > 0.55 else "#101418"
        axis.text(column + 0.5, row + 0.5, f"{value:{form}}", ha="center", va="center", color=ink, fontsize=8.5)
    axis.set_xlim(0, columns)
    axis.set_ylim(rows, 0)
    axis.set_xticks(np.arange(columns) + 0.5, list(column_labels))
    axis.set_yticks(np.arange(rows) + 0.5, list(row_labels))
    axis.tick_params(length=0, labelcolor=INK)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    return figure


@matplotlib.rc_context(STYLE)
def svg(figure: Figure) -> bytes:
    """A figure as SVG: text as text, no metadata, the same bytes for the same figure."""
    output = io.BytesIO()
    figure.savefig(output, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = output.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = text[text.index("<svg ") :].replace("'DejaVu Sans'", FONTS)
    return text.replace("<svg ", '<svg class="house-chart" ', 1).encode()


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _panels(
    count: int, columns: int, share_y: bool, heights: Sequence[float], stretch: float
) -> tuple[Figure, list[Axes]]:
    rows = math.ceil(count / columns)
    height = {1: 2.9 if rows == 1 else 2.1, 2: 1.75}[columns] * rows * stretch + 0.5
    figure = _figure(height)
    grid = figure.subplots(
        rows, columns, sharex=True, sharey=share_y, squeeze=False, height_ratios=list(heights) or None
    )
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    # With a shared x axis only the lowest row has numbers; a panel above an unused place needs its own.
    for axis in axes[count - columns : count] if count >= columns else axes[:count]:
        axis.tick_params(labelbottom=True)
    return figure, axes[:count]


def _draw_series(axis: Axes, series: Series, colour: str, marker: str) -> None:
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    every = max(1, len(x) // 12)
    dashes = (0, (3.2, 1.6)) if series.dashed else "-"
    axis.plot(x, y, color=colour, linestyle=dashes, marker=marker, markevery=every, label=series.name)
    if series.low is not None and series.high is not None:
        low, high = np.asarray(series.low, dtype=float), np.asarray(series.high, dtype=float)
        axis.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)


def _finish_panel(axis: Axes, panel: Panel) -> None:
    axis.set_title(panel.title)
    axis.set_ylabel(panel.y_label)
    if panel.y_log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.yaxis.set_major_locator(MaxNLocator(5))
    if panel.y_range:
        axis.set_ylim(*panel.y_range)
    if panel.identity:
        # The point through which the line goes counts as data, so it must not lie outside of what is shown.
        inside = float(np.nanmedian(np.concatenate([np.ravel(np.asarray(s.x, dtype=float)) for s in panel.series])))
        axis.axline((inside, inside), slope=1, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
    for level, word in (panel.levels or {}).items():
        axis.axhline(level, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
        right, above = free_corner(axis, [(series.x, series.y) for series in panel.series], level, word)
        axis.annotate(
            word, (float(right), level), (0, 2 if above else -2), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right" if right else "left", va="bottom" if above else "top",
            color=SOFT, fontsize=8.5, zorder=1.5, bbox={"facecolor": PAPER, "linewidth": 0, "pad": 0.5},
        )  # fmt: skip


def _plain_log_ticks(axis: Axes, most: int) -> None:
    """Powers of ten as 0.01, 0.1, 1, 10; with fewer than two of them in sight, also 2 and 5."""
    low, high = axis.get_xlim()
    decades = math.log10(high / low)
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0), numticks=most + 2))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    entries: dict[str, Artist] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if not entries:
        return
    longest = max(len(name) for name in entries)
    columns = max(1, min(len(entries), int(52 / (longest + 6))))
    # A legend fills its columns one after the other; this order makes it read along its rows.
    names = [name for column in range(columns) for name in list(entries)[column::columns]]
    figure.legend([entries[name] for name in names], names, loc="outside upper left", ncols=columns)
