"""Cosine similarity of images, and the nearest images of a set.

Every image is centred by its own mean before the cosine is taken, so neither brightness nor contrast counts: a
bias-free network fixes the contrast of a sample only loosely, and on [0, 1] images an uncentred cosine is large for any
two of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet, to_float

Array = npt.NDArray[np.float32]


def directions(images: Tensor) -> Tensor:
    """Images centred by their own mean and scaled to length one, flattened: (B, C, H, W) -> (B, C·H·W).

    A constant image has no direction and becomes zero: its similarity to everything is 0.
    """
    flat = images.flatten(1).float()
    return torch.nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=1, eps=1e-6)


def cosine_similarity(first: Tensor, second: Tensor) -> Array:
    """Similarity of corresponding images, (B, C, H, W) twice -> (B,) in [-1, 1]."""
    return np.asarray((directions(first) * directions(second)).sum(1).numpy())


@dataclass(frozen=True)
class Neighbours:
    """The k most similar images of a set.

    Attributes:
        similarity: cosine, (B, k), decreasing.
        index: entries of the set, (B, k).
    """

    similarity: Array
    index: npt.NDArray[np.int64]


def nearest(
    queries: Tensor, images: ImageSet, k: int = 1, exclude_self: bool = False, chunk: int = 16384
) -> Neighbours:
    """The k images of a set most similar to each query; memory does not grow with the set.

    Args:
        queries: (B, C, H, W).
        images: where to look.
        k: how many; at most as many as there are.
        exclude_self: whether to pass over images equal to the query (similarity above 1 − 1e-6), for queries that
            are themselves in the set.
        chunk: images looked at together.
    """
    wanted = min(k + exclude_self, len(images))
    found = directions(queries).numpy()
    similarity = np.full((len(found), 0), 0, dtype=np.float32)
    index = np.full((len(found), 0), 0, dtype=np.int64)
    for start, pixels in images.chunks(chunk):
        part = directions(to_float(pixels)).numpy()
        scores, rows = faiss.knn(found, part, min(wanted, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        similarity, index = np.hstack([similarity, scores]), np.hstack([index, rows + start])
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :wanted]
        similarity, index = np.take_along_axis(similarity, best, 1), np.take_along_axis(index, best, 1)
    if exclude_self:
        order = np.argsort(similarity > 1 - 1e-6, axis=1, kind="stable")[:, : max(wanted - 1, 1)]
        similarity, index = np.take_along_axis(similarity, order, 1), np.take_along_axis(index, order, 1)
    return Neighbours(similarity, index)
