"""How much better networks denoise images that they have seen: the gap between two PSNRs over N, and the N at which it closes.

The gap of a network is its output PSNR on training images less that on held-out images, averaged over noise levels that are
evenly spaced in log σ: in dB, so that it asks by which factor the error is smaller, at every level alike. What few images make
uncertain is found by drawing images again: held-out images the same for all N and both networks, which they are, and for every
network its own training images, those distinct of them when noise was added to the same image more than once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.lenses.memorization import Arrays
from scorescope.probes.intervals import redrawn_weights
from scorescope.probes.transition_size import TransitionSize, middle, transition_size
from scorescope.study.pairs import NETWORKS

Floats = npt.NDArray[np.float64]
THRESHOLD = 1.0  # dB
RULE = (
    "N* by the PSNR gap: the N from which on training images are denoised less than {threshold:g} dB better than held-out ones,"
    " averaged over noise levels evenly spaced in log σ and over both networks, interpolated in log N between the sizes tried."
    " Its interval holds the middle 95 % of what 1,000 sets of images, drawn again,"
    " give; other training runs, and that the curve bends between sizes, are not in it."
)


@dataclass(frozen=True)
class Gaps:
    """The PSNR gap for each of S numbers of images.

    Attributes:
        sizes: N, increasing.
        train: mean PSNR on training images, dB, (S,).
        test: on held-out images.
        gap: their difference.
        low: lower end of the gap's 95 % interval.
        high: upper end.
        drawn: the gap for R sets of images drawn again, (R, S).
        level_gap: the gap at each of L noise levels, (S, L).
        threshold: dB.
        transition: the N at which the gap falls through the threshold.
    """

    sizes: tuple[int, ...]
    train: Floats
    test: Floats
    gap: Floats
    low: Floats
    high: Floats
    drawn: Floats
    level_gap: Floats
    threshold: float
    transition: TransitionSize


def psnr_gaps(sizes: Sequence[int], found: Sequence[Mapping[str, npt.NDArray[np.generic]]], threshold: float) -> Gaps:
    """Gaps from the PSNRs of single images.

    Args:
        sizes: N, increasing.
        found: for each N, what `psnr_of_images` gives for a pair, with held-out images.
        threshold: dB, at which the gap counts as closed.
    """
    train = [
        [_by_image(one[f"train/{name}"], size) for name in NETWORKS] for size, one in zip(sizes, found, strict=True)
    ]
    test = [np.mean([one[f"test/{name}"].astype(np.float64).mean(0) for name in NETWORKS], axis=0) for one in found]
    train_mean = np.array([np.mean([values.mean() for values in networks]) for networks in train])
    test_mean = np.array([values.mean() for values in test])
    unseen = redrawn_weights(len(test[0]), seed=0) @ np.stack(test, axis=1)  # (R, S)
    seen = np.empty_like(unseen)
    for place, networks in enumerate(train):
        again = [redrawn_weights(len(v), seed=1 + 2 * place + k) @ v for k, v in enumerate(networks)]
        seen[:, place] = np.mean(again, axis=0)
    drawn, gap = seen - unseen, train_mean - test_mean
    ends = np.array([middle(column) for column in drawn.T])
    return Gaps(
        sizes=tuple(sizes),
        train=train_mean,
        test=test_mean,
        gap=gap,
        low=np.minimum(ends[:, 0], gap),
        high=np.maximum(ends[:, 1], gap),
        drawn=drawn,
        level_gap=np.stack([_level_means(one, "train") - _level_means(one, "test") for one in found]),
        threshold=threshold,
        transition=transition_size(sizes, gap - threshold, drawn - threshold),
    )


def level_curves(found: Arrays, kind: str) -> tuple[Floats, Floats]:
    """Input PSNR and mean output PSNR of both networks at each level, dB: kind is ``train`` or ``test``."""
    return 20 * np.log10(2 / found["sigma"].astype(np.float64)), _level_means(found, kind)


def _level_means(found: Mapping[str, npt.NDArray[np.generic]], kind: str) -> Floats:
    of_networks: list[Floats] = [found[f"{kind}/{name}"].astype(np.float64).mean(1) for name in NETWORKS]
    return np.asarray(np.mean(of_networks, axis=0))


def _by_image(values: npt.NDArray[np.generic], size: int) -> Floats:
    """PSNR averaged over levels, and over the noises that were added to one image: (L, B) -> (min(B, N),)."""
    means = values.astype(np.float64).mean(0)
    image = np.arange(len(means)) % size
    return np.bincount(image, weights=means) / np.bincount(image)
