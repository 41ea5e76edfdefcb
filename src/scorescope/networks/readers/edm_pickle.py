"""Networks in EDM's persistence format: its snapshots and training states, and EDM2's snapshots.

Karras et al. 2022, arXiv 2206.00364, and Karras et al. 2024, arXiv 2312.02696. ``network-snapshot-*.pkl`` is a dictionary whose
key ``ema`` holds an average of the network; ``training-state-*.pt``, an archive of ``torch.save``, has the network itself
under ``net``. Both are in their persistence format: a call of a reconstruct function with one
dictionary, which records the source code of the network's module, its class, its constructor's arguments and its
attributes, and so on for every submodule. The source code is there to be executed on loading. It is skipped here: the
class's name chooses one of *our* classes, the recorded arguments build it, and the parameters and buffers, collected
from the nested records under the names that ``state_dict`` would give them, fill it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import (
    DICTIONARIES,
    Budget,
    Call,
    entries_of,
    read_pickle,
    refused_name,
)
from scorescope.foundation.inert.stored_tensor import (
    TENSOR_NAMES,
    Storage,
    StoredTensor,
    refuse_unfolding,
    stored_tensor,
)
from scorescope.foundation.inert.torch_archive import Archive, read_archive

RECONSTRUCT = "torch_utils.persistence._reconstruct_persistent_obj"
STORAGE_BYTES = "torch.storage._load_from_bytes"
CONTAINERS = frozenset(f"torch.nn.modules.container.{name}" for name in ("ModuleDict", "ModuleList", "Sequential"))
_NUMPY = frozenset(
    f"numpy{core}.{name}"
    for core in ("", ".core.multiarray", "._core.multiarray")
    for name in ("dtype", "scalar", "ndarray", "_reconstruct")
)
KNOWN_IN_PICKLES = (
    TENSOR_NAMES | DICTIONARIES | CONTAINERS | _NUMPY | {RECONSTRUCT, STORAGE_BYTES, "_codecs.encode", "builtins.set"}
)

DEEPEST_NESTING = 32
MOST_PARTS = 20_000
LONGEST_WORD, LONGEST_PATH = 64, 200

# Their positional arguments in order, for files whose constructors were not called by keyword.
_SIGNATURES = {
    "SongUNet": ("img_resolution", "in_channels", "out_channels", "label_dim", "augment_dim"),
    "DhariwalUNet": ("img_resolution", "in_channels", "out_channels", "label_dim", "augment_dim"),
    "UNet": ("img_resolution", "img_channels", "label_dim"),
}
_INSIDE = ("model", "unet")


@dataclass(frozen=True)
class EDMNetwork:
    """A network as an EDM pickle describes it.

    Attributes:
        preconditioning: class name of the preconditioning ("EDMPrecond").
        settings: its numbers by attribute name ("sigma_data", "beta_d").
        model: class name of the network inside ("SongUNet").
        arguments: constructor arguments of that network.
        tensors: its parameters and buffers by name.
        averaged: whether they are an average of the weights.
        training: what the file says of the data that it was trained on: ``flips``, whether mirrored images were among it,
            and ``data``, where it was.
    """

    preconditioning: str
    settings: dict[str, float]
    model: str
    arguments: dict[str, Any]
    tensors: dict[str, StoredTensor]
    averaged: bool = True
    training: dict[str, Any] = field(default_factory=dict)


def read_edm_pickle(data: memoryview, budget: Budget) -> EDMNetwork:
    """Read the network under ``ema``.

    Args:
        data: the whole file.
        budget: instructions that may be executed.

    Raises:
        UserError: the pickle is damaged, asks for anything but tensors and EDM's networks, or holds another kind of object.
    """
    root = entries_of(read_pickle(data, 0, KNOWN_IN_PICKLES, budget).value)
    if root is None or "ema" not in root:
        held = ", ".join(str(key)[:20] for key in list(root)[:5]) if root else "no dictionary"
        raise UserError(
            f"it is a pickle, but not one of EDM's networks: those have the key 'ema', this holds {held}; give a"
            " network-snapshot-*.pkl, or save the network's state dict with torch.save"
        )
    found = _network(root["ema"], _Storages(budget).of, len(data))
    return replace(found, training=_training(entries_of(root.get("dataset_kwargs")) or {}))


def _training(dataset: dict[Any, Any]) -> dict[str, Any]:
    flips, path = dataset.get("xflip"), dataset.get("path")
    found: dict[str, Any] = {"flips": flips} if isinstance(flips, bool) else {}
    if isinstance(path, str) and path.isprintable() and 0 < len(path) <= LONGEST_PATH:
        found["data"] = path
    return found


def is_training_state(value: Any) -> bool:
    """Whether what an archive of ``torch.save`` holds is a training state of EDM: a whole network under ``net``."""
    net = (entries_of(value) or {}).get("net")
    return isinstance(net, Call) and str(net.function) == RECONSTRUCT


def read_training_state(archive: Archive, size: int) -> EDMNetwork:
    """The network of an EDM training state, which is not averaged.

    Args:
        archive: for which `is_training_state`.
        size: of the file, in bytes.

    Raises:
        UserError: its record is damaged, or of another kind of object.
    """
    entries = entries_of(archive.value) or {}
    return replace(_network(entries.get("net"), archive.storage_of, size), averaged=False)


def _network(record: Any, storage_of: Callable[[Any], Storage], size: int) -> EDMNetwork:
    outer = _Module.of(record)
    children = outer.children()
    inner = _Module.of(next((children[name] for name in _INSIDE if name in children), None))
    tensors: dict[str, StoredTensor] = {}
    for prefix, module in _walk(inner):
        for name, tensor in module.tensors():
            tensors[prefix + name] = stored_tensor(tensor, storage_of)
        if len(tensors) > MOST_PARTS:
            raise _too_many("tensors")
    refuse_unfolding(tensors.values(), size)
    settings = {
        name: float(value)
        for name, value in outer.state.items()
        if isinstance(name, str) and isinstance(value, int | float) and not isinstance(value, bool)
    }
    return EDMNetwork(outer.kind, settings, inner.kind, inner.arguments(), tensors)


@dataclass(frozen=True)
class _Module:
    """The record of one module: the name of its class, and its attributes."""

    kind: str
    state: dict[Any, Any]

    @classmethod
    def of(cls, record: Any) -> _Module:
        if isinstance(record, Call) and str(record.function) in CONTAINERS:
            state = entries_of(record.state)
            return cls(record.function.name, _required(state, "the attributes of a container"))
        if not isinstance(record, Call) or str(record.function) != RECONSTRUCT or len(record.arguments) != 1:
            raise UserError("there is no network under its key 'ema': give a network-snapshot-*.pkl of EDM")
        meta = _required(entries_of(record.arguments[0]), "the description of a module")
        kind = meta.get("class_name")
        if meta.get("type") != "class" or not isinstance(kind, str):
            raise UserError(refused_name("an object that is not of a class"))
        return cls(kind, _required(entries_of(meta.get("state")), "the attributes of a module"))

    def children(self) -> dict[str, Any]:
        return _required(entries_of(self.state.get("_modules")), "the list of submodules")

    def tensors(self) -> Iterator[tuple[str, Any]]:
        """Names and records of what ``state_dict`` would hold of this module alone."""
        temporary = self.state.get("_non_persistent_buffers_set")
        left_out = temporary if isinstance(temporary, set) else set()
        for kind in ("_parameters", "_buffers"):
            for name, record in _required(entries_of(self.state.get(kind)), "the list of parameters").items():
                if record is not None and not (kind == "_buffers" and name in left_out):
                    yield str(name), record

    def arguments(self) -> dict[str, Any]:
        """Constructor arguments by name."""
        positional = self.state.get("_init_args", ())
        named = _required(entries_of(self.state.get("_init_kwargs")), "the constructor's arguments")
        names = _SIGNATURES.get(self.kind, ())
        if not isinstance(positional, tuple) or len(positional) > len(names):
            raise UserError(f"the constructor's arguments of {self.kind} are not recorded as EDM's code records them")
        return {key: _plain(value, str(key)) for key, value in [*zip(names, positional, strict=False), *named.items()]}


class _Storages:
    """Storages that are recorded as the bytes of an archive of their own; each is opened once."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.opened: dict[int, tuple[Call, Storage]] = {}

    def of(self, record: Any) -> Storage:
        if id(record) not in self.opened:
            if not isinstance(record, Call) or str(record.function) != STORAGE_BYTES or len(record.arguments) != 1:
                raise UserError("a tensor has no bytes: copy or download the file again")
            content = record.arguments[0]
            if not isinstance(content, memoryview):
                raise UserError("a tensor has no bytes: copy or download the file again")
            archive = read_archive(content, TENSOR_NAMES, self.budget)
            # The record is kept with the storage: its address must not be given to another one.
            self.opened[id(record)] = record, archive.storage_of(archive.value)
        return self.opened[id(record)][1]


