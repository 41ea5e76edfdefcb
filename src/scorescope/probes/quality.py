"""Sample quality: how the vectors of samples are distributed beside those of real images, in any feature space.

With vectors r of N real and f of M made images:

- *Fréchet distance* ``‖μ_r − μ_f‖² + tr(Σ_r + Σ_f − 2 (Σ_r Σ_f)^½)``; in Inception features it is the FID (Heusel et al. 2017).
  It is biased: small sets are further apart than large ones of the same distributions.
- *kernel distance*, the unbiased MMD² with the kernel ``(r·f / F + 1)³`` on random subsets; in Inception features the KID
  (Bińkowski et al. 2018). It is around 0 for equal distributions, below as often as above.
- *inception score* ``exp E KL(p(class | image) ‖ p(class))`` of made images alone (Salimans et al. 2016).
- *precision*: share of made images inside some real image's ball, whose radius is the distance to its k-th nearest real
  neighbour; *recall*: the same with the roles exchanged (Kynkäänniemi et al. 2019, k = 3).
- *density*: mean number of real balls that a made image lies in, over k; *coverage*: share of real balls that hold a made
  image (Naeem et al. 2020, k = 5).

The first three are torchmetrics'. Neighbours are exact. Vectors are computed once and every measure goes over them in
pieces, so that memory is the vectors' own and little more (50,000 images of 2,048 numbers: 0.4 GB a set).
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from scorescope.foundation import UserError
from scorescope.foundation.randomness import seeded
from scorescope.probes.features import Features

Floats = npt.NDArray[np.float64]
PIECE = 4096  # vectors in float64 at once
BALL_NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5
KERNEL_SUBSETS, KERNEL_SUBSET_SIZE = 100, 1000
SCORE_SPLITS = 10


@dataclass(frozen=True)
class Quality:
    """Made images beside real ones; NaN where there are too few of them.

    Attributes:
        frechet: Fréchet distance; 0 is best.
        kernel: kernel distance; around 0 is best.
        kernel_deviation: its standard deviation over subsets.
        precision: share of made images that look like real ones.
        recall: share of real images that could have been made.
        density: 1 for equal distributions; above, made images crowd where real ones are.
        coverage: share of real images with a made one nearby.
    """

    frechet: float
    kernel: float
    kernel_deviation: float
    precision: float
    recall: float
    density: float
    coverage: float


def measure_quality(real: Features, made: Features, seed: int = 0, *, device: torch.device | str = "cpu") -> Quality:
    """All that two sets of vectors say.

    Args:
        real: vectors of real images, (N, F).
        made: of made images, (M, F).
        seed: of the subsets of the kernel distance.
        device: where neighbours are searched.

    Raises:
        UserError: vectors of different spaces, or with NaN or infinite values; fewer than two of a set.
    """
    kernel, deviation = kernel_distance(real, made, seed)
    balls = neighbourhoods(real, made, device=device)
    return Quality(
        frechet=frechet_distance(real, made),
        kernel=kernel,
        kernel_deviation=deviation,
        precision=balls.precision,
        recall=balls.recall,
        density=balls.density,
        coverage=balls.coverage,
    )


def frechet_distance(real: Features, made: Features) -> float:
    """The Fréchet distance of two sets of vectors, (N, F) and (M, F). Raises UserError as `measure_quality`."""
    _check(real, made)
    metric = FrechetInceptionDistance(feature=_AsTheyAre(real.shape[1]))
    for vectors, are_real in ((real, True), (made, False)):
        for piece in _pieces(vectors):
            metric.update(piece, real=are_real)
    return float(metric.compute())


def kernel_distance(
    real: Features,
    made: Features,
    seed: int = 0,
    *,
    subsets: int = KERNEL_SUBSETS,
    subset_size: int = KERNEL_SUBSET_SIZE,
) -> tuple[float, float]:
    """The kernel distance, mean and standard deviation over random subsets.

    Where a set is not larger than a subset, subsets are as large as the smaller set; where both are that small, there is one
    subset and the deviation is NaN. Raises UserError as `measure_quality`.
    """
    _check(real, made)
    size = min(subset_size, len(real), len(made))
    if size == len(real) == len(made):
        subsets = 1
    random = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        with _quiet(0):
            metric = KernelInceptionDistance(feature=_AsTheyAre(real.shape[1]), subsets=1, subset_size=size)
            for vectors, are_real in ((real, True), (made, False)):
                chosen = np.sort(random.choice(len(vectors), size, replace=False))
                metric.update(torch.from_numpy(vectors[chosen].astype(np.float64)), real=are_real)
            found.append(float(metric.compute()[0]))
    return float(np.mean(found)), float(np.std(found)) if subsets > 1 else math.nan


def inception_score(
    log_probabilities: npt.NDArray[np.floating], seed: int = 0, splits: int = SCORE_SPLITS
) -> tuple[float, float]:
    """The inception score, mean and standard deviation over equal parts of the images.

    Args:
        log_probabilities: of K classes, or anything that differs from them by a number a row, (N, K).
        seed: of the order in which images are split.
        splits: how many parts; fewer where there are fewer than ten images a part.

    Raises:
        UserError: no images or values that are NaN or infinite.
    """
    if not len(log_probabilities) or not np.isfinite(log_probabilities).all():
        raise UserError("an inception score needs images, and finite log probabilities of their classes")
    splits = max(1, min(splits, len(log_probabilities) // 10))
    with _quiet(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the deviation of one part
        metric = InceptionScore(feature=_AsTheyAre(log_probabilities.shape[1]), splits=splits)
        metric.update(torch.from_numpy(log_probabilities.astype(np.float64)))
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


@dataclass(frozen=True)
class Neighbourhoods:
    """Which vectors lie in whose balls; a ball reaches to the k-th nearest other vector of its own set.

    Attributes:
        precision: share of made vectors in some real ball.
        recall: share of real vectors in some made ball.
        density: mean number of real balls that hold a made vector, over k.
        coverage: share of real balls that hold a made vector.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(
    real: Features,
    made: Features,
    k: int = BALL_NEIGHBOURS,
    density_k: int = DENSITY_NEIGHBOURS,
    *,
    device: torch.device | str = "cpu",
    at_once: int = 1024,
) -> Neighbourhoods:
    """Precision and recall, density and coverage from exact distances.

    Args:
        real: vectors of real images, (N, F).
        made: of made images, (M, F).
        k: of the balls of precision and recall.
        density_k: of the balls of density and coverage.
        device: where distances are computed, in float64.
        at_once: at most so many times so many distances are held.

    Returns:
        The four numbers; NaN if a set has no k-th neighbour.

    Raises:
        UserError: as `measure_quality`.
    """
    _check(real, made)
    if min(len(real), len(made)) <= max(k, density_k):
        return Neighbourhoods(math.nan, math.nan, math.nan, math.nan)
    # Squared distances are differences of large numbers: centring keeps the numbers small, float64 the difference exact.
    distances = _Distances(real.mean(0, dtype=np.float64), torch.device(device), at_once)
    (near, wide), (made_near, _) = (distances.radii(vectors, (k, density_k)) for vectors in (real, made))
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=device) for _ in range(2))
    precise = held = 0
    for rows, part in distances.parts(made):
        inside = torch.zeros(len(part), dtype=torch.bool, device=device)
        for real_rows, real_part in distances.parts(real):
            squared = distances.squared(part, real_part)
            inside |= (squared <= near[real_rows]).any(1)
            recalled[real_rows] |= (squared <= made_near[rows, None]).any(0)
            in_wide = squared <= wide[real_rows]
            covered[real_rows] |= in_wide.any(0)
            held += int(in_wide.sum())
        precise += int(inside.sum())
    return Neighbourhoods(
        precision=precise / len(made),
        recall=float(recalled.double().mean()),
        density=held / (density_k * len(made)),
        coverage=float(covered.double().mean()),
    )


