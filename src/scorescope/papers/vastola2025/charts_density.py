"""Densities on the line as small multiples: rows and columns of conditions, the same lines in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from scorescope.study.charts import STYLE, WIDTH
from scorescope.study.palette import BLUE, GREY, ORANGE, RED


@dataclass(frozen=True)
class DensityPanel:
    """One condition.

    Attributes:
        fitted: average density of fitted models, (cells,).
        low: lower quartile over models.
        high: upper quartile over models.
        effective: density of the effective process.
        exact: density that the exact score gives with the same steps.
    """

    fitted: npt.ArrayLike
    low: npt.ArrayLike
    high: npt.ArrayLike
    effective: npt.ArrayLike
    exact: npt.ArrayLike


@matplotlib.rc_context(STYLE)
def density_grid(
    panels: Sequence[Sequence[DensityPanel]],
    centres: npt.ArrayLike,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    data: npt.ArrayLike,
    *,
    top: float = 3.0,
) -> Figure:
    """All conditions, with the training points as marks on the axis.

    Args:
        panels: rows of conditions.
        centres: of the cells, (cells,).
        row_labels: one a row.
        column_labels: one a column.
        data: training points (N,).
        top: of every vertical axis; peaks above it are cut.
    """
    rows, columns = len(panels), len(panels[0])
    figure = Figure(figsize=(WIDTH, 0.95 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    x = np.asarray(centres, dtype=float)
    for row, line in enumerate(panels):
        for column, panel in enumerate(line):
            axis = axes[row, column]
            axis.fill_between(x, np.asarray(panel.low), np.asarray(panel.high), color=ORANGE, alpha=0.2, linewidth=0)
            axis.plot(x, np.asarray(panel.exact), color=GREY, linewidth=0.9, label="exact score, same steps")
            axis.plot(x, np.asarray(panel.fitted), color=ORANGE, linewidth=1.3, label="fitted models, average")
            dashes = (0, (3, 1.5))
            axis.plot(
                x, np.asarray(panel.effective), color=BLUE, linewidth=1.1, linestyle=dashes, label="effective process"
            )
            axis.plot(np.asarray(data), np.zeros(len(np.asarray(data))), "^", color=RED, markersize=3.5, clip_on=False)
            axis.set_ylim(0, top)
            axis.set_xlim(x[0], x[-1])
            axis.set_yticks([0, top])
            if row == 0:
                axis.set_title(column_labels[column])
        axes[row, 0].set_ylabel(row_labels[row])
    for axis in axes[-1]:
        axis.set_xlabel("x")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=2)
    return figure
