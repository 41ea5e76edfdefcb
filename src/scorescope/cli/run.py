"""The commands that run something: demo, explain, reproduce, train, sample, denoise, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorescope.foundation.limits import LARGEST_COUNT, LARGEST_SEED, MOST_LEVELS
from scorescope.foundation.progress import showing_progress

Out = Annotated[Path | None, typer.Option(help="run folder to make, or to go on with if it was interrupted")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="of everything that is drawn")]
Device = Annotated[str, typer.Option(help="where networks run: cpu, cuda, cuda:1, mps")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="another setting of the study")]
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file with denoisers of your own")]
Data = Annotated[str, typer.Option(help="a store, or the name of a built-in data set")]
CHECKPOINT_HELP = "checkpoint: a scorescope folder, EDM .pkl, .pt, .pth or .safetensors state dict, or diffusers folder"
Model = Annotated[Path, typer.Option(help=CHECKPOINT_HELP)]
ModelToo = Annotated[Path | None, typer.Option("--model", help=CHECKPOINT_HELP)]
DenoiserName = Annotated[
    str | None, typer.Option(help="a name from scorescope list denoisers, or network:PATH, instead of --model")
]
Force = Annotated[bool, typer.Option("--force", help="replace the file if it is there")]
FIRST_STEP = "first step size of the ascent, in (0, 1]"
BETA = "share of a step that lowers the noise, in (0, 1]; smaller is slower and more varied"
CONSTANT = "keep the step size as it is instead of letting it grow"
Arch = Annotated[str | None, typer.Option(help="architecture of a state dict, if its names do not decide it")]
ArchArg = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE", help="what a state dict does not say: num_heads, image_size, preconditioning, …"
    ),
]
Weights = Annotated[str | None, typer.Option(help="of a file that has both: averaged (the default) or raw")]
ClassLabel = Annotated[int | None, typer.Option(min=0, help="class of all images, for a network conditional on it")]


def demo(
    data: Annotated[
        str | None, typer.Option(help="data set; fashion-mnist, or natural-patches where that is missing")
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny (seconds), small (minutes on two cores) or paper")] = "small",
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    settings: Settings = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Watch networks go from memorizing to generalizing, on real images, in minutes."""
    from scorescope.app import main_job

    with showing_progress():
        run = main_job.demo(data, preset, out, seed, device, settings or [], plugin or [])
    run.show(as_json)


