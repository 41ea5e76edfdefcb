"""One door for every checkpoint: look at what a path holds, choose its reader, rebuild the network, say what was assumed.

| what | recognized by | how it becomes a denoiser |
| --- | --- | --- |
| our own folder, or a training run's | ``network.json`` | as it says |
| a ``diffusers`` pipeline or UNet folder | ``model_index.json``, ``config.json`` | by its scheduler |
| an EDM pickle | a pickle with the key ``ema`` | by its class: EDM, VP, VE or iDDPM preconditioning |
| a state dictionary of ``torch.save``, or ``.safetensors`` | its first bytes | as is usual for its architecture |

The first bytes decide, never the file's name. A state dictionary does not say how its network was trained: a DiT that also
predicts a variance is taken for a noise predictor over the linear table of 1,000 steps, as published; any other network
for what `architectures` lists. ``preconditioning`` among the arguments says otherwise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from scorescope.foundation import UserError
from scorescope.networks.checkpoint import DESCRIPTION, NetworkConfig, build_network, load_network
from scorescope.networks.preconditioning import Preconditioning, preconditioning_from
from scorescope.networks.readers.diffusers_folder import is_diffusers_folder, read_diffusers_folder
from scorescope.networks.readers.edm_pickle import EDMNetwork, read_edm_pickle
from scorescope.networks.readers.file_view import viewed
from scorescope.networks.readers.infer import IN_A_STUDY, SIGNATURES, Inferred, infer, recognize
from scorescope.networks.readers.rebuilding import rebuild
from scorescope.networks.readers.restricted_unpickler import Budget
from scorescope.networks.readers.state_dict import StateDict, read_safetensors, read_torch_state_dict, without_prefixes
from scorescope.networks.readers.torch_archive import is_archive
from scorescope.networks.registry import architectures

RUN_NETWORK = "network"
PICKLE, LONGEST_HEADER = 0x80, 100_000_000
ACCEPTED = "accepted are a scorescope folder, an EDM .pkl, a .pt, .pth or .safetensors state dict, and a local diffusers folder"
CORRECT = f"name the right network with --arch, and its arguments with --arch-arg NAME=VALUE {IN_A_STUDY}"
MOST_STEPS = 100_000

# Arguments that are about the network's use, not its construction.
IMAGE_SIZE, PRECONDITIONING = "image_size", "preconditioning"

_EDM_PRECONDITIONINGS = {
    "EDMPrecond": ("edm", {"sigma_data": "sigma_data"}),
    "VPPrecond": ("vp", {"beta_d": "beta_d", "beta_min": "beta_min", "M": "steps", "epsilon_t": "epsilon_t"}),
    "VEPrecond": ("ve", {}),
    "iDDPMPrecond": ("iddpm", {"C_1": "C_1", "C_2": "C_2", "M": "steps"}),
}


@dataclass(frozen=True)
class OpenedNetwork:
    """A network from a checkpoint, ready to use.

    Attributes:
        network: in evaluation mode, on the CPU, float32.
        config: what it is and how it is used.
        origin: a sentence that says what was opened and what was assumed.
    """

    network: nn.Module
    config: NetworkConfig
    origin: str

    @property
    def preconditioning(self) -> Preconditioning:
        """What turns its output into a denoised image."""
        return preconditioning_from(self.config.preconditioning, self.config.preconditioning_arguments)


def open_checkpoint(
    path: Path | str,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    sides: tuple[int, int] | None = None,
) -> OpenedNetwork:
    """Open a checkpoint of any supported kind. Nothing in it is imported or executed.

    Args:
        path: a file or folder.
        architecture: name in `architectures`, for state dictionaries; by default their parameters' names decide.
        arguments: constructor arguments over those that are inferred, for state dictionaries; beside them ``image_size``
            (an integer, or height and width), ``preconditioning`` and ``preconditioning.NAME`` for its arguments.
        sides: height and width of the images it will be used on, for networks that take any and files that do not say.

    Raises:
        UserError: there is no such path, it is no supported checkpoint, it is damaged or asks for more than a network needs,
            its tensors do not fit or are not finite, or arguments are missing.
    """
    path = Path(path)
    given = dict(arguments or {})
    try:
        if path.is_dir():
            return _open_folder(path, architecture, given)
        if not path.exists():
            raise UserError(_no_such_path(path))
        return _open_file(path, architecture, given, sides)
    except UserError as error:
        said = str(error)
        raise UserError(said if said.startswith(str(path)) else f"{path} was not opened: {said}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error


def _open_folder(path: Path, architecture: str | None, given: dict[str, Any]) -> OpenedNetwork:
    own = next((place for place in (path, path / RUN_NETWORK) if (place / DESCRIPTION).is_file()), None)
    foreign = is_diffusers_folder(path)
    if own is None and not foreign:
        held = ", ".join(sorted(entry.name[:40] for entry in list(path.iterdir())[:50])[:4]) or "nothing"
        raise UserError(f"the folder is no checkpoint, it holds {held}; {ACCEPTED}")
    if architecture is not None or given:
        raise UserError("the folder says itself which network it holds: leave out --arch and --arch-arg")
    if own is not None:
        network, config = load_network(own)
        return OpenedNetwork(network, config, f"scorescope checkpoint {own}: {config.architecture}.")
    found = read_diffusers_folder(path, Budget())
    preconditioning = preconditioning_from(found.preconditioning, found.preconditioning_arguments)
    config = NetworkConfig(
        architecture="diffusers-unet2d",
        arguments=found.arguments,
        preconditioning=found.preconditioning,
        preconditioning_arguments=found.preconditioning_arguments,
        image_shape=found.image_shape,
        sigma_range=preconditioning.sigma_range,
    )
    network = rebuild(found.build, found.tensors, "UNet2DModel")
    return OpenedNetwork(network, config, _origin(path, "diffusers UNet2DModel", config, found.assumed))


def _open_file(
    path: Path, architecture: str | None, given: dict[str, Any], sides: tuple[int, int] | None
) -> OpenedNetwork:
    data = viewed(path)
    if is_archive(data):
        return _from_state_dict(path, read_torch_state_dict(data, Budget()), architecture, given, sides)
    if _is_safetensors(data):
        return _from_state_dict(path, without_prefixes(read_safetensors(path)), architecture, given, sides)
    if data[0] == PICKLE:
        if architecture is not None or given:
            raise UserError("the pickle says itself which network it holds: leave out --arch and --arch-arg")
        return _from_edm(path, read_edm_pickle(data, Budget()))
    first = bytes(data[:4]).hex(" ")
    raise UserError(f"its first bytes ({first}) are those of no checkpoint; {ACCEPTED}")


def _is_safetensors(data: memoryview) -> bool:
    """Whether a file begins with the length of a JSON object and its brace; a pickle's first bytes are no such length."""
    return len(data) > 8 and data[8] == ord("{") and int.from_bytes(data[:8], "little") <= LONGEST_HEADER


