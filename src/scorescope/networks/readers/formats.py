"""What a format of checkpoints is, and the table of all that are known.

A format is what one repository's training script writes: how to know it by the names in it, the arguments of its network,
how that network's output becomes a denoised image, and what of all this the file does not say. Each is one small module of
this folder with one `Format`; `FORMATS` lists them, and the first one that recognizes a file reads it.

What a file does not say is asked of `Given`: the user's word if there is one, else the format's usual value, written down as
an assumption together with what it could be instead, so that `scorescope model check` can try.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Call, attributes_of
from scorescope.foundation.inert.stored_tensor import StoredTensor
from scorescope.networks.readers.unsupported import refuse_unsupported

Shapes = Mapping[str, tuple[int, ...]]
MOST_SETTINGS = 400
IN_A_STUDY = '(in a study: --set \'arguments={"PATH": {"NAME": VALUE}}\')'


@dataclass(frozen=True)
class CheckpointFile:
    """The weights of a file, and what stands beside them.

    Attributes:
        path: where it is; its name may say what nothing in it does.
        tensors: the weights, by name.
        beside: other entries by name, as records of the restricted unpickler.
        metadata: of a ``.safetensors`` file.
        weights: ``averaged``, ``raw``, or empty if the file does not say.
    """

    path: Path
    tensors: Mapping[str, StoredTensor]
    beside: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def has(self, *names: str) -> bool:
        """Whether all these names are among those of the tensors."""
        return all(name in self.tensors for name in names)

    def settings(self, *names: str) -> dict[str, Any]:
        """Numbers and words of the first entry among `names` that is a dictionary or an object; empty if there is none.

        What in it is neither a number, a word, a truth value, None nor a list of those is left out.
        """
        for name in names:
            attributes = attributes_of(self.beside.get(name))
            if attributes is not None:
                return _plain_entries(attributes)
        return {}


@dataclass(frozen=True)
class Assumption:
    """Something that a file does not say.

    Attributes:
        said: what was taken, as a phrase; empty for what goes without saying, and is only tried.
        otherwise: arguments (as for ``--arch-arg``) that would make it something else, one dictionary an alternative.
    """

    said: str
    otherwise: tuple[Mapping[str, Any], ...] = ()


class Given:
    """What the user says of a file, and what is assumed where he says nothing.

    Args:
        arguments: of ``--arch-arg``, by name.
        sides: height and width of the images that the network will be used on, if they are known.
    """

    def __init__(self, arguments: Mapping[str, Any], sides: tuple[int, int] | None = None) -> None:
        self.left = dict(arguments)
        self.sides = sides
        self.assumed: list[Assumption] = []

    def take(self, name: str) -> Any:
        """The user's value, None if there is none; it is then no longer among those that are `left`."""
        return self.left.pop(name, None)

    def value(self, name: str, usual: Any, said: str, otherwise: Sequence[Mapping[str, Any]] = ()) -> Any:
        """The user's value, or the usual one, which is then an assumption.

        Args:
            name: of the argument.
            usual: what it is in most files.
            said: the phrase for the usual value.
            otherwise: see `Assumption`.
        """
        if name in self.left:
            return self.left.pop(name)
        self.assume(said, otherwise)
        return usual

    def assume(self, said: str, otherwise: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write down an assumption."""
        self.assumed.append(Assumption(said, tuple(otherwise)))


@dataclass(frozen=True)
class Reading:
    """What a format makes of a file.

    Attributes:
        architecture: name in `scorescope.networks.architectures`.
        arguments: of its constructor.
        image_shape: (C, H, W); H and W are 0 where the network takes any size.
        preconditioning: name in `scorescope.networks.preconditionings`.
        preconditioning_arguments: its arguments.
        tensors: the network's weights under the names of our class; None if they are the file's own.
        read: what was read off the file and is worth saying, as phrases.
        sigma_range: that the network was trained on; by default the preconditioning's.
        side_multiple: what heights and widths are multiples of, for a network that takes any such size.
        training: what the file records of its training (data set, flips), as JSON.
    """

    architecture: str
    arguments: dict[str, Any]
    image_shape: tuple[int, int, int]
    preconditioning: str
    preconditioning_arguments: dict[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, StoredTensor] | None = None
    read: tuple[str, ...] = ()
    sigma_range: tuple[float, float] | None = None
    side_multiple: int = 1
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: what ``--arch`` and messages call it.
        source: the repository or paper that writes such files.
        recognize: whether a file is of this kind, from its names, shapes and entries.
        read: what is in it; raises UserError, or KeyError, IndexError and ValueError where names and shapes do not fit.
    """

    name: str
    source: str
    recognize: Callable[[CheckpointFile], bool]
    read: Callable[[CheckpointFile, Given], Reading]


def _plain_entries(entries: Mapping[Any, Any], depth: int = 3) -> dict[str, Any]:
    found = {}
    for name, value in list(entries.items())[:MOST_SETTINGS]:
        if isinstance(name, str) and (kept := _plain(value, depth)) is not _NOTHING:
            found[name] = kept
    return found


_NOTHING = object()


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple) and depth and len(value) <= MOST_SETTINGS:
        parts = [_plain(part, depth - 1) for part in value]
        return _NOTHING if any(part is _NOTHING for part in parts) else parts
    if isinstance(value, dict | Call) and depth:
        attributes = attributes_of(value)
        return _NOTHING if attributes is None else _plain_entries(attributes, depth - 1)
    return _NOTHING


def known_formats() -> tuple[Format, ...]:
    """All formats, in the order in which they are tried. Their modules are imported when this is first asked."""
    from scorescope.networks.readers.format_table import FORMATS

    return FORMATS


def recognized(file: CheckpointFile) -> Format:
    """The first format that a file is of. Raises UserError if there is none, or it is of a kind that is not supported."""
    refuse_unsupported(file.tensors)
    found = next((entry for entry in known_formats() if entry.recognize(file)), None)
    if found is None:
        first = ", ".join(name[:50] for name in list(file.tensors)[:3]) or "nothing"
        known = ", ".join(entry.name for entry in known_formats())
        raise UserError(
            f"its names ({first}, …) are those of none of the networks known here ({known}): name the"
            " architecture with --arch; see scorescope list networks"
        )
    return found


def read_as(entry: Format, file: CheckpointFile, given: Given) -> Reading:
    """What a format makes of a file. Raises UserError if the file is not of that format."""
    try:
        return entry.read(file, given)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        what = f"it has no {error.args[0]}" if isinstance(error, KeyError) else "its shapes contradict each other"
        raise UserError(
            f"its tensors are not those of {entry.name} ({what}): name the right network with --arch"
        ) from error