@dataclass(frozen=True)
class _Distances:
    """Squared Euclidean distances in pieces, float64, on a device."""

    centre: Floats
    device: torch.device
    at_once: int

    def parts(self, vectors: Features) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(vectors), self.at_once):
            rows = slice(start, min(start + self.at_once, len(vectors)))
            yield rows, torch.from_numpy(vectors[rows] - self.centre).to(self.device)

    def squared(self, first: Tensor, second: Tensor) -> Tensor:
        lengths = first.square().sum(1)[:, None] + second.square().sum(1)[None]
        squared = lengths - 2 * first @ second.T
        # A copy is at distance zero, whatever rounding says: samples of a model that memorizes are copies.
        return torch.where(squared > 1e-13 * lengths, squared, 0.0)

    def radii(self, vectors: Features, neighbours: tuple[int, ...]) -> list[Tensor]:
        """Squared distance of each vector to its k-th nearest other one, (N,) for every k of `neighbours`."""
        found: list[Tensor] = []
        for rows, part in self.parts(vectors):
            nearest = torch.empty(len(part), 0, dtype=torch.float64, device=self.device)
            for other_rows, other in self.parts(vectors):
                squared = self.squared(part, other)
                if other_rows == rows:
                    squared.fill_diagonal_(math.inf)  # a vector is not its own neighbour
                both = torch.cat([nearest, squared], 1)
                nearest = both.topk(min(max(neighbours), both.shape[1]), dim=1, largest=False).values
            found.append(nearest)
        # The same distance computed twice differs in its last bits, and the k-th neighbour lies on the ball's border.
        return [torch.cat(found)[:, k - 1] * (1 + 1e-9) for k in neighbours]


class _AsTheyAre(nn.Module):
    """What torchmetrics takes for a network: it is handed vectors and returns them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


@contextlib.contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Let torchmetrics draw from the global generator and put that back; without its remarks on memory."""
    with seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric `.*` will save all extracted features")
        yield


def _pieces(vectors: Features) -> Iterator[Tensor]:
    for start in range(0, len(vectors), PIECE):
        yield torch.from_numpy(vectors[start : start + PIECE].astype(np.float64))


def _check(real: Features, made: Features) -> None:
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1]:
        raise UserError(f"real and made images need vectors of one feature space, found {real.shape} and {made.shape}")
    if min(len(real), len(made)) < 2:
        raise UserError(f"quality is about sets of images, found {len(real)} real and {len(made)} made ones")
    if not (np.isfinite(real).all() and np.isfinite(made).all()):
        raise UserError("vectors of images must be finite")
