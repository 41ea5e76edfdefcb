"""The commands on one denoiser: sample, denoise, restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scorescope.app.checks import check_data, check_device, check_plugins
from scorescope.app.choices import ModelChoice, check_problem, chosen_denoiser
from scorescope.app.output import PictureFile
from scorescope.cli.options import BETA, CONSTANT, FIRST_STEP, Data, Drawing, OneDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.limits import LARGEST_COUNT, MOST_LEVELS
from scorescope.foundation.progress import showing_progress

if TYPE_CHECKING:
    from scorescope.app.drawn import Drawn


def sample(
    *,
    out: Annotated[Path, typer.Option(help="picture to write: .png, .jpg, .webp, .tif or .bmp")],
    asked: OneDenoiser,
    data: Annotated[
        str | None, typer.Option(help="training images of a denoiser; of a blind model only their mean intensity")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many samples")] = 16,
    steps: Annotated[
        int | None, typer.Option(min=2, max=MOST_LEVELS, help="noise levels of the flow [default: 18]")
    ] = None,
    h: Annotated[float | None, typer.Option(min=1e-6, max=1, help=f"blind: {FIRST_STEP} [default: 0.01]")] = None,
    beta: Annotated[float | None, typer.Option(min=1e-6, max=1, help=f"blind: {BETA} [default: 0.1]")] = None,
    constant_step: Annotated[bool, typer.Option("--constant-step", help=f"blind: {CONSTANT}")] = False,
    drawing: Drawing,
) -> None:
    """Draw samples of a network, or of any denoiser of a data set, into one picture."""
    file = PictureFile(out, drawing.force)
    choice = _checked(asked, data, drawing)
    from scorescope.app import denoising

    with showing_progress():
        done = denoising.sample(
            choice,
            count,
            images=data,
            seed=drawing.seed,
            steps=steps,
            h=h,
            beta=beta,
            constant_step=constant_step,
            device=drawing.device,
            keep=denoising.SHOWN_SAMPLES,
        )
    _give(done, file, drawing)


def denoise(
    *,
    data: Data,
    sigma: Annotated[float, typer.Option(help="standard deviation of the noise, for images in [-1, 1]")],
    out: Annotated[Path, typer.Option(help="picture to write (.png, .jpg, …): clean, noisy, denoised")],
    asked: OneDenoiser,
    count: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many images")] = 8,
    drawing: Drawing,
) -> None:
    """Add noise to images of a data set and take it away again with one denoiser."""
    file = PictureFile(out, drawing.force)
    choice = _checked(asked, data, drawing)
    from scorescope.app import denoising

    with showing_progress():
        done = denoising.denoise(
            choice,
            data,
            sigma,
            count=count,
            seed=drawing.seed,
            device=drawing.device,
            keep=denoising.SHOWN_COLUMNS,
        )
    _give(done, file, drawing)


def restore(
    *,
    data: Data,
    problem: Annotated[str, typer.Option(help="inpainting, missing-pixels, super-resolution or compressive-sensing")],
    out: Annotated[
        Path,
        typer.Option(help="picture to write (.png, .jpg, …): images, what is measured, restored images, their mean"),
    ],
    amount: Annotated[
        float | None,
        typer.Option(
            help="side of the hidden square (half of the image's), share of missing pixels (0.7), side of the averaged"
            " blocks (4), share of random measurements (0.1)"
        ),
    ] = None,
    asked: OneDenoiser,
    count: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many images")] = 6,
    each: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many restored images for each")] = 3,
    h: Annotated[float, typer.Option(min=1e-6, max=1, help=FIRST_STEP)] = 0.01,
    beta: Annotated[float, typer.Option(min=1e-6, max=1, help=BETA)] = 0.1,
    constant_step: Annotated[bool, typer.Option("--constant-step", help=CONSTANT)] = False,
    drawing: Drawing,
) -> None:
    """Restore images from few linear measurements of them, with the prior of a denoiser."""
    check_problem(problem)
    file = PictureFile(out, drawing.force)
    choice = _checked(asked, data, drawing)
    from scorescope.app import restoration

    with showing_progress():
        done = restoration.restore(
            choice,
            data,
            problem,
            amount=amount,
            count=count,
            each=each,
            seed=drawing.seed,
            h=h,
            beta=beta,
            constant_step=constant_step,
            device=drawing.device,
        )
    _give(done, file, drawing)


def _checked(asked: OneDenoiser, data: str | None, drawing: Drawing) -> str | ModelChoice:
    """The denoiser that was asked for; wrong words and paths are refused before PyTorch is imported."""
    plugins = drawing.plugin or []
    choice = chosen_denoiser(
        asked.denoiser, asked.model, asked.arch, asked.arch_arg, asked.class_label, asked.weights, plugins
    )
    check_plugins(plugins)
    check_device(drawing.device)
    check_data(data)
    if data is None and isinstance(choice, str):
        raise UserError(f"{choice} is made of training images: say which with --data")
    if plugins:
        from scorescope.app.plugins import load_plugins

        load_plugins(plugins)
    return choice


def _give(done: Drawn, file: PictureFile, drawing: Drawing) -> None:
    file.write(done.sheet())
    if not drawing.as_json:
        print(done.words(f": {file.path}"))
    else:
        print(json.dumps(done.numbers() | {"picture": str(file.path)}, indent=2, ensure_ascii=False))
