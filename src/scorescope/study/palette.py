"""Colours with a fixed meaning: one for every denoiser by name, told apart by colour-blind readers, on white and on black.

A chart is drawn in the light colours. A page may replace each of them by its dark partner when the reader's screen is
dark; `themed` prepares an SVG for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from matplotlib import colormaps
from matplotlib.colors import to_hex

INK, SOFT, RULE, PAPER = "#1f2328", "#5c636b", "#d9dce0", "#ffffff"
DARK_PARTNER = {
    INK: "#e8eaed",
    SOFT: "#a3abb5",
    RULE: "#3a4048",
    PAPER: "#15181c",
    "#0065ab": "#5aa9e6",
    "#cc4a00": "#ff8f4d",
    "#00805c": "#3fcf9f",
    "#a8408f": "#e08fcb",
    "#8a6d00": "#dcb73a",
    "#5b4fc7": "#a59cf5",
    "#0f8299": "#5fcbdd",
    "#8c4a2f": "#d79a7c",
    "#6c7a1f": "#b9c95c",
    "#b02a45": "#f47f95",
    "#7a7f87": "#a7adb5",
    "#3d8b37": "#8fd48a",
    "#44708f": "#93b5d1",
    "#d4709f": "#f0a8c8",
    "#2e4a8b": "#8ea6e8",
    "#7d2c3b": "#e39aa8",
}
"""Every colour of the house, with the one that stands for it on a dark page."""

# Viridis: the last of a sequence stands out most, so it is the darkest on white and the brightest on black.
_RAMP = {
    to_hex(colormaps["viridis"](0.72 - 0.67 * step / 8)): to_hex(colormaps["viridis"](0.38 + 0.6 * step / 8))
    for step in range(9)
}

BLUE, ORANGE, GREEN, PURPLE, GOLD, VIOLET, TEAL, BROWN, OLIVE, RED, GREY, LEAF, SLATE, PINK, NAVY, MAROON = list(
    DARK_PARTNER
)[4:]
DARK_PARTNER |= _RAMP

BY_NAME = {
    "A": BLUE,
    "B": ORANGE,
    "network": BLUE,
    "network A": BLUE,
    "network B": ORANGE,
    "optimal": INK,
    "gaussian": PURPLE,
    "gaussian-mixture": BROWN,
    "closed-form": GOLD,
    "pspc-square": GREEN,
    "pspc-flex": TEAL,
    "local-score": OLIVE,
    "equivariant-local-score": RED,
    "border-local-score": VIOLET,
    "pca-locality": LEAF,
    "pca-locality-batched": NAVY,
    "bm3d": GREY,
    "wavelet": SLATE,
    "stacked": PINK,
    "local-mixtures": ORANGE,
    "committee": MAROON,
    "train": BLUE,
    "test": ORANGE,
}
"""The colour of a denoiser, a network or a kind of image in every chart."""

MEMORIZES, IN_TRANSITION, GENERALIZES, UNDECIDED = RED, GOLD, GREEN, GREY
"""The colours of the verdicts, as badges and charts show them."""

_SPARE = (BLUE, ORANGE, GREEN, PURPLE, TEAL, VIOLET, GOLD, RED, OLIVE, BROWN, LEAF, SLATE, GREY)


def colours_of(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: its own where it has one, else one that no other name of the chart uses, in order."""
    names = list(dict.fromkeys(names))
    chosen = {name: BY_NAME[name] for name in names if name in BY_NAME}
    spare = [colour for colour in _SPARE if colour not in chosen.values()] or list(_SPARE)
    unnamed = [name for name in names if name not in chosen]
    chosen.update({name: spare[place % len(spare)] for place, name in enumerate(unnamed)})
    return {name: chosen[name] for name in names}


def sequence(count: int) -> list[str]:
    """`count` colours for ordered things (sizes, steps), from pale to deep; beyond nine, neighbours share one."""
    steps = list(_RAMP)
    return [steps[round(index * (len(steps) - 1) / max(1, count - 1))] for index in range(count)]


def themed(svg: str, prefix: str) -> str:
    """An SVG of this house ready to stand in a page: house colours as CSS variables, names of parts made unique.

    Args:
        svg: as `charts.svg` makes it.
        prefix: letters, digits, ``-`` and ``_``, another one for every drawing of a page.
    """
    for colour in DARK_PARTNER:
        svg = svg.replace(f": {colour}", f": var({variable(colour)})")
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    return re.sub(r'href="#', f'href="#{prefix}-', svg)


def variable(colour: str) -> str:
    """The CSS variable that holds a house colour."""
    return f"--c{colour[1:]}"
