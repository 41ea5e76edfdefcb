"""One door for every checkpoint: look at what a path holds, choose its reader, rebuild the network, say what was assumed.

| what | recognized by | how it becomes a denoiser |
| --- | --- | --- |
| our own folder, or a training run's | ``network.json`` | as it says |
| a ``diffusers`` pipeline or UNet folder | ``model_index.json``, ``config.json`` | by its scheduler |
| an EDM pickle | a pickle with the key ``ema`` | by its class: EDM, VP, VE or iDDPM preconditioning |
| weights of ``torch.save``, or ``.safetensors`` | its first bytes, then the names in it | as its format says or is assumed |

The first bytes decide, never the file's name. Whose state dictionary it is, and what its format says and leaves out, is in
`format_table`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from scorescope.foundation import UserError
from scorescope.foundation.inert.file_view import viewed
from scorescope.foundation.inert.restricted_unpickler import Budget
from scorescope.foundation.inert.torch_archive import is_archive, read_archive
from scorescope.foundation.limits import LARGEST_SIDE
from scorescope.networks.checkpoint import DESCRIPTION, NetworkConfig, build_network, load_network
from scorescope.networks.preconditioning import Preconditioning, preconditioning_from
from scorescope.networks.readers.averages import are_finite, note_on_other
from scorescope.networks.readers.diffusers_folder import is_diffusers_folder, read_diffusers_folder
from scorescope.networks.readers.edm_pickle import (
    EDMNetwork,
    is_training_state,
    read_edm_pickle,
    read_training_state,
)
from scorescope.networks.readers.formats import (
    IN_A_STUDY,
    Assumption,
    CheckpointFile,
    Given,
    Reading,
    known_formats,
    read_as,
    recognized,
)
from scorescope.networks.readers.rebuilding import NotFiniteError, rebuild
from scorescope.networks.readers.state_dict import (
    AVERAGED,
    RAW,
    StateDict,
    read_safetensors_state_dict,
    state_dict_in,
)
from scorescope.networks.readers.unsupported import instead_of_optimizer, note_on_channels
from scorescope.networks.readers.use import said_use
from scorescope.networks.readers.weight_sets import OptimizerFileError, is_averaged_name
from scorescope.networks.readers.words import ACCEPTED, check_there
from scorescope.networks.registry import architectures

RUN_NETWORK = "network"
PICKLE, LONGEST_HEADER = 0x80, 100_000_000
CORRECT = f"name the right network with --arch, and its arguments with --arch-arg NAME=VALUE {IN_A_STUDY}"
MOST_STEPS = 100_000
AVERAGED_FILE, RAW_FILE = "nnet_ema.pth", "nnet.pth"

# Arguments that are about the network's use, not its construction.
IMAGE_SIZE, WEIGHTS = "image_size", "weights"

_EDM_PRECONDITIONINGS = {
    "EDMPrecond": ("edm", {"sigma_data": "sigma_data"}),
    "VPPrecond": ("vp", {"beta_d": "beta_d", "beta_min": "beta_min", "M": "steps", "epsilon_t": "epsilon_t"}),
    "VEPrecond": ("ve", {}),
    "iDDPMPrecond": ("iddpm", {"C_1": "C_1", "C_2": "C_2", "M": "steps"}),
    "Precond": ("edm", {"sigma_data": "sigma_data"}),
}
_EDM_MODELS = ("SongUNet", "DhariwalUNet", "UNet")


@dataclass(frozen=True)
class OpenedNetwork:
    """A network from a checkpoint, ready to use.

    Attributes:
        network: in evaluation mode, on the CPU, float32.
        config: what it is and how it is used.
        origin: a sentence that says what was opened and what was assumed.
        format: the kind of file.
        weights: which of its weights were taken, ``averaged`` or ``raw``; empty if it does not say.
        both: whether the file has both.
        any_size: whether its network takes images of any size, so that the size is the user's word.
        read: what was read off the file and is worth saying, as phrases.
        assumed: what the file does not say and was assumed.
        notes: what else is to be said of it.
    """

    network: nn.Module
    config: NetworkConfig
    origin: str
    format: str = ""
    weights: str = ""
    both: bool = False
    any_size: bool = False
    read: tuple[str, ...] = ()
    assumed: tuple[Assumption, ...] = ()
    notes: tuple[str, ...] = ()

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
    like: OpenedNetwork | None = None,
) -> OpenedNetwork:
    """Open a checkpoint of any supported kind. Nothing in it is imported or executed.

    Args:
        path: a file or folder.
        architecture: name in `architectures`, for state dictionaries; by default their parameters' names decide.
        arguments: constructor arguments over those that are inferred, for state dictionaries; beside them ``image_size``
            (an integer, or height and width), ``weights`` (``averaged`` or ``raw``), and how the network is used, in the words
            of `scorescope.networks.readers.use`.
        sides: height and width of the images it will be used on, for networks that take any and files that do not say.
        like: the same file opened before; its network is taken, not built again, where only its use is another.

    Raises:
        UserError: there is no such path, it is no supported checkpoint, it is damaged or asks for more than a network needs,
            its tensors do not fit or are not finite, or arguments are missing.
    """
    path = Path(path)
    given = dict(arguments or {})
    try:
        if path.is_dir():
            return _open_folder(path, architecture, given, sides)
        check_there(path)
        return _open_file(path, architecture, given, sides, like)
    except OptimizerFileError as error:
        raise UserError(f"{path} was not opened: {error}: {instead_of_optimizer(path)}") from error
    except UserError as error:
        said = str(error)
        raise UserError(said if said.startswith(str(path)) else f"{path} was not opened: {said}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error


def _open_folder(
    path: Path, architecture: str | None, given: dict[str, Any], sides: tuple[int, int] | None
) -> OpenedNetwork:
    own = next((place for place in (path, path / RUN_NETWORK) if (place / DESCRIPTION).is_file()), None)
    foreign = is_diffusers_folder(path)
    inside = _weights_inside(path, given.get(WEIGHTS)) if own is None and not foreign else None
    if inside is not None:
        opened = _open_file(inside, architecture, {k: v for k, v in given.items() if k != WEIGHTS}, sides)
        return replace(opened, weights=AVERAGED if inside.name == AVERAGED_FILE else RAW)
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


def _weights_inside(path: Path, weights: str | None) -> Path | None:
    """The file with weights in a folder of U-ViT's training script (``50000.ckpt``), averages unless raw ones are wanted."""
    names = {RAW: (RAW_FILE,), AVERAGED: (AVERAGED_FILE,)}.get(weights or "", (AVERAGED_FILE, RAW_FILE))
    return next((path / name for name in names if (path / name).is_file()), None)


