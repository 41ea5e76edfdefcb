"""A device that no machine lacks: tensors that say they are elsewhere, keep to themselves, and compute on the processor.

As on a real device, tensors there do not mix with tensors in memory, cannot be NumPy arrays, and what is made for the device
is there. Its type, MAIA, is one that PyTorch knows and that has no code in this build: what slips through ends in an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("maia", 0)
_BETWEEN_DEVICES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class TensorElsewhere(torch.Tensor):
    """A tensor on the device."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> TensorElsewhere:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=ELSEWHERE
        )
        made.values = values
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Python(TorchFunctionMode):
    """What PyTorch does before it asks anybody: copies of Python's numbers, and choosing the device to index on."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": None}).to(ELSEWHERE)
        if func is torch.Tensor.tolist and isinstance(args[0], TensorElsewhere):
            return args[0].cpu().tolist()
        if func is torch.Tensor.__getitem__ and isinstance(args[0], TensorElsewhere):
            return TensorElsewhere(args[0].values[tree_map(_values, args[1])])
        return func(*args, **kwargs)


@contextlib.contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device exists while the block runs."""
    with _Python(), _Operations():
        yield ELSEWHERE


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == ELSEWHERE.type


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    there = [each for each in tensors if isinstance(each, TensorElsewhere)]
    strangers = [each for each in tensors if not isinstance(each, TensorElsewhere) and each.ndim]
    if there and strangers and func not in _BETWEEN_DEVICES:
        raise RuntimeError(f"{func}: all tensors must be on one device, found {ELSEWHERE} and {strangers[0].device}")
    device = kwargs.get("device")
    stays = bool(there) if device is None else _is_there(device)
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    if not stays:
        return result
    return tree_map(lambda each: TensorElsewhere(each) if isinstance(each, torch.Tensor) else each, result)


def _values(each: Any) -> Any:
    return each.values if isinstance(each, TensorElsewhere) else each
