"""The commands on one denoiser: sample, denoise, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorescope.app.choices import ModelChoice, check_problem, chosen_denoiser
from scorescope.cli.options import BETA, CONSTANT, FIRST_STEP, Data, Drawing, OneDenoiser
from scorescope.foundation.limits import LARGEST_COUNT, MOST_LEVELS
from scorescope.foundation.progress import showing_progress


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
    choice, plugins = _checked(asked, data, drawing)
    from scorescope.app import networks

    ascent = {"sampler_h": h, "sampler_beta": beta, "sampler_h_grows": False if constant_step else None}
    with showing_progress():
        said = networks.sample(
            choice,
            data,
            out,
            count,
            drawing.seed,
            {"flow_steps": steps},
            ascent,
            drawing.device,
            plugins,
            drawing.force,
        )
    print(said)


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
    choice, plugins = _checked(asked, data, drawing)
    from scorescope.app import networks

    with showing_progress():
        said = networks.denoise(choice, data, sigma, out, count, drawing.seed, drawing.device, plugins, drawing.force)
    print(said)


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
    choice, plugins = _checked(asked, data, drawing)
    from scorescope.app import restoration

    with showing_progress():
        said = restoration.restore(
            choice,
            data,
            problem,
            amount,
            out,
            count,
            each,
            drawing.seed,
            h,
            beta,
            not constant_step,
            drawing.device,
            plugins,
            drawing.force,
        )
    print(said)


def _checked(asked: OneDenoiser, data: str | None, drawing: Drawing) -> tuple[str | ModelChoice, list[Path]]:
    """The denoiser that was asked for, and plugins; wrong words and paths are refused before PyTorch is imported."""
    from scorescope.app.checks import check_data, check_device, check_plugins

    plugins = drawing.plugin or []
    choice = chosen_denoiser(
        asked.denoiser, asked.model, asked.arch, asked.arch_arg, asked.class_label, asked.weights, plugins
    )
    check_plugins(plugins)
    check_device(drawing.device)
    check_data(data)
    return choice, plugins