def _from_edm(path: Path, found: EDMNetwork) -> OpenedNetwork:
    if found.preconditioning not in _EDM_PRECONDITIONINGS:
        raise UserError(
            f"its network is a {found.preconditioning[:40]}; of EDM's files those with"
            f" {', '.join(_EDM_PRECONDITIONINGS)} are supported"
        )
    if found.model == "SongUNet":
        architecture = "ncsn++" if found.arguments.get("embedding_type") == "fourier" else "ddpm++"
    elif found.model == "DhariwalUNet":
        architecture = "adm"
    else:
        raise UserError(f"its network is a {found.model[:40]}; of EDM's files SongUNet and DhariwalUNet are supported")
    name, renamed = _EDM_PRECONDITIONINGS[found.preconditioning]
    preconditioning = preconditioning_from(name, _edm_settings(found, renamed))
    resolution, channels = found.arguments.get("img_resolution"), found.arguments.get("in_channels")
    if not isinstance(resolution, int) or not isinstance(channels, int):
        raise UserError("it does not record its images' size and channels: copy or download it again")
    config = NetworkConfig(
        architecture=architecture,
        arguments=found.arguments,
        preconditioning=name,
        preconditioning_arguments=preconditioning.model_dump(mode="json"),
        image_shape=(channels, resolution, resolution),
        sigma_range=_recorded_range(found, preconditioning),
    )
    network = rebuild(lambda: build_network(config), found.tensors, found.model)
    what = f"EDM pickle, {found.model} in {found.preconditioning}, averaged weights"
    return OpenedNetwork(network, config, _origin(path, what, config, ()))


