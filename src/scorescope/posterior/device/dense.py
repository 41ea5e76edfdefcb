"""Posterior means of single values under dense masks, on matrix units: PCA locality of one noisy image, or a few.

`attention` gathers the places of every mask and multiplies them with sixteen noisy images at least. Where masks hold much of
the image and noisy images are few, less is done by multiplying blocks of masks with training images as they lie, leaving out
blocks in which nothing is (`dense_kernel`): masks of neighbouring places look at neighbouring places. Logits are as exact as
those of `attention`.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.foundation.devices import made_current
from scorescope.posterior.device import attention
from scorescope.posterior.device.parts import Parts, packed_indices
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.device.running import RunningMeans
from scorescope.posterior.device.store import DeviceStore

# Masks, training images and values that a program handles at a time.
_ROWS, _IMAGES, _TERMS, _WARPS = 64, 64, 64, 8
# 3 · 128² · 16384 < 2³⁰: what the kernel can tell from nothing.
MOST_VALUES = 2**14
# Products of a tile here and of one in `attention`.
_PRODUCTS_HERE, _PRODUCTS_THERE = 5, 3


@dataclass(frozen=True)
class DenseMasks:
    """Masks of 0 and 1 over pixel-channels as the kernel takes them, mask m keeping value m.

    Attributes:
        members: int8 (masks, width), both padded with zeros.
        blocks: int32 (groups, most): the blocks of values in which any mask of a group has a part, −1 behind the last.
        sizes: int32 (groups,): how many they are.
        kept: int32 (masks,): the value of each mask.
        work: values that a mask is multiplied with, on average.
    """

    members: Tensor
    blocks: Tensor
    sizes: Tensor
    kept: Tensor
    work: float

    @classmethod
    def of(cls, masks: MaskMatrix) -> DenseMasks:
        """Made once for each object."""
        if masks not in _known:
            count, places = masks.members.shape
            padded = functional.pad(masks.members, (0, -places % _TERMS, 0, -count % _ROWS)).to(torch.int8)
            tiles = padded.reshape(len(padded) // _ROWS, _ROWS, -1, _TERMS).any(3).any(1)  # (groups, blocks)
            blocks, sizes = packed_indices(tiles)
            kept = torch.arange(len(padded), dtype=torch.int32, device=padded.device).clamp_(max=count - 1)
            _known[masks] = cls(padded, blocks, sizes, kept, _TERMS * float(sizes.float().mean()))
        return _known[masks]


# As long as the masks themselves live.
_known: weakref.WeakKeyDictionary[MaskMatrix, DenseMasks] = weakref.WeakKeyDictionary()


def worth_it(masks: MaskMatrix, batch: int) -> bool:
    """Whether that is less work than gathering the places of every mask is."""
    if masks.members.shape[1] > MOST_VALUES:
        return False
    gathered = float(Parts.of_entries(masks).sizes.float().mean()) * 16 * -(-batch // 16)
    return _PRODUCTS_HERE * batch * DenseMasks.of(masks).work < _PRODUCTS_THERE * gathered


def entries(store: DeviceStore, noisy: Tensor, sigma: Tensor, masks: MaskMatrix) -> Tensor:
    """The masks' posterior means of their own value.

    Args:
        store: the training set; images of at most `MOST_VALUES` values.
        noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
        sigma: noise levels in grey levels, float64 (B,).
        masks: d of them, of 0 and 1.

    Returns:
        Grey levels, float64 (B, d), all processes' images together.
    """
    from scorescope.posterior.device.dense_kernel import attend_masks

    dense, (batch, dimension) = DenseMasks.of(masks), noisy.shape
    count, width = dense.members.shape
    asked = attention.Terms(functional.pad(noisy, (0, width - dimension)), sigma)
    running = RunningMeans((batch, count), 1, noisy.device, torch.float64)
    groups = len(dense.sizes)
    for _, chunk in store.chunks(store.chunk_images(max(1, store.work_bytes // attention.CHUNK))):
        images = chunk.reshape(len(chunk), -1).contiguous()
        splits = attention.ranges(len(images), groups * batch, _IMAGES)
        shape = (splits, count, batch)
        base = torch.empty(shape, dtype=torch.int32, device=noisy.device)
        largest, total, values = (torch.empty(shape, device=noisy.device) for _ in range(3))
        with made_current(noisy.device):
            attend_masks[groups, splits, batch](
                images,
                dense.members,
                dense.blocks,
                dense.sizes,
                dense.kept,
                asked.nearest,
                asked.high,
                asked.low,
                asked.unit,
                asked.scale,
                base,
                largest,
                total,
                values,
                len(images),
                dimension,
                width,
                dense.blocks.shape[1],
                batch,
                splits,
                ROWS=_ROWS,
                IMAGES=_IMAGES,
                TERMS=_TERMS,
                num_warps=_WARPS,
                num_stages=2,
                enable_fp_fusion=True,
            )
        attention.merge(running, attention.logits_from(largest, base, asked.scale), total, values[..., None])
    return running.mean()[0, :, :dimension]
