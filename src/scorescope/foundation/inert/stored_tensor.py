"""Tensors as a file describes them: a shape and strides over bytes that are there, read only when they are wanted.

A description is checked against its bytes before it is believed: a file of a kilobyte may claim a tensor of a terabyte
(by stride 0, or a size beyond the storage), and must not be able to make us reserve it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Call, Known

MOST_DIMENSIONS = 8
LARGEST_SIZE = 1 << 40
MOST_UNFOLDING = 4

# NumPy has no bfloat16, and reads a bool of any byte: both are read as integers and turned into what they are.
_READ_AS: dict[torch.dtype, str] = {
    torch.float32: "<f4",
    torch.float64: "<f8",
    torch.float16: "<f2",
    torch.bfloat16: "<i2",
    torch.int64: "<i8",
    torch.int32: "<i4",
    torch.int16: "<i2",
    torch.int8: "i1",
    torch.uint8: "u1",
    torch.bool: "u1",
}
DTYPES = {str(dtype): dtype for dtype in _READ_AS}
STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.storage.UntypedStorage": torch.uint8,
    "torch.UntypedStorage": torch.uint8,
}
REBUILDERS = frozenset(
    {
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
    }
)
TENSOR_NAMES = REBUILDERS | frozenset(STORAGES) | frozenset(DTYPES) | {"torch.Size", "torch.device"}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that has not been read yet.

    Attributes:
        shape: its sizes.
        dtype: its type.
        read: makes it, as a new contiguous tensor on the CPU; raises UserError if its bytes are damaged.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes that tensors are views of.

    Attributes:
        dtype: what the storage says of itself.
        size: in bytes.
        content: gives the bytes, checked; raises UserError if they are damaged.
    """

    dtype: torch.dtype
    size: int
    content: Callable[[], memoryview]


def is_tensor(record: Any) -> bool:
    """Whether a record is what PyTorch writes for a tensor or a parameter."""
    return isinstance(record, Call) and str(record.function) in REBUILDERS


def stored_tensor(record: Any, storage_of: Callable[[Any], Storage]) -> StoredTensor:
    """The tensor that a record describes.

    Args:
        record: a `Call` of one of `REBUILDERS`.
        storage_of: finds the storage that the record refers to.

    Raises:
        UserError: it is no tensor, of a type that weights do not have, or its description goes beyond its bytes.
    """
    # A parameter is a call around a tensor, whose first argument is the storage; each layer is one step of this loop.
    while is_tensor(record) and "parameter" in record.function.name and record.arguments:
        record = record.arguments[0]
    if not is_tensor(record) or "parameter" in record.function.name:
        raise UserError("a weight is not a tensor: save the network's state dict alone")
    arguments = record.arguments
    if len(arguments) < 4:
        raise _contradiction("arguments are missing")
    storage, offset = storage_of(arguments[0]), arguments[1]
    shape, strides = _sizes(arguments[2]), _sizes(arguments[3])
    dtype = storage.dtype
    if record.function.name == "_rebuild_tensor_v3":
        dtype = _dtype(arguments[6] if len(arguments) > 6 else None)
    width = dtype.itemsize
    if len(shape) != len(strides) or not _is_size(offset):
        raise _contradiction("its sizes, strides and offset do not belong together")
    count = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if count and (last >= storage.size // width or count > storage.size // width):
        raise _contradiction(f"shape {shape} needs more than the {storage.size:,} bytes that are there")
    return StoredTensor(shape, dtype, lambda: _read(storage.content(), dtype, shape, strides, offset))


def refuse_unfolding(tensors: Collection[StoredTensor], file_size: int) -> None:
    """Refuse tensors that share their bytes so often that they would take many times the file's size.

    Tied weights share bytes too, but a handful of times at most. Raises UserError beyond `MOST_UNFOLDING`.
    """
    unfolded = sum(math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors)
    if unfolded > MOST_UNFOLDING * file_size:
        raise UserError(
            f"its tensors share their bytes and would unfold to {unfolded:,} bytes from {file_size:,}: refused; save a"
            " state dict whose tensors own their bytes"
        )


def _read(
    content: memoryview, dtype: torch.dtype, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Tensor:
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    steps = tuple(stride * dtype.itemsize for stride in strides)
    view: Any = np.ndarray(shape, _READ_AS[dtype], content, offset * dtype.itemsize, steps)
    tensor = torch.from_numpy(np.array(view, order="C"))
    if dtype == torch.bool:
        return tensor != 0
    return tensor.view(dtype)


def _dtype(record: Any) -> torch.dtype:
    name = str(record) if isinstance(record, Known) else "of an unnamed type"
    if name not in DTYPES:
        raise UserError(f"a weight is {name}; weights may be {', '.join(DTYPES)}: save it as one of those")
    return DTYPES[name]


def _sizes(record: Any) -> tuple[int, ...]:
    if isinstance(record, Call) and str(record.function) == "torch.Size" and len(record.arguments) == 1:
        record = record.arguments[0]
    if not isinstance(record, tuple) or len(record) > MOST_DIMENSIONS or not all(map(_is_size, record)):
        raise _contradiction(f"sizes must be at most {MOST_DIMENSIONS} non-negative integers")
    return record


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_SIZE


def _contradiction(what: str) -> UserError:
    return UserError(f"the description of a tensor contradicts the file ({what}): copy or download it again")