def explain(
    model: Model,
    data: Data,
    arch: Arch = None,
    arch_arg: ArchArg = None,
    weights: Weights = None,
    class_label: ClassLabel = None,
    held_out: Annotated[str | None, typer.Option(help="store of images that the model was not trained on")] = None,
    other: Annotated[
        list[Path] | None, typer.Option(help="checkpoint trained on another draw of the data, such as a disjoint half")
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny, small or paper")] = "small",
    out: Out = None,
    seed: Seed = 0,
    device: Device = "cpu",
    settings: Settings = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Say of a model and its training images whether it memorizes, and which mechanism explains it."""
    from scorescope.app import main_job
    from scorescope.app.models import ModelChoice

    choice = ModelChoice.of(model, arch, arch_arg, class_label, weights)
    with showing_progress():
        run = main_job.explain(
            choice, other or [], data, held_out, preset, out, seed, device, settings or [], plugin or []
        )
    run.show(as_json)


def reproduce(
    study: Annotated[str, typer.Argument(help="name of a study; see scorescope list studies")],
    preset: Annotated[str, typer.Option(help="tiny, small or paper")] = "small",
    out: Out = None,
    device: Device = "cpu",
    settings: Settings = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run a study by name and write its report."""
    from scorescope.app import main_job

    with showing_progress():
        run = main_job.reproduce(study, preset, out, device, settings or [], plugin or [])
    run.show(as_json)


def train(
    out: Annotated[Path, typer.Option(help="run folder to make: the checkpoint is its network/")],
    data: Annotated[str | None, typer.Option(help="a store, or the name of a built-in data set")] = None,
    arch: Annotated[str | None, typer.Option(help="architecture; see scorescope list networks")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="number of training images; all by default")] = None,
    split: Annotated[str | None, typer.Option(help="which of two disjoint halves they come from: a or b")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimizer steps")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="images a step")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="peak learning rate")] = None,
    preset: Annotated[str, typer.Option(help="tiny, small or paper")] = "small",
    seed: Seed = 0,
    device: Device = "cpu",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Train a network; the same command goes on after an interruption."""
    from scorescope.app import main_job

    chosen = {"data": data, "architecture": arch, "size": size, "split": split}
    training = {"steps": steps, "batch": batch, "learning_rate": learning_rate, "seed": seed}
    with showing_progress():
        run = main_job.train(out, preset, device, settings or [], chosen, training)
    run.show(as_json)


def sample(
    out: Annotated[Path, typer.Option(help="picture to write: .png, .jpg, .webp, .tif or .bmp")],
    model: ModelToo = None,
    denoiser: DenoiserName = None,
    data: Annotated[
        str | None, typer.Option(help="training images of a denoiser; of a blind model only their mean intensity")
    ] = None,
    arch: Arch = None,
    arch_arg: ArchArg = None,
    weights: Weights = None,
    class_label: ClassLabel = None,
    count: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many samples")] = 16,
    steps: Annotated[
        int | None, typer.Option(min=2, max=MOST_LEVELS, help="noise levels of the flow [default: 18]")
    ] = None,
    h: Annotated[float | None, typer.Option(min=1e-6, max=1, help=f"blind: {FIRST_STEP} [default: 0.01]")] = None,
    beta: Annotated[float | None, typer.Option(min=1e-6, max=1, help=f"blind: {BETA} [default: 0.1]")] = None,
    constant_step: Annotated[bool, typer.Option("--constant-step", help=f"blind: {CONSTANT}")] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    plugin: Plugins = None,
    force: Force = False,
) -> None:
    """Draw samples of a network, or of any denoiser of a data set, into one picture."""
    from scorescope.app import networks

    choice = networks.chosen_denoiser(denoiser, model, arch, arch_arg, class_label, weights)
    ascent = {"sampler_h": h, "sampler_beta": beta, "sampler_h_grows": False if constant_step else None}
    with showing_progress():
        said = networks.sample(
            choice, data, out, count, seed, {"flow_steps": steps}, ascent, device, plugin or [], force
        )
    print(said)


def denoise(
    data: Data,
    sigma: Annotated[float, typer.Option(help="standard deviation of the noise, for images in [-1, 1]")],
    out: Annotated[Path, typer.Option(help="picture to write (.png, .jpg, …): clean, noisy, denoised")],
    denoiser: DenoiserName = None,
    model: ModelToo = None,
    arch: Arch = None,
    arch_arg: ArchArg = None,
    weights: Weights = None,
    class_label: ClassLabel = None,
    count: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many images")] = 8,
    seed: Seed = 0,
    device: Device = "cpu",
    plugin: Plugins = None,
    force: Force = False,
) -> None:
    """Add noise to images of a data set and take it away again with one denoiser."""
    from scorescope.app import networks

    choice = networks.chosen_denoiser(denoiser, model, arch, arch_arg, class_label, weights)
    with showing_progress():
        said = networks.denoise(choice, data, sigma, out, count, seed, device, plugin or [], force)
    print(said)


def restore(
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
    denoiser: DenoiserName = None,
    model: ModelToo = None,
    arch: Arch = None,
    arch_arg: ArchArg = None,
    weights: Weights = None,
    class_label: ClassLabel = None,
    count: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many images")] = 6,
    each: Annotated[int, typer.Option(min=1, max=LARGEST_COUNT, help="how many restored images for each")] = 3,
    h: Annotated[float, typer.Option(min=1e-6, max=1, help=FIRST_STEP)] = 0.01,
    beta: Annotated[float, typer.Option(min=1e-6, max=1, help=BETA)] = 0.1,
    constant_step: Annotated[bool, typer.Option("--constant-step", help=CONSTANT)] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    plugin: Plugins = None,
    force: Force = False,
) -> None:
    """Restore images from few linear measurements of them, with the prior of a denoiser."""
    from scorescope.app import networks, restoration

    choice = networks.chosen_denoiser(denoiser, model, arch, arch_arg, class_label, weights)
    with showing_progress():
        said = restoration.restore(
            choice,
            data,
            problem,
            amount,
            out,
            count,
            each,
            seed,
            h,
            beta,
            not constant_step,
            device,
            plugin or [],
            force,
        )
    print(said)
