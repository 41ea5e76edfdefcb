"""Where a word beside a horizontal level of a chart hides least of the lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

# Of the small print: width of a letter as a share of a chart with one column, height of a line in inches.
LETTER, LINE = 0.0155, 0.2


def free_corner(
    axis: Axes, curves: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], level: float, word: str
) -> tuple[bool, bool]:
    """Which end of a level, and which side of it, has fewest lines behind a word.

    Args:
        axis: with its scales and limits; part of a figure of subplots.
        curves: x and y, each (n,), of every line; points that are not finite are left out.
        level: in the units of y.
        word: what is to be written.

    Returns:
        Whether at the right end rather than the left, and whether above the level rather than below.
    """
    figure, place = axis.get_figure(root=True), axis.get_subplotspec()
    assert figure is not None
    assert place is not None
    grid = place.get_gridspec()
    width, height = LETTER * len(word) * grid.ncols, LINE * grid.nrows / figure.get_figheight()
    to_axes = axis.transScale + axis.transLimits  # from here on in shares of the axes
    floor = to_axes.transform((axis.get_xlim()[1], level))[1]
    across, lines = np.linspace(0, 1, 200), []
    for curve in curves:
        drawn = to_axes.transform(np.column_stack([np.ravel(values) for values in curve]).astype(float))
        x, y = drawn[np.isfinite(drawn).all(1)].T
        if x.size:
            order = np.argsort(x)
            lines.append(np.interp(across, x[order], y[order], left=np.nan, right=np.nan))
    heights = np.array(lines).reshape(-1, len(across)) - floor
    hidden = {}
    for above in (True, False) if floor > 1.5 * height else (True,):
        covered = np.abs(heights - (height if above else -height) / 2) < 0.7 * height
        hidden[True, above] = np.count_nonzero(covered[:, across > 1 - width])
        hidden[False, above] = np.count_nonzero(covered[:, across < width])
    return min(hidden, key=lambda corner: hidden[corner])  # the first of equals
