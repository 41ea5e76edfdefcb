"""Claims on several networks, and lines with their intervals.

A sentence about networks is decided by the one for which it holds least; the numbers of the others stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from scorescope.probes.intervals import Estimate
from scorescope.study import charts
from scorescope.study.claims import Claim, Rule

NAMED = 4


def decided(
    sentence: str,
    source: str,
    quantity: str,
    numbers: Mapping[str, float],
    worst: Callable[..., Any],
    rule: Rule,
    few: str,
    missing: str,
    *,
    unit: str = "",
) -> Claim:
    """A claim with the number of the case for which it holds least.

    Args:
        sentence: what the paper says.
        source: where.
        quantity: what was measured.
        numbers: case (a network, a pair) -> its number.
        worst: `min` or `max`, whichever picks the case that speaks most against the sentence.
        rule: decides.
        few: why nothing is decided although there are numbers; empty if there is no reason.
        missing: why there are no numbers, where there are none.
        unit: of the numbers.
    """
    if few or not numbers:
        return Claim(sentence, source, quantity, None, rule, unit, note=f"{few or missing}.")
    name = worst(numbers, key=lambda case: numbers[case])
    others = [f"{case} {value:.2g}" for case, value in numbers.items() if case != name]
    said = f"{name}; " + ", ".join(others[:NAMED]) + (", …" if len(others) > NAMED else "") if others else name
    return Claim(sentence, source, quantity, numbers[name], rule, unit, note=f"{said}.")


def series_of(
    name: str, sigmas: npt.ArrayLike, found: Estimate, *, colour: str | None = None, dashed: bool = False
) -> charts.Series:
    """A line with its interval."""
    return charts.Series(name, sigmas, found.value, found.low, found.high, colour=colour, dashed=dashed)


def key_of(name: str) -> str:
    """A network's name as part of the key of a figure: letters, digits and ``-``."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name).strip("-") or "network"
