"""Whose weights an estimate is made of: every training image's share of it, of each of its pixels, and the estimate without it.

A posterior mean is a sum over training images, so the question has an exact answer. With m_i(p) the weight of image i at
pixel p of the estimate (``Σ_i m_i(p) = 1``):

- *whole images*: ``m_i(p) = w_i``, the posterior weight, at every pixel;
- *windows* (Niedoba et al. 2025): the mean of the image's weights in all windows over p, always at the same place;
- *places anywhere* (Kamb & Ganguli 2024): the sum of the weights of all its windows, whatever their place. Its mean over
  pixels is the attribution of Zhao et al., arXiv 2510.14269 (NDA).

The mean of m_i over pixels is the image's *share*; ``exp(−Σ m log m)`` at a pixel the effective number of images behind it.

Leaving image i out has a closed form wherever its weight is not all there is: ``D₋ᵢ = (D − w_i x_i)/(1 − w_i)``, per image
or per window. Where ``1 − w_i`` is small that form only says how well D is known, and the image is really left out. It leaves
together with its mirror image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet
from scorescope.posterior.equivariant import EquivariantPosterior
from scorescope.posterior.gathered import Contributions
from scorescope.posterior.patch_means import patch_means
from scorescope.posterior.units import centred, from_levels
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window, WindowPass, WindowPosterior

Floats = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]

# Above this weight of one image the closed form of leaving it out multiplies what float32 sums do not know by a hundred.
SUREST = 0.99


def whole_contributions(images: ImageSet, noisy: Floats, sigma: Floats, top: int) -> list[Contributions]:
    """Of the optimal denoiser's estimates.

    Args:
        images: the training set.
        noisy: B noisy images as centred grey levels, float64 (B, d).
        sigma: noise levels in grey levels, float64 (B,).
        top: k, how many images are named at a pixel.

    Returns:
        For each noisy image its contributions, the same at every pixel.
    """
    posterior = WholeImagePosterior(images)
    means = posterior.mean(noisy, sigma)
    _, height, width = images.image_shape
    found = []
    for weights, mean in zip(posterior.weights(noisy, sigma), means, strict=True):
        best = np.argsort(-weights, kind="stable")[:top]
        best = best[weights[best] > 0]
        entries, tops = np.full(top, -1, dtype=np.int64), np.zeros(top)
        entries[: len(best)], tops[: len(best)] = best, weights[best]
        some = weights[weights > 0]
        number = float(np.exp(-(some * np.log(some)).sum()))
        found.append(
            Contributions(
                weights,
                np.broadcast_to(entries, (height, width, top)),
                np.broadcast_to(tops, (height, width, top)),
                np.full((height, width), number),
                mean.reshape(images.image_shape),
            )
        )
    return found


def window_contributions(
    images: ImageSet, noisy: Floats, sigma: Floats, windows: list[Window], top: int
) -> list[Contributions]:
    """Of composites of windows, or of the pixels at their centres; arguments as `whole_contributions`, B windows besides."""
    found: list[Contributions] = []
    for row, window in enumerate(windows):
        one = slice(row, row + 1)
        walk = WindowPass(images, noisy[one], sigma[one], [window])
        mean, (share, entropy, tops, who) = walk.attribute(top)
        _, height, width = images.image_shape
        found.append(
            Contributions(
                share,
                who.reshape(height, width, top),
                tops.reshape(height, width, top),
                np.exp(entropy).reshape(height, width),
                mean.reshape(images.image_shape),
            )
        )
    return found


def anywhere_contributions(
    images: ImageSet, noisy: Floats, sigma: Floats, sides: list[int], top: int
) -> list[Contributions]:
    """Of windows at all places of the training images; arguments as `whole_contributions`, B odd sides besides."""
    posterior = EquivariantPosterior(images)
    asked = zip(noisy, sigma, sides, strict=True)
    return [posterior.contributions(image, float(level), side, top) for image, level, side in asked]


def whole_without(images: ImageSet, noisy: Floats, sigma: float, entries: Entries) -> Floats:
    """The optimal denoiser's estimate with one training image left out, for each of some images.

    Args:
        images: the training set, of two images or more.
        noisy: one noisy image as centred grey levels, float64 (d,).
        sigma: noise level in grey levels.
        entries: E training images.

    Returns:
        Estimates in [-1, 1], float64 (E, d).
    """
    posterior, at = WholeImagePosterior(images), np.array([sigma])
    weights, mean = posterior.weights(noisy[None], at)[0], posterior.mean(noisy[None], at)[0]
    left = []
    for entry in entries:
        both = with_mirror(images, int(entry))
        if weights[both].sum() <= SUREST:
            left.append(patch_without(mean, weights[both], _values(images, both)))
        else:
            rest = images_without(images, int(entry))
            left.append(WholeImagePosterior(rest).mean(noisy[None], at)[0])
    return np.stack(left)


def windows_without(images: ImageSet, noisy: Floats, sigma: float, window: Window, entries: Entries) -> Floats:
    """The composite with one training image left out, for each of some images; arguments and result as `whole_without`."""
    at = np.array([sigma])
    _, height, width = images.image_shape
    walk = WindowPass(images, noisy[None], at, [window])
    walk.parts()
    patches = patch_means(images, noisy[None], at, [max(window.height, window.width)])[0]
    rows, columns = walk.grids[0]
    left = []
    for entry in entries:
        both = with_mirror(images, int(entry))
        weights = np.stack([walk.weights_of(one) for one in both.tolist()])
        if weights.sum(0).max() > SUREST:
            rest = images_without(images, int(entry))
            left.append(WindowPosterior(rest).mean(noisy[None], at, [window])[0])
            continue
        out = _values(images, both).reshape(-1, *images.image_shape)
        total, covered = np.zeros(images.image_shape), np.zeros((height, width))
        for row in range(rows):
            for column in range(columns):
                part = (..., slice(row, row + window.height), slice(column, column + window.width))
                total[part] += patch_without(patches[row, column], weights[:, row, column], out[part])
                covered[part[1:]] += 1
        left.append((total / covered).reshape(-1))
    return np.stack(left)


def patch_without(mean: Floats, weights: Floats, left_out: Floats) -> Floats:
    """A posterior mean without some of its images, ``(D − Σ w_i x_i)/(1 − Σ w_i)``: the closed form.

    Args:
        mean: D, any shape.
        weights: of the images that are left out, (n,); their sum is at most `SUREST`.
        left_out: these images, or the same part of them, (n, …).
    """
    return np.asarray((mean - np.tensordot(weights, left_out, axes=1)) / (1 - weights.sum()))


def with_mirror(images: ImageSet, entry: int) -> Entries:
    """An entry, and that of its mirror image where the set has such."""
    place = entry % images.stored
    return np.array([place, place + images.stored] if images.flips else [place])


def images_without(images: ImageSet, entry: int) -> ImageSet:
    """All training images but one; of a set with mirror images both it and its mirror image are left out."""
    rest = np.delete(np.arange(images.stored), entry % images.stored)
    return images.subset(rest)


def _values(images: ImageSet, entries: Entries) -> Floats:
    """Training images in [-1, 1], float64 (n, d)."""
    pixels = np.ascontiguousarray(images.take(entries))
    return from_levels(centred(pixels).reshape(len(entries), -1).astype(np.float64))
