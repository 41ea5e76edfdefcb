"""State dictionaries in ``.pt``, ``.pth``, ``.bin`` and ``.safetensors`` files: which of the things inside are the weights.

People save the dictionary itself, or put it beside an optimizer and a step count under a name of their choice; data
parallelism and compilation put a prefix before every name. What was taken and what was cut off is always said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.networks.readers.restricted_unpickler import Budget, entries_of
from scorescope.networks.readers.stored_tensor import StoredTensor, is_tensor, refuse_unfolding, stored_tensor
from scorescope.networks.readers.torch_archive import KNOWN_IN_ARCHIVES, read_archive

# An average of the weights denoises better than the last weights: it is preferred where both are there.
WRAPPERS = ("ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model", "network", "net", "params")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")

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
    """

    tensors: Mapping[str, StoredTensor]
    taken: str = ""


def read_torch_state_dict(data: memoryview, budget: Budget) -> StateDict:
    """The state dictionary in a file of ``torch.save``.

    Args:
        data: the whole file.
        budget: instructions that may be executed.

    Raises:
        UserError: it is damaged, holds something else than tensors and plain values, or no state dictionary.
    """
    archive = read_archive(data, KNOWN_IN_ARCHIVES, budget)
    chosen, notes = _unwrapped(archive.value)
    tensors = {name: stored_tensor(record, archive.storage_of) for name, record in chosen.items()}
    refuse_unfolding(tensors.values(), len(data))
    return without_prefixes(tensors, notes)


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


def _unwrapped(value: Any) -> tuple[dict[str, Any], list[str]]:
    """The dictionary of tensor records inside `value`, and what was done to find it."""
    entries = entries_of(value)
    notes: list[str] = []
    for _ in range(3):
        if entries is None:
            break
        if entries and all(map(is_tensor, entries.values())):
            return {str(name): record for name, record in entries.items()}, notes
        inner = next((name for name in WRAPPERS if _holds_tensors(entries.get(name))), None)
        if inner is None:
            break
        others = [str(name)[:30] for name in entries if name != inner]
        notes.append(f"its entry {inner!r}" + (f" (not {', '.join(others[:4])})" if others else ""))
        entries = entries_of(entries[inner])
    raise UserError(_no_state_dict(entries))


def _holds_tensors(value: Any) -> bool:
    entries = entries_of(value)
    return bool(entries) and any(is_tensor(part) or entries_of(part) for part in (entries or {}).values())


def _no_state_dict(entries: dict[Any, Any] | None) -> str:
    if not entries:
        return "it holds no state dictionary: save one with torch.save(network.state_dict(), PATH)"
    odd = [str(name)[:30] for name, record in entries.items() if not is_tensor(record)]
    if len(odd) < len(entries):
        return (
            f"beside tensors it holds {', '.join(odd[:3])}, which are none: save torch.save(network.state_dict(), PATH)"
        )
    return (
        f"it holds {', '.join(odd[:5])}, and no state dictionary under {', '.join(WRAPPERS)}: save one with"
        " torch.save(network.state_dict(), PATH)"
    )


def without_prefixes(tensors: dict[str, StoredTensor], notes: Sequence[str] = ()) -> StateDict:
    """The same tensors without what wrappers put before all names, and a note of it after the `notes` that there are."""
    said = list(notes)
    while prefix := next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        said.append(f"its names without {prefix!r}")
    return StateDict(tensors, ", ".join(said))
