"""State dictionaries in ``.pt``, ``.pth``, ``.bin`` and ``.safetensors`` files: which of the things inside are the weights.

People save the dictionary itself, or put it beside an optimizer and a step count under a name of their choice; data
parallelism and compilation put a prefix before every name. What was taken and what was cut off is always said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Budget
from scorescope.foundation.inert.stored_tensor import StoredTensor, refuse_unfolding, stored_tensor
from scorescope.foundation.inert.torch_archive import Archive, read_archive
from scorescope.networks.readers.weight_sets import WeightSet, WeightSets, by_order, flat_sets, weight_sets

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "unet.", "denoise_fn.", "denoiser.")
AVERAGED, RAW = "averaged", "raw"

_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class StateDict:
    """The weights of a file.

    Attributes:
        tensors: by name, without the prefixes that wrappers put before all of them.
        taken: what was chosen and cut off, as a phrase for the reader; empty if the file was just that.
        weights: which set was chosen, `AVERAGED` or `RAW`; empty if the file has one and does not say which.
        other: the file's other set, under the same names; None if there is none.
        beside: what else is in the file, by name, as records (see `restricted_unpickler`).
        metadata: of a ``.safetensors`` file.
    """

    tensors: Mapping[str, StoredTensor]
    taken: str = ""
    weights: str = ""
    other: Mapping[str, StoredTensor] | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_torch_state_dict(data: memoryview, budget: Budget, weights: str | None = None) -> StateDict:
    """The state dictionary in a file of ``torch.save``.

    Args:
        data: the whole file.
        budget: instructions that may be executed.
        weights: `AVERAGED` or `RAW`; by default averages where the file says that it has them.

    Raises:
        UserError: it is damaged, holds no weights that could be found, or not those that were asked for.
    """
    return state_dict_in(read_archive(data, None, budget), len(data), weights)


def state_dict_in(archive: Archive, size: int, weights: str | None = None) -> StateDict:
    """The state dictionary in an archive of ``torch.save`` of so many bytes, as `read_torch_state_dict` gives it."""
    sets = weight_sets(archive.value)

    def stored(found: WeightSet | None) -> WeightSet | None:
        if found is None:
            return None
        tensors = {name: stored_tensor(record, archive.storage_of) for name, record in found.tensors.items()}
        refuse_unfolding(tensors.values(), size)
        return WeightSet(tensors, found.where)

    nameless = tuple(stored_tensor(record, archive.storage_of) for record in sets.nameless)
    refuse_unfolding(nameless, size)
    return chosen(WeightSets(stored(sets.raw), stored(sets.averaged), nameless, sets.beside), weights)


def read_safetensors_state_dict(path: Path, weights: str | None = None) -> StateDict:
    """The state dictionary in a ``.safetensors`` file, as `read_torch_state_dict` gives it."""
    found = chosen(flat_sets(read_safetensors(path)), weights)
    with safe_open(path, framework="pt", device="cpu") as file:
        return replace(found, metadata=dict(file.metadata() or {}))


def chosen(sets: WeightSets, weights: str | None) -> StateDict:
    """One of the sets of weights of a file, averages by default.

    Args:
        sets: of `StoredTensor`.
        weights: `AVERAGED` or `RAW`; None for averages where there are any.

    Raises:
        UserError: the file does not have what was asked for.
    """
    raw = None if sets.raw is None else without_prefixes(sets.raw.tensors, sets.raw.where)
    averaged = None if sets.averaged is None else without_prefixes(sets.averaged.tensors, sets.averaged.where)
    if weights not in (None, AVERAGED, RAW):
        raise UserError(f"weights are {AVERAGED} or {RAW}, found {weights!r}")
    if averaged is None and sets.nameless and weights != RAW:
        averaged = _named_by_order(sets.nameless, raw)
    elif averaged is None and sets.nameless:
        averaged = StateDict({})  # they are there, and need no names to be left alone
    wanted, other = (raw, averaged) if weights == RAW else (averaged, raw)
    if weights is not None and (wanted is None or other is None):
        only = "without saying whether they are averages" if averaged is None else "averages"
        raise UserError(f"it holds one set of weights, {only}: leave out --weights {weights}")
    taken = wanted or other
    if taken is None:
        raise UserError(
            "its averages have no names, and there are no other weights beside them to name them by: use a checkpoint"
            " that has both"
        )
    both = wanted is not None and other is not None
    kind = AVERAGED if taken is averaged else RAW if both else ""
    notes = [part for part in (f"{kind} weights" if kind else "", taken.taken) if part]
    compared = other.tensors if both and other is not None and other.tensors else None
    return StateDict(taken.tensors, ", ".join(notes), kind, compared, sets.beside)


def _named_by_order(nameless: Sequence[StoredTensor], raw: StateDict | None) -> StateDict | None:
    """The averages under the names of the weights beside them; what is not averaged stays as it is there."""
    if raw is None:
        return None
    names = by_order(
        {name: tensor.shape for name, tensor in raw.tensors.items()}, [tensor.shape for tensor in nameless]
    )
    if names is None:
        raise UserError(
            f"its {len(nameless)} averages have no names, and the order of its {len(raw.tensors)} other weights does not say"
            " which belongs to which: use --weights raw"
        )
    averages = dict(zip(names, nameless, strict=True))
    tensors = {name: averages.get(name, tensor) for name, tensor in raw.tensors.items()}
    return StateDict(tensors, "averages without names, named by their order")


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a ``.safetensors`` file by name. Raises UserError if it is damaged or of an unknown type."""

    def reader(name: str) -> Callable[[], Tensor]:
        def read() -> Tensor:
            tensor: Tensor = file.get_tensor(name)
            return tensor

        return read

    try:
        file: Any = safe_open(path, framework="pt", device="cpu")
        tensors = {}
        for name in file.keys():  # noqa: SIM118 - the file is no dictionary
            part = file.get_slice(name)
            if part.get_dtype() not in _SAFETENSORS_TYPES:
                raise UserError(f"{name} is of type {part.get_dtype()}: save it as float32, float16 or bfloat16")
            shape, dtype = tuple(part.get_shape()), _SAFETENSORS_TYPES[part.get_dtype()]
            tensors[name] = StoredTensor(shape, dtype, reader(name))
    except SafetensorError as error:
        raise UserError(f"it is damaged or cut short ({error}): copy or download it again") from error
    except OSError as error:
        raise UserError(f"it cannot be read ({error}): check its permissions") from error
    return tensors


def without_prefixes(tensors: Mapping[str, StoredTensor], notes: Sequence[str] = ()) -> StateDict:
    """The same tensors without what wrappers put before all names, and a note of it after the `notes` that there are."""
    said = list(notes)
    while prefix := next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        said.append(f"its names without {prefix!r}")
    return StateDict(tensors, ", ".join(said))
