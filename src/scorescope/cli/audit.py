"""``scorescope audit``: does a model, or a folder of images, give its training images back?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorescope.cli.options import CHECKPOINT_HELP, AboutNetwork, Out, Running
from scorescope.foundation import UserError
from scorescope.foundation.progress import showing_progress

COPIES_FOUND = 3
"""Exit code of ``--fail-if-copies``."""


def audit(
    *,
    data: Annotated[
        str, typer.Option(help="the training images: a store, a built-in name, or a folder or zip of images")
    ],
    samples: Annotated[
        str | None,
        typer.Option(help="images of any generator: a folder or zip, brought to the data's size, or a store"),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help=f"{CHECKPOINT_HELP}, that draws the samples; several of one training run give its course: run/*.pt"
        ),
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CHECKPOINT", help="further checkpoints: what --model run/*.pt becomes in a shell"),
    ] = None,
    about: AboutNetwork,
    held_out: Annotated[str | None, typer.Option(help="images of the same kind that it was not trained on")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="samples drawn from each model [default: 1000]")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="pixels, embedded, sscd:FILE, torchscript:FILE or function:FILE.py:NAME; may be repeated"),
    ] = None,
    flips: Annotated[
        bool | None, typer.Option("--flips/--no-flips", help="mirror images count; as the checkpoint says by default")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="side to which folders are brought")] = None,
    bound: Annotated[
        float | None, typer.Option(help="share of copies, and leakage, up to which it generalizes [default: 0.1]")
    ] = None,
    fdr: Annotated[
        float | None, typer.Option(help="false discovery rate of the lists of copies [default: 0.05]")
    ] = None,
    fail_if_copies: Annotated[
        bool, typer.Option("--fail-if-copies", help="leave with exit code 3 if any copy is found")
    ] = False,
    out: Out = None,
    run: Running,
) -> None:
    """Say, with error rates, whether training images come back, which ones, and where in the image."""
    from scorescope.app.audit import audit as audited
    from scorescope.app.choices import ModelChoice

    if more and not model:
        raise UserError(f"{more[0]} is neither --samples nor --model: say which it is")
    choices = [
        ModelChoice.of(path, about.arch, about.arch_arg, about.class_label, about.weights)
        for path in [*(model or []), *(more or [])]
    ]
    what = Path(samples).name if samples is not None else choices[0].path.name if choices else "nothing"
    chosen = {"count": count, "size": size, "flips": flips, "class_label": about.class_label}
    with showing_progress():
        done = audited(
            data,
            samples=samples,
            models=choices,
            held_out=held_out,
            features=features or [],
            out=out or Path("runs") / f"audit-{what}",
            bound=bound,
            fdr=fdr,
            chosen=chosen,
            **run.said(),
        )
    done.show(run.as_json)
    if fail_if_copies and done.copies:
        raise typer.Exit(COPIES_FOUND)
