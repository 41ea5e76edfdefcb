"""Every option that more than one command takes, said once; and groups of options that go together.

A command takes a group by a parameter of that type; `with_groups` makes its fields options of the command::

    def audit(data: Data, model: OneModel, run: Running) -> None: ...
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from scorescope.foundation.limits import LARGEST_SEED

CHECKPOINT_HELP = "checkpoint: a scorescope folder, EDM .pkl, .pt, .pth or .safetensors state dict, or diffusers folder"
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
AsJson = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
ClassLabel = Annotated[int | None, typer.Option(min=0, help="class of all images, for a network conditional on it")]
Data = Annotated[str, typer.Option(help="a store, or the name of a built-in data set")]
DenoiserName = Annotated[
    str | None, typer.Option(help="a name from scorescope list denoisers, or network:PATH, instead of --model")
]
Device = Annotated[str, typer.Option(help="where networks run: cpu, cuda, cuda:1, mps")]
Force = Annotated[bool, typer.Option("--force", help="replace the file if it is there")]
HeldOut = Annotated[str | None, typer.Option(help="store of images that the model was not trained on")]
Model = Annotated[Path, typer.Option(help=CHECKPOINT_HELP)]
ModelToo = Annotated[Path | None, typer.Option("--model", help=CHECKPOINT_HELP)]
Out = Annotated[Path | None, typer.Option(help="run folder to make, or to go on with if it was interrupted")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with denoisers or lenses of your own")
]
Preset = Annotated[str, typer.Option(help="tiny (seconds), small (minutes on two cores) or paper")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="of everything that is drawn")]
SeedToo = Annotated[
    int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="of everything that is drawn [default: 0]")
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="another setting of the study")]
Weights = Annotated[str | None, typer.Option(help="of a file that has both: averaged (the default) or raw")]


@dataclass(frozen=True)
class Running:
    """How a study is run, but for its run folder."""

    preset: Preset = "small"
    seed: SeedToo = None
    device: Device = "cpu"
    settings: Settings = None
    plugin: Plugins = None
    as_json: AsJson = False

    def said(self) -> dict[str, Any]:
        """As `scorescope.app.runs.reproduce` takes it."""
        return {
            "preset": self.preset,
            "seed": self.seed,
            "device": self.device,
            "settings": self.settings or [],
            "plugin": self.plugin or [],
        }


@dataclass(frozen=True)
class AboutNetwork:
    """What a checkpoint does not say of itself."""

    arch: Arch = None
    arch_arg: ArchArg = None
    weights: Weights = None
    class_label: ClassLabel = None


@dataclass(frozen=True)
class OneDenoiser:
    """A network, or a denoiser by name."""

    denoiser: DenoiserName = None
    model: ModelToo = None
    arch: Arch = None
    arch_arg: ArchArg = None
    weights: Weights = None
    class_label: ClassLabel = None


@dataclass(frozen=True)
class Drawing:
    """Of a command that draws something at random with a denoiser, into a picture."""

    seed: Seed = 0
    device: Device = "cpu"
    plugin: Plugins = None
    force: Force = False
    as_json: AsJson = False


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer takes it: every parameter whose type is a dataclass becomes that dataclass's fields as options."""
    hints = typing.get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = typing.cast("type[Any]", hints[name])
            inside = typing.get_type_hints(groups[name], include_extras=True)
            parameters += [_option(field.name, inside[field.name], field.default) for field in fields(groups[name])]
        else:
            parameters.append(_option(name, hints[name], parameter.default))

    def called(**words: Any) -> None:
        for name, group in groups.items():
            words[name] = group(**{field.name: words.pop(field.name) for field in fields(group)})
        command(**words)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
