"""Tables as a page shows them: numbers formatted, aligned by their digits, missing ones as a dash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scorescope.study.results import Table

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """One column, ready to print.

    Attributes:
        name: its heading.
        unit: under the heading; may be empty.
        numeric: whether it is aligned to the right.
        cells: its texts.
    """

    name: str
    unit: str
    numeric: bool
    cells: tuple[str, ...]


def columns_of(table: Table) -> list[Column]:
    """The columns of a table as texts."""
    found = []
    for name in table.frame.columns:
        values = table.frame[name]
        numeric = bool(pd.api.types.is_numeric_dtype(values)) and not pd.api.types.is_bool_dtype(values)
        form = table.formats.get(str(name)) or (_common_format(values) if numeric else "")
        cells = tuple(text_of(value, form) for value in values)
        found.append(Column(str(name), table.units.get(str(name), ""), numeric, cells))
    return found


def _common_format(values: pd.Series[Any]) -> str:
    """As many decimals for all numbers of a column as its largest needs for four digits; empty for whole numbers.

    Where that would leave nothing of the smallest, every number has its own four digits instead.
    """
    if not pd.api.types.is_float_dtype(values):
        return ""
    sizes = [abs(float(value)) for value in values if math.isfinite(value) and value != 0]
    if not sizes:
        return ""
    decimals = min(6, max(0, 3 - math.floor(math.log10(max(sizes)))))
    return f",.{decimals}f" if min(sizes) >= 5 * 10**-decimals else ".4g"


def text_of(value: Any, form: str = "") -> str:
    """One cell: a number in `form`, or with four significant digits; "yes" and "no"; a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return MISSING
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        text = format(value, form) if form else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        return text.replace("-", "−", 1) if text.startswith("-") else text
    return str(value)