def _edm_settings(found: EDMNetwork, renamed: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for theirs, ours in renamed.items():
        if theirs not in found.settings:
            raise UserError(f"it does not record {theirs} of its {found.preconditioning}: copy or download it again")
        value = found.settings[theirs]
        if not math.isfinite(value) or value > MOST_STEPS:
            raise UserError(f"its {theirs} is {value:g}: allowed are finite numbers to {MOST_STEPS:,}")
        settings[ours] = int(value) if ours == "steps" else value
    return settings


def _recorded_range(found: EDMNetwork, preconditioning: Preconditioning) -> tuple[float, float]:
    """The file's own range, which EDM's preconditioning leaves open (0 to infinity): there the paper's."""
    low, high = found.settings.get("sigma_min", 0.0), found.settings.get("sigma_max", math.inf)
    return (low, high) if 0 < low < high < math.inf else preconditioning.sigma_range


def _from_state_dict(
    path: Path, state: StateDict, architecture: str | None, given: dict[str, Any], sides: tuple[int, int] | None
) -> OpenedNetwork:
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    name = recognize(shapes) if architecture is None else architecture
    entry = architectures[name]
    arguments, sides = _without_use(given, sides)
    found = infer(name, shapes, arguments) if name in SIGNATURES else Inferred(arguments, _shape_in(arguments))
    choice, its_arguments = _use(given)
    assumed = list(found.assumed)
    if choice is None:
        choice = "epsilon" if found.arguments.get("learn_sigma") else entry.preconditioning
        assumed.append(f"preconditioning {choice!r}, as usual for it")
    preconditioning = preconditioning_from(choice, its_arguments)
    config = NetworkConfig(
        architecture=name,
        arguments=found.arguments,
        preconditioning=choice,
        preconditioning_arguments=its_arguments,
        image_shape=_image_shape(found.image_shape, sides),
        sigma_range=preconditioning.sigma_range,
    )
    network = rebuild(lambda: build_network(config), state.tensors, name, CORRECT)
    preconditioning.check_fits(network)
    what = f"state dict of {name}" + (f", {state.taken}" if state.taken else "")
    return OpenedNetwork(network, config, _origin(path, what, config, assumed))


def _without_use(given: dict[str, Any], sides: tuple[int, int] | None) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """The constructor's arguments among those given, and the images' sides if they say them."""
    size = given.get(IMAGE_SIZE)
    if size is not None:
        pair = [size, size] if isinstance(size, int) else size
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(s, int) and s > 0 for s in pair):
            raise UserError(f"{IMAGE_SIZE} is {size!r}: give one side, or [height, width]")
        sides = (pair[0], pair[1])
    own = {
        name: value
        for name, value in given.items()
        if name not in (IMAGE_SIZE, PRECONDITIONING) and not name.startswith(PRECONDITIONING + ".")
    }
    return own, sides


def _use(given: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Name and arguments of the preconditioning among the arguments given."""
    choice = given.get(PRECONDITIONING)
    prefix = PRECONDITIONING + "."
    its = {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}
    if choice is not None and not isinstance(choice, str):
        raise UserError(f"{PRECONDITIONING} is {choice!r}: give a name")
    if its and choice is None:
        raise UserError(f"{prefix}{next(iter(its))} is given without {PRECONDITIONING}: name that too")
    return choice, its


def _shape_in(arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) for an architecture whose shapes do not say it."""
    shape = arguments.get("image_shape")
    if not isinstance(shape, list | tuple) or len(shape) != 3 or not all(isinstance(s, int) and s > 0 for s in shape):
        raise UserError(
            "the arguments of this architecture cannot be read off its weights: give them with --arch-arg,"
            f" image_shape=[C,H,W] among them {IN_A_STUDY}"
        )
    return shape[0], shape[1], shape[2]


def _image_shape(found: tuple[int, int, int], sides: tuple[int, int] | None) -> tuple[int, int, int]:
    if found[1]:
        return found
    if sides is None:
        raise UserError("its network takes images of any size: say which with --arch-arg image_size=N")
    return found[0], *sides


def _origin(path: Path, what: str, config: NetworkConfig, assumed: tuple[str, ...] | list[str]) -> str:
    channels, height, width = config.image_shape
    low, high = config.sigma_range
    used = f"{config.preconditioning} preconditioning, σ {low:.3g} to {high:.3g}"
    ending = f"; assumed: {'; '.join(assumed)}." if assumed else "."
    return f"{path}: {what}; {channels}×{height}×{width} images, {used}{ending}"


def _no_such_path(path: Path) -> str:
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not path.parent.exists():
        return f"there is no such checkpoint, and names on a hub are not looked up: download {path} first, and give its folder"
    return f"there is no such checkpoint: check the path; {ACCEPTED}"


def arguments_from(words: Sequence[str]) -> dict[str, Any]:
    """Arguments from ``NAME=VALUE`` words, values as JSON or else as they stand. Raises UserError for another form."""
    arguments = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"an argument of the architecture is written NAME=VALUE, not {word!r}")
        try:
            arguments[name] = json.loads(text)
        except ValueError:
            arguments[name] = text
    return arguments
