"""Two thin lines on every axis of noise levels: where noisy training images lose their name, and where their kind.

*Collapse* and *speciation* (Biroli et al. 2024, arXiv 2402.18491) are levels of the training set alone, whatever network is
looked at. A page that knows its training set gives them to its `Results`; whatever chart has an axis of σ, or of the noisy
image's PSNR, then shows them, says them in its caption and in its words for who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.study.charts import INPUT_PSNR, SIGMA, STYLE
from scorescope.study.free_corner import LETTER
from scorescope.study.palette import SOFT

if TYPE_CHECKING:
    from scorescope.data import ImageSet
    from scorescope.study.workspace import Workspace

HEADING = "Collapse and speciation"
DASHES = {"collapse": (0, (1, 1.8)), "speciation": (0, (5, 1.6, 1, 1.6))}
STROKES = {"collapse": "dotted", "speciation": "dash-dotted"}
MEANINGS = {
    "collapse": "below it a noisy training image names its image",
    "speciation": "above it not even its kind can be told",
}
_AXES: Mapping[str, Callable[[float], float]] = {
    SIGMA: lambda sigma: sigma,
    INPUT_PSNR: lambda sigma: 20 * math.log10(2 / sigma),
}
"""Label of an axis -> the place of a noise level on it."""
_APART = 0.04  # of the width of an axis, between two words


@dataclass(frozen=True)
class Landmarks:
    """The two levels of one training set, in units of [-1, 1].

    Attributes:
        collapse: σ; None where there is none.
        speciation: σ; None where there is none.
        measured: how, in a sentence.
        of: whose they are, where a page has several ("N = 30000"); may be empty.
    """

    collapse: float | None
    speciation: float | None
    measured: str = ""
    of: str = ""

    def levels(self) -> dict[str, float]:
        """Those that there are, by name."""
        named = {"collapse": self.collapse, "speciation": self.speciation}
        return {name: level for name, level in named.items() if level is not None}


def landmarks_of(images: ImageSet, workspace: Workspace, cell: str = "landmarks", of: str = "") -> Landmarks:
    """The two levels of a training set, as a cell of the run.

    Args:
        images: the training set.
        workspace: of the run.
        cell: its name.
        of: whose they are, where a page has several.
    """

    def measured() -> dict[str, Any]:
        from scorescope.probes.noise_landmarks import noise_landmarks

        return asdict(noise_landmarks(images))

    found = workspace.computed(cell, measured)
    parts = [
        f"{found[f'read_for_{name}']:,} of {found['images']:,} images"
        if found[f"read_for_{name}"] < found["images"]
        else ""
        for name in ("collapse", "speciation")
    ]
    said = [f"{name} from {part}" for name, part in zip(("collapse", "speciation"), parts, strict=True) if part]
    return Landmarks(found["collapse"], found["speciation"], ", ".join(said), of)


def describe(landmarks: Sequence[Landmarks]) -> str:
    """What the lines are and how they were found, for the foot of a page."""
    parts = [
        "The thin lines on axes of noise levels (Biroli et al. 2024, arXiv 2402.18491), of training images alone. Collapse: the"
        " posterior of noisy training images has an entropy of ln 2 on average, two images. Speciation: σ is the root of the"
        " largest eigenvalue of the covariance."
    ]
    for one in landmarks:
        said = ", ".join(f"{name} σ = {level:.3g}" for name, level in one.levels().items()) or "none"
        parts.append(f"{one.of + ': ' if one.of else ''}{said}{f' ({one.measured})' if one.measured else ''}.")
    return " ".join(parts)


@matplotlib.rc_context(STYLE)
def mark(figure: Figure, found: Mapping[str, Landmarks]) -> str:
    """Draw the lines on a chart whose x axis is one of noise levels; nothing on another.

    Args:
        figure: made by `charts.lines`.
        found: title of a panel -> its training set's; under "" those of all other panels.

    Returns:
        What the lines are, as a sentence for the caption; empty if none was drawn.
    """
    axes = [axis for axis in figure.axes if axis.get_visible()]
    place_of = next((_AXES[axis.get_xlabel()] for axis in axes if axis.get_xlabel() in _AXES), None)
    if place_of is None or not found:
        return ""
    seen: dict[str, list[Landmarks]] = {}
    named: set[int] = set()
    for axis in axes:
        own = found.get(axis.get_title(loc="left"), found.get(""))
        if own is None:
            continue
        places = _draw(axis, own, place_of)
        for name in places:
            seen.setdefault(name, []).append(own)
        spec = axis.get_subplotspec()
        assert spec is not None
        column = spec.colspan.start
        if places and column not in named:
            _name(axis, places, spec.get_gridspec().ncols)
            named.add(column)
    return _sentence(seen, found.get(""))


def _draw(axis: Axes, own: Landmarks, place_of: Callable[[float], float]) -> dict[str, float]:
    """Draw the lines that lie within an axis; their places by name."""
    low, high = axis.get_xlim()
    axis.set_xlim(low, high)
    places = {name: place_of(level) for name, level in own.levels().items()}
    places = {name: place for name, place in places.items() if low < place < high}
    for name, place in places.items():
        axis.axvline(place, color=SOFT, linewidth=0.9, linestyle=DASHES[name], zorder=0.8)
    return places


def _name(axis: Axes, places: Mapping[str, float], columns: int) -> None:
    """The names of the lines in a row above the first axis of a column that has any, the title above them."""
    letter = LETTER * columns * (1.25 if columns > 1 else 1)  # the numbers beside small multiples take their part
    to_share = axis.transScale + axis.transLimits
    words = sorted(places, key=lambda name: to_share.transform((places[name], axis.get_ylim()[1]))[0])
    centres = [float(to_share.transform((places[name], axis.get_ylim()[1]))[0]) for name in words]
    for word, left in zip(words, spread(centres, [letter * len(word) for word in words]), strict=True):
        axis.annotate(
            word, (left, 1), (0, 2), xycoords="axes fraction", textcoords="offset points", ha="left", va="bottom",
            color=SOFT, fontsize=8.5, annotation_clip=False,
        )  # fmt: skip
    if title := axis.get_title(loc="left"):
        axis.set_title(title, loc="left", pad=16)


def spread(centres: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Left ends of one or two words in a row from 0 to 1, each as near below its centre as the other lets it.

    Args:
        centres: increasing, in [0, 1].
        widths: of the words.
    """
    left = [min(max(centre - width / 2, 0.0), 1.0 - width) for centre, width in zip(centres, widths, strict=True)]
    if len(left) == 2 and (short := left[0] + widths[0] + _APART - left[1]) > 0:
        left = [left[0] - short / 2, left[1] + short / 2]
        back = max(0.0, -left[0]) - max(0.0, left[1] + widths[1] - 1.0)
        left = [one + back for one in left]
    return left


def _sentence(seen: Mapping[str, Sequence[Landmarks]], common: Landmarks | None) -> str:
    """What was drawn, and what lies beyond the axis."""
    if not seen:
        return ""
    parts = []
    for name, owners in seen.items():
        one = len(set(owners)) == 1
        level = f"σ = {owners[0].levels()[name]:.3g}, " if one else "a line for each training set, "
        parts.append(f"{STROKES[name]}, {name} ({level}{MEANINGS[name]})")
    owner = f" of the images of {common.of}" if common is not None and common.of and all(
        set(owners) == {common} for owners in seen.values()
    ) else ""  # fmt: skip
    return f"Thin lines{owner}: {'; '.join(parts)}."
