"""The posterior over masks of training images on a device: any parts of an image, all of them in one matrix product.

Squared differences of all pixels times the matrix of masks are the distances in every mask at once; weights times the same
matrix go back to the pixels. Both products are float32, in full or in TF32 as `torch.backends` has it: at low noise TF32
rounds differences of distances away. Where the device has matrix units and Triton, masks of 0 and 1 go there instead: places
are gathered (`attention`), or blocks of masks multiplied with bytes (`dense`), whichever is less work.

- *composite* (Niedoba et al. 2025, PSPC-Flex): a pixel is the average of the posterior means of all masks over it;
- *own entry* (Lukoianov et al. 2025): every pixel-channel comes from a mask of its own, over pixel-channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.posterior.device import attention, dense
from scorescope.posterior.device.centred import centre_means
from scorescope.posterior.device.local import LocalPasses
from scorescope.posterior.device.parts import Parts, is_binary
from scorescope.posterior.device.reductions import merge_sums
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.device.store import DeviceStore
from scorescope.posterior.device.units import from_levels

MOST_ROWS = 32


class DeviceCompositePosterior:
    """Posterior means of masks over whole pixels, averaged where masks overlap, on a device.

    Args:
        store: the training set there.
        kept_bytes: what logits kept between the two passes may take; a share of the free memory by default.
    """

    def __init__(self, store: DeviceStore, *, kept_bytes: int | None = None) -> None:
        self.store = store
        self._kept_bytes = kept_bytes

    def mean(self, noisy: Tensor, sigma: Tensor, masks: Sequence[MaskMatrix]) -> Tensor:
        """Average the masks' posterior means into images.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
            sigma: noise levels in grey levels, float64 (B,), on the device.
            masks: B sets of masks of 0 and 1 over whole pixels; every pixel is in at least one mask of each. Images with the
                same object share a pass.

        Returns:
            Images in [-1, 1], float64 (B, d).

        Raises:
            UserError: a pixel that is in no mask.
        """
        different = list(dict.fromkeys(masks))
        for each in different:
            _check_cover(each)
        if attention.runs_on(noisy.device):
            channels = self.store.images.image_shape[0]
            parts = {each: Parts.of_masks(each, channels) for each in different}
            if all(attention.fits(each) for each in parts.values()):
                return from_levels(
                    _alike_together(
                        noisy,
                        sigma,
                        masks,
                        lambda each, some, levels: attention.composite(self.store, some, levels, parts[each]),
                    )
                )
        pieces = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            passes = LocalPasses(self.store, noisy[rows], sigma[rows], list(masks[rows]), kept_bytes=self._kept_bytes)
            total = merge_sums(passes.mean())
            for group in passes.groups:
                total[group.rows] /= group.regions.coverage(total.device)
            pieces.append(from_levels(total).flatten(1))
        return torch.cat(pieces)


class DeviceEntryPosterior:
    """Posterior means of pixel-channels, each from its own mask over the pixel-channels, on a device.

    Args:
        store: the training set there.
    """

    def __init__(self, store: DeviceStore) -> None:
        self.store = store

    def mean(self, noisy: Tensor, sigma: Tensor, masks: Sequence[MaskMatrix]) -> Tensor:
        """Posterior means from masks or weights.

        Args:
            noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
            sigma: noise levels in grey levels, float64 (B,), on the device.
            masks: B sets of d masks over pixel-channels, mask m being that of pixel-channel m, or weights, also negative
                ones. An empty mask makes all training images equally likely. Images with the same object go together.

        Returns:
            Images in [-1, 1], float64 (B, d).
        """
        if attention.runs_on(noisy.device):
            batch = len(noisy) // len(set(masks))
            ways = {each: self._on_matrix_units(each, batch) for each in dict.fromkeys(masks)}
            if all(ways.values()):
                return from_levels(
                    _alike_together(
                        noisy, sigma, masks, lambda each, some, levels: cast("_Way", ways[each])(some, levels)
                    )
                )
        flat = noisy[:, None, None]  # one channel and one row: every pixel-channel is a place of its own
        pieces = []
        for first in range(0, len(noisy), MOST_ROWS):
            rows = slice(first, first + MOST_ROWS)
            pieces.append(from_levels(centre_means(self.store, flat[rows], sigma[rows], list(masks[rows])))[:, 0, 0])
        return torch.cat(pieces)

    def _on_matrix_units(self, masks: MaskMatrix, batch: int) -> _Way | None:
        """How means are found there for about so many noisy images; None where masks are weights, or sums less work."""
        if not is_binary(masks):
            return None
        if dense.worth_it(masks, batch):
            return lambda noisy, sigma: dense.entries(self.store, noisy, sigma, masks)
        parts, dimension = Parts.of_entries(masks), masks.members.shape[1]
        if attention.fits(parts) and (dimension <= dense.MOST_VALUES or attention.worth_it(parts, batch, dimension)):
            return lambda noisy, sigma: attention.entries(self.store, noisy, sigma, parts)
        return None


# Noisy images (B, d) and noise levels (B,), in grey levels, to posterior means.
_Way = Callable[[Tensor, Tensor], Tensor]


def _alike_together(
    noisy: Tensor, sigma: Tensor, masks: Sequence[MaskMatrix], mean: Callable[[MaskMatrix, Tensor, Tensor], Tensor]
) -> Tensor:
    """Posterior means in grey levels (B, d), noisy images with the same masks together, in an order that all processes have."""
    means = torch.empty_like(noisy)
    for each in dict.fromkeys(masks):
        rows = [row for row, own in enumerate(masks) if own is each]
        means[rows] = mean(each, noisy[rows], sigma[rows])
    return means


def _check_cover(masks: MaskMatrix) -> None:
    bare = int((masks.coverage(masks.members.device) == 0).sum())
    if bare:
        raise UserError(f"{bare} pixels are in none of the masks: every pixel must be in at least one")
