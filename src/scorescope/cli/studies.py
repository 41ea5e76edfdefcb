"""The commands that run a study: demo, explain, reproduce, train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorescope.cli.options import AboutNetwork, Data, HeldOut, Model, Out, Running
from scorescope.foundation import UserError
from scorescope.foundation.progress import showing_progress


def demo(
    *,
    data: Annotated[
        str | None, typer.Option(help="data set; fashion-mnist, or natural-patches where that is missing")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="train networks here instead of using those that come along")
    ] = False,
    out: Out = None,
    run: Running,
) -> None:
    """Watch networks go from memorizing to generalizing, on real images, in minutes."""
    from scorescope.app import runs

    with showing_progress():
        done = runs.demo(data, train=train, out=out or Path("runs/demo"), **run.said())
    done.show(run.as_json)


def explain(
    *,
    model: Model,
    data: Data,
    about: AboutNetwork,
    held_out: HeldOut = None,
    other: Annotated[
        list[Path] | None, typer.Option(help="checkpoint trained on another draw of the data, such as a disjoint half")
    ] = None,
    lens: Annotated[
        str | None, typer.Option(help="names from scorescope list lenses, with commas between them; all by default")
    ] = None,
    out: Out = None,
    run: Running,
) -> None:
    """Say of a model and its training images whether it memorizes, and which mechanism explains it."""
    from scorescope.app import runs
    from scorescope.app.choices import ModelChoice

    choice = ModelChoice.of(model, about.arch, about.arch_arg, about.class_label, about.weights)
    folder = out or Path("runs") / f"explain-{model.name}"
    chosen = [name.strip() for name in (lens or "").split(",") if name.strip()]
    if lens is not None and not chosen:
        raise UserError("--lens names no lens: leave it out for all, or see scorescope list lenses")
    with showing_progress():
        done = runs.explain(
            choice, data, held_out=held_out, others=other or [], lenses=chosen, out=folder, **run.said()
        )
    done.show(run.as_json)


def reproduce(
    *,
    study: Annotated[str, typer.Argument(help="name of a study; see scorescope list studies")],
    out: Out = None,
    run: Running,
) -> None:
    """Run a study by name and write its report."""
    from scorescope.app import runs

    with showing_progress():
        done = runs.reproduce(study, out=out or Path("runs") / study.replace("/", "-"), **run.said())
    done.show(run.as_json)


def train(
    *,
    out: Annotated[Path, typer.Option(help="run folder to make: the checkpoint is its network/")],
    data: Annotated[str | None, typer.Option(help="a store, or the name of a built-in data set")] = None,
    arch: Annotated[str | None, typer.Option(help="architecture; see scorescope list networks")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="number of training images; all by default")] = None,
    split: Annotated[str | None, typer.Option(help="which of two disjoint halves they come from: a or b")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimizer steps")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="images a step")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="peak learning rate")] = None,
    checkpoints: Annotated[
        str | None, typer.Option(metavar="STEP,STEP,…", help="steps after which a checkpoint is kept too, in steps/")
    ] = None,
    run: Running,
) -> None:
    """Train a network; the same command goes on after an interruption."""
    from scorescope.app import runs

    with showing_progress():
        done = runs.train(
            out,
            data=data,
            architecture=arch,
            size=size,
            split=split,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            checkpoints=None if checkpoints is None else [step.strip() for step in checkpoints.split(",")],
            **run.said(),
        )
    done.show(run.as_json)
