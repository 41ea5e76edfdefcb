"""How far around a pixel a network looks: sides of the squares that hold given shares of its sensitivity heatmaps.

Around every output pixel stands a square of odd side; of a square that goes past the border only what is inside counts, and the
side is that of the whole square, so it can reach ``2 max(H, W) − 1``. Sides are averaged over all output pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from scorescope.data import ImageSet
from scorescope.denoisers.heatmaps import Heatmaps, WienerHeatmaps
from scorescope.foundation.progress import track
from scorescope.probes.sensitivity import all_pixels, sides_holding
from scorescope.study import charts, pictures

SHARES = (0.5, 0.75, 0.95)
Floats = npt.NDArray[np.float64]
PIXELS = {"centre": (0.5, 0.5), "between": (0.3, 0.6), "border": (0.5, 0.0), "corner": (0.0, 0.0)}


@dataclass(frozen=True)
class Concentration:
    """Sides at S noise levels.

    Attributes:
        name: whose heatmaps.
        sigmas: (S,).
        sides: of every output pixel, (S, P, shares), pixels of `SHARES`.
        examples: heatmaps of a few output pixels, (K, S, H, W), each as it is.
        pixels: what these pixels are called, K of them, with row and column.
    """

    name: str
    sigmas: Floats
    sides: Floats
    examples: Floats
    pixels: list[str]

    def mean(self, share: float) -> Floats:
        """The side that holds a share, averaged over output pixels, (S,)."""
        return np.asarray(self.sides[:, :, SHARES.index(share)].mean(1))

    def quartiles(self, share: float) -> tuple[Floats, Floats]:
        """Between which sides the middle half of the output pixels lies, (S,) each."""
        low, high = np.quantile(self.sides[:, :, SHARES.index(share)], [0.25, 0.75], axis=1)
        return low, high


def concentration(name: str, heatmaps: Heatmaps, sigmas: Sequence[float], size: tuple[int, int]) -> Concentration:
    """Measure heatmaps of images of some size (H, W) at some levels."""
    height, width = size
    places = {
        word: (round(down * (height - 1)), round(across * (width - 1))) for word, (down, across) in PIXELS.items()
    }
    sides, examples = [], []
    for sigma in track(list(sigmas), f"concentration of {name}"):
        maps = heatmaps.at(sigma).reshape(height * width, height, width)
        sides.append(sides_holding(maps, all_pixels(height, width), SHARES))
        examples.append([maps[row * width + column] for row, column in places.values()])
    return Concentration(
        name,
        np.array(sigmas, dtype=np.float64),
        np.array(sides, dtype=np.float64),
        np.swapaxes(np.array(examples), 0, 1),
        [f"{word} ({row}, {column})" for word, (row, column) in places.items()],
    )


def of_the_wiener_filter(images: ImageSet, sigmas: Sequence[float]) -> Concentration:
    """The same of the best linear denoiser of the training images, which needs no network."""
    return concentration("gaussian", WienerHeatmaps(images), sigmas, images.image_shape[1:])


def chart(found: Sequence[Concentration]) -> Figure:
    """Sides over σ, one panel a share, one line a network."""
    panels = []
    for share in SHARES:
        series = []
        for one in found:
            low, high = one.quartiles(share)
            series.append(
                charts.Series(one.name, one.sigmas, one.mean(share), low, high, dashed=one.name == "gaussian")
            )
        panels.append(charts.Panel(series, "side (pixels)", f"{share:.0%} of the sensitivity"))
    return charts.lines(panels, share_y=True)


def sheet(one: Concentration, levels: int = 8) -> pictures.Sheet:
    """Heatmaps of a few pixels, noise falling from left to right, each scaled to its largest value, square root."""
    shown = sorted({int(k) for k in np.linspace(0, len(one.sigmas) - 1, levels).round()})
    maps = np.sqrt(one.examples[:, shown])
    peaks = maps.max((2, 3), keepdims=True)
    scaled = 2 * maps / np.where(peaks > 0, peaks, 1) - 1
    columns = [f"σ = {one.sigmas[k]:.2g}" for k in shown]
    return pictures.grid(scaled[:, :, None], row_labels=one.pixels, column_labels=columns)


def table(found: Sequence[Concentration]) -> pd.DataFrame:
    """All sides."""
    rows = []
    for one in found:
        for level, sigma in enumerate(one.sigmas):
            row: dict[str, object] = {"heatmaps of": one.name, "σ": float(sigma)}
            rows.append(row | {f"{share:.0%}": float(one.mean(share)[level]) for share in SHARES})
    return pd.DataFrame(rows)
