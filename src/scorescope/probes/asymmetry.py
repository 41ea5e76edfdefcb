"""How far a Jacobian is from that of a posterior mean: not symmetric, or with negative eigenvalues.

The Jacobian of any posterior mean is ``Cov[x | y] / σ²``: symmetric, without negative eigenvalues. A network's is neither
exactly. ``‖J − Jᵀ‖ / ‖J‖`` (Frobenius norms; 0 for a symmetric matrix, √2 on average for a random one, 2 for an antisymmetric
one) and the eigenvalues of ``(J + Jᵀ)/2`` below zero say by how much. From products alone: ``E‖A v‖² = ‖A‖²`` for random
signs v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.probes.linearization import Linearization
from scorescope.probes.trace import RandomEstimate, random_signs


def asymmetry(matrix: Tensor) -> float:
    """``‖J − Jᵀ‖ / ‖J‖`` of a full matrix (d, d), exact; NaN for a matrix of zeros."""
    values = matrix.double()
    size = float(values.norm())
    return float((values - values.T).norm()) / size if size > 0 else math.nan


def estimated_asymmetry(jacobian: Linearization, draws: int, generator: torch.Generator) -> RandomEstimate:
    """``‖J − Jᵀ‖ / ‖J‖`` from `draws` products with J and as many with Jᵀ.

    With the same signs v above and below, the ratio of the mean of ``‖J v − Jᵀ v‖²`` to the mean of ``(‖J v‖² + ‖Jᵀ v‖²)/2``;
    its error is that of a ratio of means (to first order), halved for the root.

    Args:
        jacobian: of a denoiser at a noisy image.
        draws: at least 2.
        generator: of the random signs, on the processor.

    Raises:
        UserError: fewer than 2 draws.
    """
    if draws < 2:
        raise UserError(f"an estimate with an error bar takes at least 2 draws, found {draws}")
    signs = random_signs(jacobian, draws, generator)
    forward, backward = (product(signs).double().flatten(1) for product in (jacobian.columns, jacobian.rows))
    above = (forward - backward).square().sum(1)
    below = (forward.square().sum(1) + backward.square().sum(1)) / 2
    if not float(below.mean()) > 0:
        return RandomEstimate(math.nan, math.nan, draws)
    ratio = float(above.mean() / below.mean())
    spread = float((above - ratio * below).std() / below.mean() / math.sqrt(draws))
    root = math.sqrt(ratio)
    return RandomEstimate(root, spread / (2 * root) if root > 0 else 0.0, draws)


@dataclass(frozen=True)
class NegativePart:
    """What there is below zero among the eigenvalues of a symmetric part.

    Attributes:
        count: how many eigenvalues are below ``−threshold``.
        lowest: the lowest eigenvalue.
        share: the sum of the magnitudes of negative eigenvalues over that of all.
        threshold: below which a negative eigenvalue counts, so that rounding errors do not.
    """

    count: int
    lowest: float
    share: float
    threshold: float


def negative_part(values: Tensor, threshold: float = 1e-4) -> NegativePart:
    """What there is below zero among all eigenvalues, (d,), of a symmetric part (see `all_eigenpairs`)."""
    values = values.double()
    total = float(values.abs().sum())
    negative = float(-values.clamp_max(0).sum())
    return NegativePart(
        int((values < -threshold).sum()), float(values.min()), negative / total if total > 0 else 0.0, threshold
    )
