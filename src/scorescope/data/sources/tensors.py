"""A file of ``torch.save`` that holds images: one tensor, images and labels, or a dictionary of both. Nothing in it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorescope.data.sources.arrays import IMAGE_KEYS, LABEL_KEYS, ArraySource, class_numbers
from scorescope.foundation import UserError


def open_tensor(path: Path, white: float | None = None) -> ArraySource:
    """The images of a ``.pt`` file, and their labels if it has any.

    Raises UserError if it is damaged, asks for anything but tensors, or holds something else, such as a network.
    """
    from scorescope.foundation.inert.file_view import viewed
    from scorescope.foundation.inert.restricted_unpickler import Budget, entries_of
    from scorescope.foundation.inert.stored_tensor import TENSOR_NAMES, is_tensor, refuse_unfolding, stored_tensor
    from scorescope.foundation.inert.torch_archive import read_archive

    try:
        data = viewed(path)
        archive = read_archive(data, TENSOR_NAMES | {"collections.OrderedDict"}, Budget())
        images, labels = _pair(archive.value, entries_of(archive.value))
        if not is_tensor(images):
            raise UserError("it holds no tensor of images; a checkpoint is given as --model, other data as .npy")
        stored = [stored_tensor(record, archive.storage_of) for record in (images, labels) if is_tensor(record)]
        refuse_unfolding(stored, len(data))
        arrays = [_numbers(tensor.read()) for tensor in stored]
    except UserError as error:
        raise UserError(f"{path} was not read as images: {error}") from error
    classes = class_numbers(f"{path}, its labels", arrays[1]) if len(arrays) > 1 else None
    return ArraySource(str(path), arrays[0], classes, white=white)


def _pair(value: Any, entries: dict[Any, Any] | None) -> tuple[Any, Any]:
    """The records of images and of labels, where they are."""
    if entries is not None:
        for image_key, label_key in zip(IMAGE_KEYS, LABEL_KEYS, strict=True):
            if image_key in entries:
                return entries[image_key], entries.get(label_key)
        only = list(entries.values())
        return (only[0], None) if len(only) == 1 else (None, None)
    if isinstance(value, tuple | list):
        return (value[0], value[1] if len(value) > 1 else None) if 1 <= len(value) <= 2 else (None, None)
    return value, None


def _numbers(tensor: Any) -> npt.NDArray[Any]:
    import torch

    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
