"""``scorescope list denoisers|networks|…``: every name that a command takes, and what stands behind it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from scorescope.app.catalogue import COLUMNS, catalogue
from scorescope.cli.options import AsJson
from scorescope.foundation import UserError
from scorescope.foundation.names import unknown_name


def show(
    kind: Annotated[str, typer.Argument(help=", ".join(COLUMNS))],
    as_json: AsJson = False,
) -> None:
    """List the denoisers, networks, preconditionings, data sets, lenses or studies that there are."""
    if kind not in COLUMNS:
        raise UserError(unknown_name("list", kind, list(COLUMNS)))
    rows = catalogue(kind)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