def _open_file(
    path: Path,
    architecture: str | None,
    given: dict[str, Any],
    sides: tuple[int, int] | None,
    like: OpenedNetwork | None = None,
) -> OpenedNetwork:
    weights = given.pop(WEIGHTS, None)
    data = viewed(path)
    if is_archive(data):
        archive = read_archive(data, None, Budget())
        if is_training_state(archive.value):
            return _from_training_state(path, read_training_state(archive, len(data)), architecture, given, weights)
        return _from_state_dict(path, state_dict_in(archive, len(data), weights), architecture, given, sides, like)
    if _is_safetensors(data):
        return _from_state_dict(path, read_safetensors_state_dict(path, weights), architecture, given, sides, like)
    if data[0] == PICKLE:
        if architecture is not None or given or weights is not None:
            raise UserError("the pickle says itself which network it holds: leave out --arch and --arch-arg")
        return _from_edm(path, read_edm_pickle(data, Budget()))
    first = bytes(data[:4]).hex(" ")
    raise UserError(f"its first bytes ({first}) are those of no checkpoint; {ACCEPTED}")


def _is_safetensors(data: memoryview) -> bool:
    """Whether a file begins with the length of a JSON object and its brace; a pickle's first bytes are no such length."""
    return len(data) > 8 and data[8] == ord("{") and int.from_bytes(data[:8], "little") <= LONGEST_HEADER


