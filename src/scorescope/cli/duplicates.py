"""``scorescope data duplicates``: images that are there more than once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scorescope.cli.options import AsJson
from scorescope.foundation.progress import showing_progress


def duplicates(
    data: Annotated[str, typer.Argument(help="A store's folder, or a built-in name.")],
    against: Annotated[
        str | None, typer.Option("--against", help="Another store: which of its images are in both?")
    ] = None,
    similarity: Annotated[
        float,
        typer.Option("--similarity", help="From which two images are near; 1 is equal up to brightness and contrast."),
    ] = 0.995,
    mirrored: Annotated[bool, typer.Option("--mirrored", help="Mirror images count as well.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Store to make, without the duplicates.")] = None,
    pictures: Annotated[Path | None, typer.Option("--pictures", help="PNG to make, with the groups.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find images that are in a store more than once, byte for byte or nearly, or also in another store."""
    from scorescope.app.checks import check_data

    check_data(data, against)
    from scorescope.app.duplicates import duplicates as find

    with showing_progress():
        found = find(data, against, similarity=similarity, mirrored=mirrored, out=out, pictures=pictures)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    typer.echo(found.words())
    if out is not None:
        typer.echo(f"{found.images.stored - len(found.left_out):,} images without duplicates: {out}")
    if pictures is not None:
        typer.echo(f"the groups as pictures: {pictures}" if pictures.exists() else f"no groups to draw in {pictures}")
