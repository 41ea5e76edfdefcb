"""One of several processes that share training images: ``python mask_sharing.py FOLDER RANK PROCESSES COUNT``."""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers import FlexPatchDenoiser, PcaLocalityDenoiser


def denoised(count: int) -> Tensor:
    """What denoisers with masks make of three noisy images, from `count` images."""
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (count, 2, 7, 6)).astype(np.uint8))
    sigmas = torch.tensor([0.002, 0.5, 3.0])
    noise = torch.randn(3, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    noisy = images.tensor(range(3)) + sigmas[:, None, None, None] * noise
    kinds = FlexPatchDenoiser(images, shares=0.5), PcaLocalityDenoiser(images, 0.3), PcaLocalityDenoiser(images, None)
    return torch.stack([denoiser(noisy, sigmas) for denoiser in kinds])


if __name__ == "__main__":
    folder, rank, world, count = sys.argv[1], *map(int, sys.argv[2:])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", world), rank=rank, world_size=world)
    torch.save(denoised(count), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
