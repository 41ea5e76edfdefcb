"""Charts of points: clouds of samples in the plane, and densities on the line, as small multiples in the house style."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from scorescope.study.charts import STYLE, WIDTH
from scorescope.study.palette import BLUE, INK

MOST_POINTS = 500


@matplotlib.rc_context(STYLE)
def clouds(panels: Mapping[str, npt.ArrayLike], data: npt.ArrayLike, *, reach: float = 2.0, columns: int = 2) -> Figure:
    """Samples in the plane, one panel each, with the training points as crosses.

    Args:
        panels: title -> samples (n, 2); at most 500 of them are drawn.
        data: training points (N, 2).
        reach: both axes go from −reach to reach; what lies beyond is not drawn.
        columns: panels in a row.
    """
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / columns + 0.15) + 0.2), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    known = np.asarray(data, dtype=float)
    for axis, (title, samples) in zip(axes.flat, panels.items(), strict=False):
        shown = np.asarray(samples, dtype=float)
        shown = shown[:: max(1, len(shown) // MOST_POINTS)]
        axis.scatter(shown[:, 0], shown[:, 1], s=3, color=BLUE, alpha=0.5, linewidths=0)
        axis.scatter(known[:, 0], known[:, 1], s=34, color=INK, marker="x", linewidths=1.2)
        axis.set_title(title)
        axis.set_xlim(-reach, reach)
        axis.set_ylim(-reach, reach)
        axis.set_aspect("equal")
    for unused in list(axes.flat)[len(panels) :]:
        unused.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("first coordinate")
    for axis in axes[:, 0]:
        axis.set_ylabel("second coordinate")
    return figure


def density(samples: npt.ArrayLike, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Histogram density of samples on the line; what lies outside counts in the total: (…,), (K + 1,) -> (K,)."""
    values = np.ravel(np.asarray(samples, dtype=np.float64))
    counts = np.histogram(values, edges)[0]
    found: npt.NDArray[np.float64] = counts / (max(1, len(values)) * np.diff(edges))
    return found
