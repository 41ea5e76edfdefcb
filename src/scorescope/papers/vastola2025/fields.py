"""Maps of fields over (x, t) or over the plane, with data points, trajectories and arrows on top, in the house style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from scorescope.study.charts import STYLE, WIDTH
from scorescope.study.palette import SOFT

# Neither is a house colour: what lies on a map must look the same on a light and on a dark page, as the map does.
MARK, TRACE = "#fefefe", "#f7f7f7"


@dataclass(frozen=True)
class FieldMap:
    """One field as colours.

    Attributes:
        values: (across, up), the first index along the horizontal axis; NaN is left empty.
        across: ends of the horizontal axis.
        up: ends of the vertical axis.
        title: a few words.
        points: marked positions (n, 2).
        paths: lines, each (k, 2).
        arrows: (n, 4): position and direction.
        log: colours by the logarithm; the lowest is at most four decades below the highest.
    """

    values: npt.NDArray[np.floating]
    across: tuple[float, float]
    up: tuple[float, float]
    title: str = ""
    points: npt.ArrayLike | None = None
    paths: Sequence[npt.ArrayLike] = field(default_factory=tuple)
    arrows: npt.ArrayLike | None = None
    log: bool = False


@matplotlib.rc_context(STYLE)
def field_maps(
    panels: Sequence[FieldMap],
    columns: int,
    *,
    bar: str = "",
    value_range: tuple[float, float] | None = None,
    row_labels: Sequence[str] = (),
    x_label: str = "",
    y_label: str = "",
    height: float | None = None,
) -> Figure:
    """Maps in rows and columns.

    Args:
        panels: from top left to bottom right.
        columns: panels in a row.
        bar: what the colours are: one bar for all panels, which then share their colours; empty: a bar for each panel.
        value_range: of the shared colours; that of all values by default.
        row_labels: one a row, or none.
        x_label: of the horizontal axes.
        y_label: of the vertical axes.
        height: of a panel in inches; square panels by default.
    """
    rows = math.ceil(len(panels) / columns)
    each = (WIDTH - 0.5) / columns if height is None else height
    extra = 0.55 if not bar else (0.3 if columns <= 3 else 0.12)
    figure = Figure(figsize=(WIDTH, rows * (each + extra) + (0.75 if bar else 0.3)), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    shared = _norm([panel.values for panel in panels], panels[0].log, value_range) if bar else None
    for place, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
        norm = shared or _norm([panel.values], panel.log, None)
        image = axis.imshow(
            panel.values.T, origin="lower", extent=(*panel.across, *panel.up), aspect="auto", cmap="viridis", norm=norm,
            interpolation="none",
        )  # fmt: skip
        _overlay(axis, panel)
        axis.set_title(panel.title)
        _finish(axis, columns)
        if place >= len(panels) - columns:
            axis.set_xlabel(x_label)
        else:
            axis.tick_params(labelbottom=False)
        if place % columns:
            axis.tick_params(labelleft=False)
        else:
            axis.set_ylabel(row_labels[place // columns] if row_labels else y_label)
        if not bar:
            _plain(
                figure.colorbar(image, ax=axis, location="bottom", shrink=0.9, aspect=24, pad=0.02), panel.log, columns
            )
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    if bar:
        _plain(
            figure.colorbar(image, ax=axes, location="bottom", label=bar, shrink=0.6, aspect=36, pad=0.02),
            panels[0].log,
            1,
        )
    return figure


def _plain(bar: Colorbar, log: bool, columns: int) -> None:
    """A few numbers written plainly: the house style has no formulas in its text."""
    if log:
        bar.set_ticks(LogLocator(numticks=4 if columns < 3 else 2))
        bar.minorticks_off()
    else:
        bar.set_ticks(MaxNLocator(4 if columns < 3 else 2))
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    bar.update_ticks()


def _norm(values: Sequence[npt.NDArray[np.floating]], log: bool, given: tuple[float, float] | None) -> Normalize:
    known = np.concatenate([value[np.isfinite(value)].ravel() for value in values])
    if given is not None:
        return Normalize(*given)
    if not log:
        return Normalize(float(known.min()), float(known.max()))
    highest = max(float(known.max()), 1e-300)
    return LogNorm(max(float(known.min()), highest * 1e-4), highest, clip=True)


def _overlay(axis: Axes, panel: FieldMap) -> None:
    for path in panel.paths:
        line = np.asarray(path, dtype=float)
        axis.plot(line[:, 0], line[:, 1], color=TRACE, linewidth=0.7, alpha=0.75)
    if panel.arrows is not None:
        arrow = np.asarray(panel.arrows, dtype=float)
        axis.quiver(
            arrow[:, 0], arrow[:, 1], arrow[:, 2], arrow[:, 3], color=TRACE, angles="xy", scale_units="xy", scale=1.0,
            width=0.006, headwidth=0, headlength=0, headaxislength=0, pivot="middle",
        )  # fmt: skip
    if panel.points is not None:
        place = np.asarray(panel.points, dtype=float)
        axis.scatter(place[:, 0], place[:, 1], s=12, color="#d62728", edgecolors=MARK, linewidths=0.6, zorder=3)
    axis.set_xlim(*panel.across)
    axis.set_ylim(*panel.up)


def _finish(axis: Axes, columns: int) -> None:
    axis.grid(False)
    axis.spines[:].set_color(SOFT)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(NullLocator() if columns > 3 else MaxNLocator(4 if columns < 3 else 2))