def _from_edm(path: Path, found: EDMNetwork, note: str = "") -> OpenedNetwork:
    if found.preconditioning not in _EDM_PRECONDITIONINGS:
        raise UserError(
            f"its network is a {found.preconditioning[:40]}; of EDM's files those with"
            f" {', '.join(_EDM_PRECONDITIONINGS)} are supported"
        )
    if found.model == "SongUNet":
        architecture = "ncsn++" if found.arguments.get("embedding_type") == "fourier" else "ddpm++"
    elif found.model == "DhariwalUNet":
        architecture = "adm"
    elif found.model == "UNet" and found.preconditioning == "Precond":
        architecture = "edm2"
    else:
        raise UserError(f"its network is a {found.model[:40]}; of EDM's files {', '.join(_EDM_MODELS)} are supported")
    name, renamed = _EDM_PRECONDITIONINGS[found.preconditioning]
    preconditioning = preconditioning_from(name, _edm_settings(found, renamed))
    resolution = found.arguments.get("img_resolution")
    channels = found.arguments.get("img_channels" if architecture == "edm2" else "in_channels")
    if not isinstance(resolution, int) or not isinstance(channels, int):
        raise UserError("it does not record its images' size and channels: copy or download it again")
    config = NetworkConfig(
        architecture=architecture,
        arguments=found.arguments,
        preconditioning=name,
        preconditioning_arguments=preconditioning.model_dump(mode="json"),
        image_shape=(channels, resolution, resolution),
        sigma_range=_recorded_range(found, preconditioning),
        training=found.training,
    )
    network = rebuild(lambda: build_network(config), found.tensors, found.model)
    weights = AVERAGED if found.averaged else RAW
    kind = ("EDM2" if architecture == "edm2" else "EDM") + (" pickle" if found.averaged else " training state")
    what = f"{kind}, {found.model} in {found.preconditioning}, {weights} weights"
    read = ["everything, as its constructor was called"]
    if "data" in found.training:
        read.append(f"trained on {found.training['data']}")
    if "flips" in found.training:
        read.append("trained on mirrored images too" if found.training["flips"] else "trained without mirroring")
    return OpenedNetwork(
        network,
        config,
        _origin(path, what, config, (), read, note),
        kind,
        weights,
        read=tuple(read),
        notes=(note,) * bool(note),
    )


def _from_training_state(
    path: Path, found: EDMNetwork, architecture: str | None, given: Mapping[str, Any], weights: str | None
) -> OpenedNetwork:
    """A training state of EDM, whose averages are in the snapshot beside it."""
    beside = path.with_name(path.name.replace("training-state", "network-snapshot")).with_suffix(".pkl")
    where = (
        f"{beside.name} beside it" if beside.is_file() and beside != path else "the network-snapshot-*.pkl of its run"
    )
    if weights == AVERAGED:
        raise UserError(f"a training state holds raw weights; the averages are in {where}")
    if architecture is not None or given:
        raise UserError("the training state says itself which network it holds: leave out --arch and --arch-arg")
    return _from_edm(path, found, f"its averages, which samples are drawn from, are in {where}")


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
    path: Path,
    state: StateDict,
    architecture: str | None,
    given: dict[str, Any],
    sides: tuple[int, int] | None,
    like: OpenedNetwork | None = None,
) -> OpenedNetwork:
    file = CheckpointFile(path, state.tensors, state.beside, state.metadata, state.weights)
    words = Given(*_without_size(given, sides))
    found, reading = _read(file, architecture, words)
    preconditioning = preconditioning_from(reading.preconditioning, reading.preconditioning_arguments)
    config = NetworkConfig(
        architecture=reading.architecture,
        arguments=reading.arguments,
        preconditioning=reading.preconditioning,
        preconditioning_arguments=reading.preconditioning_arguments,
        image_shape=_image_shape(reading, words.sides),
        sigma_range=reading.sigma_range or preconditioning.sigma_range,
        training=reading.training,
    )
    tensors = state.tensors if reading.tensors is None else reading.tensors
    same = like is not None and (like.config.architecture, like.config.arguments, like.weights) == (
        config.architecture,
        config.arguments,
        state.weights,
    )
    try:
        network = (
            like.network
            if like is not None and same
            else rebuild(lambda: build_network(config), tensors, reading.architecture, CORRECT)
        )
    except NotFiniteError as error:
        if state.other is None or not are_finite(state.other):
            raise
        other = RAW if state.weights == AVERAGED else AVERAGED
        raise UserError(f"{error}; its {other} weights are finite: --weights {other}") from error
    preconditioning.check_fits(network)
    compared = state.other is not None and not like
    notes = [note_on_other(state.weights, state.tensors, state.other) if compared and state.other is not None else ""]
    notes = [note for note in (*notes, note_on_channels(config.image_shape[0])) if note]
    kind = f"{found}, a " if found not in (reading.architecture, "") else ""
    by_name = "averaged weights, by its name" if not state.weights and is_averaged_name(path.stem) else ""
    what = ", ".join(part for part in (f"{kind}state dict of {reading.architecture}", state.taken, by_name) if part)
    return OpenedNetwork(
        network,
        config,
        _origin(path, what, config, [one.said for one in words.assumed if one.said], reading.read, "; ".join(notes)),
        format=found or reading.architecture,
        weights=state.weights,
        both=state.other is not None,
        any_size=not reading.image_shape[1],
        read=reading.read,
        assumed=tuple(words.assumed),
        notes=tuple(notes),
    )


