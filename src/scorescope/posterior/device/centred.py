"""One pass over the training set where a part of the image decides one pixel: the local score, PCA locality.

If of every part only the value at its own place is kept, nothing has to wait for the normalizers (`running`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorescope.posterior.device.local import R, grouped
from scorescope.posterior.device.running import RunningMeans
from scorescope.posterior.device.store import DeviceStore


def centre_means(store: DeviceStore, noisy: Tensor, sigma: Tensor, regions: list[R]) -> Tensor:
    """Posterior means of every pixel given its own part of the image.

    Args:
        store: the training set.
        noisy: B noisy images as grey levels centred at 128, float64 (B, C, H, W), on the device. Images of the store are
            reshaped to theirs: with C = 1 and colours as further rows every colour has a part of its own.
        sigma: noise levels in grey levels, float64 (B,), on the device.
        regions: the parts in which each of them is compared, one at each pixel: their grid is (H, W).

    Returns:
        Grey levels, float64 (B, C, H, W).
    """
    channels = noisy.shape[1]
    groups, count = grouped(store, noisy, sigma, regions)
    running = [RunningMeans((len(each.rows), *each.regions.grid), channels, noisy.device) for each in groups]
    for _, chunk in store.chunks(count):
        images = chunk.reshape(-1, *noisy.shape[1:])
        for group, sums in zip(groups, running, strict=True):
            logits = group.logits(images)
            sums.count_from(torch.maximum(sums.largest, logits.amax(1)))
            weights = logits.sub_(sums.largest[:, None]).exp_()
            sums.total += weights.sum(1)
            for channel in range(channels):
                sums.values[channel] += (weights * images[None, :, channel]).sum(1)
    means = torch.empty_like(noisy)
    for group, sums in zip(groups, running, strict=True):
        means[group.rows] = sums.mean().transpose(0, 1)
    return means
