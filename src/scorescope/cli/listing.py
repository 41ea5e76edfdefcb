"""``scorescope list denoisers|networks|data|studies``: every name that a command takes, and what stands behind it."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from scorescope.app.catalogue import catalogue, kinds
from scorescope.foundation import UserError
from scorescope.foundation.registry import unknown_name


def show(
    kind: Annotated[str, typer.Argument(help="denoisers, networks, data or studies")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """List the denoisers, networks, data sets or studies that there are."""
    if kind not in kinds:
        raise UserError(unknown_name("list", kind, list(kinds)))
    rows = catalogue(kind)
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table(show_edge=False, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)