def _read(file: CheckpointFile, architecture: str | None, words: Given) -> tuple[str, Reading]:
    """The name of the format and what it makes of a file; of an architecture without one, the user says all arguments."""
    if architecture is None:
        entry = recognized(file)
    else:
        named = next((entry for entry in known_formats() if entry.name == architecture), None)
        if named is None:
            usual = architectures[architecture].preconditioning
            use = said_use(words)
            if use is None:
                words.assume(f"preconditioning {usual!r}, as usual for it")
                use = usual, {}
            return "", Reading(architecture, words.left, _shape_in(words.left), *use)
        entry = named
    return entry.name, read_as(entry, file, words)


def _without_size(
    given: dict[str, Any], sides: tuple[int, int] | None
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """The arguments given but for the images' size, and that."""
    size = given.get(IMAGE_SIZE)
    if size is not None:
        pair = [size, size] if isinstance(size, int) else size
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(s, int) and 0 < s <= LARGEST_SIDE for s in pair)
        ):
            raise UserError(
                f"{IMAGE_SIZE} is {size!r}: give one side, or [height, width], of at most {LARGEST_SIDE:,} pixels"
            )
        sides = (pair[0], pair[1])
    return {name: value for name, value in given.items() if name != IMAGE_SIZE}, sides


def _shape_in(arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    """(C, H, W) for an architecture whose shapes do not say it."""
    shape = arguments.get("image_shape")
    if not isinstance(shape, list | tuple) or len(shape) != 3 or not all(isinstance(s, int) and s > 0 for s in shape):
        raise UserError(
            "the arguments of this architecture cannot be read off its weights: give them with --arch-arg,"
            f" image_shape=[C,H,W] among them {IN_A_STUDY}"
        )
    return shape[0], shape[1], shape[2]


def _image_shape(reading: Reading, sides: tuple[int, int] | None) -> tuple[int, int, int]:
    found, multiple = reading.image_shape, reading.side_multiple
    if found[1]:
        return found
    if sides is None:
        raise UserError("its network takes images of any size: say which with --arch-arg image_size=N")
    if sides[0] % multiple or sides[1] % multiple:
        raise UserError(
            f"its network halves images until sides are {multiple} times smaller, {sides[0]}×{sides[1]} cannot be: import the"
            f" data with --size N, a multiple of {multiple}"
        )
    return found[0], *sides


def _origin(
    path: Path, what: str, config: NetworkConfig, assumed: Sequence[str], read: Sequence[str] = (), note: str = ""
) -> str:
    channels, height, width = config.image_shape
    low, high = config.sigma_range
    used = f"{config.preconditioning} preconditioning, σ {low:.3g} to {high:.3g}"
    parts = [f"{path}: {what}; {channels}×{height}×{width} images, {used}"]
    parts += [f"read: {', '.join(read)}"] * bool(read) + [f"assumed: {'; '.join(assumed)}"] * bool(assumed)
    return "; ".join([*parts, note] if note else parts) + "."