def _walk(module: _Module, prefix: str = "") -> Iterator[tuple[str, _Module]]:
    """Every module with the prefix of its parameters; records that share or contain themselves are refused by number."""
    waiting, met = [(prefix, module)], 1
    while waiting:
        prefix, module = waiting.pop()
        yield prefix, module
        met += len(children := module.children())
        if met > MOST_PARTS:
            raise _too_many("modules")
        if prefix.count(".") > DEEPEST_NESTING:
            raise UserError(f"its modules are nested more than {DEEPEST_NESTING} deep: this is no network of EDM's")
        waiting += [
            (f"{prefix}{str(name)[:80]}.", _Module.of(child)) for name, child in children.items() if child is not None
        ]


def _too_many(what: str) -> UserError:
    return UserError(f"it has more than {MOST_PARTS:,} {what}: this is no network of EDM's")


def _required(entries: dict[Any, Any] | None, what: str) -> dict[Any, Any]:
    if entries is None:
        raise UserError(f"{what} is missing in its record: copy or download the file again")
    return entries


def _plain(value: Any, name: str) -> Any:
    """A constructor argument as JSON would hold it."""
    if isinstance(value, list | tuple) and len(value) <= 16 and not any(isinstance(v, list | tuple) for v in value):
        return [_plain(part, name) for part in value]
    if isinstance(value, str) and len(value) > LONGEST_WORD:
        raise UserError(f"the constructor's argument {name[:40]} is longer than any word that it could be")
    if value is None or isinstance(value, bool | str) or (isinstance(value, int) and abs(value) < 1 << 31):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise UserError(f"the constructor's argument {name[:40]} is not a number, a word or a short list of them")
