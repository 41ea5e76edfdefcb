"""Copies by the ratio of two distances: a sample that lies three times nearer to one training image than to any other.

``‖x − a‖ < ⅓ ‖x − b‖``, a and b the nearest and the second nearest training image (Yoon et al., ICML workshop 2023; Gu et al.,
arXiv 2310.02664). It needs no unseen images and no level of its own, and papers on the course of training count by it (Bonnaire
et al., arXiv 2505.17638). It does not see copies of an image that is twice in the training set, and it has no error rate:
the audit has one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet, to_float
from scorescope.foundation import UserError

THIRD = 1 / 3
_CHUNK = 4096


def nearest_ratio(samples: Tensor, images: ImageSet) -> npt.NDArray[np.float64]:
    """Distance to the nearest training image over that to the second nearest, of each sample.

    Args:
        samples: (B, C, H, W) in [-1, 1].
        images: the training set; memory does not grow with it.

    Returns:
        float64 (B,) in [0, 1]; 1 where both are at distance 0.

    Raises:
        UserError: fewer than two training images.
    """
    if len(images) < 2:
        raise UserError(f"{images.name} has one image: a nearest and a second nearest take two")
    mine = samples.detach().to("cpu", torch.float64).flatten(1)
    nearest = torch.empty(len(mine), 0, dtype=torch.float64)
    for _, block in images.chunks(_CHUNK):
        # Differences, not products: a copy's distance is a small difference of large numbers.
        found = torch.cdist(mine, to_float(block).double().flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = torch.cat([nearest, found], 1)
        nearest = nearest.topk(min(2, nearest.shape[1]), dim=1, largest=False).values
    first, second = nearest.numpy().T
    return np.asarray(np.where(second > 0, first / np.where(second > 0, second, 1), 1.0))


def copied_share(samples: Tensor, images: ImageSet) -> float:
    """Share of the samples that are copies by the ratio. Arguments and errors as `nearest_ratio`."""
    return float((nearest_ratio(samples, images) < THIRD).mean())
