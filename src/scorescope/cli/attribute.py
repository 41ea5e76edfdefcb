"""``scorescope attribute``: which training images, and which of their patches, is this sample made of?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorescope.cli.options import AboutNetwork, Data, Model, Out, Running
from scorescope.foundation.progress import showing_progress


def attribute(
    *,
    model: Model,
    data: Data,
    sample: Annotated[
        Path | None,
        typer.Option(help="an image of the model's size; by default the model draws one, with the noise of --seed"),
    ] = None,
    about: AboutNetwork,
    sides: Annotated[
        list[int] | None, typer.Option("--side", min=1, help="side of windows in pixels; may be repeated")
    ] = None,
    everywhere: Annotated[
        int | None,
        typer.Option(
            min=0, help="training images, those most like the sample, in which all places are looked at [default: 1000]"
        ),
    ] = None,
    gradients: Annotated[
        int | None,
        typer.Option(
            min=0, help="training images, those most like the sample, of which gradients are taken [default: 256]"
        ),
    ] = None,
    out: Out = None,
    run: Running,
) -> None:
    """Say which training images, and which patches of them, one sample is made of, and how far that can be trusted."""
    from scorescope.app.attribute import attribute as attributed
    from scorescope.app.choices import ModelChoice

    choice = ModelChoice.of(model, about.arch, about.arch_arg, about.class_label, about.weights)
    what = sample.stem if sample is not None else f"seed-{run.seed or 0}"
    with showing_progress():
        done = attributed(
            choice,
            data,
            sample=sample,
            sides=sides or (),
            everywhere=everywhere,
            gradients=gradients,
            out=out or Path("runs") / f"attribute-{model.name}-{what}",
            **run.said(),
        )
    done.show(run.as_json)
