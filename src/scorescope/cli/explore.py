"""``scorescope explore``: the noisy images, pixels, samples and directions of a run, to look into by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from scorescope.cli.options import AsJson


def explore(
    *,
    run: Annotated[str, typer.Argument(help="the run folder of scorescope explain or demo")],
    out: Annotated[
        str | None, typer.Option(help="HTML file to write; explorer.html in the run folder by default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the explorer of a finished run: one HTML file that needs no server."""
    from scorescope.app.explore import explore as explored

    explored(run, out=out).show(as_json)
