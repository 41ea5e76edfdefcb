"""One accumulator for posterior averages, ``(log-normalizer, weighted sum)``, that merges associatively.

For logits ℓ_i and values v_i the posterior mean is ``Σ e^{ℓ_i} v_i / Σ e^{ℓ_i}``. A part of the training set is summed up
by ``log Z = log Σ e^{ℓ_i}`` and ``m = Σ e^{ℓ_i} v_i / Z`` over that part; two parts merge into
``log Z = logaddexp(log Z_a, log Z_b)`` and ``m = e^{log Z_a − log Z} m_a + e^{log Z_b − log Z} m_b``. Chunks, threads,
processes and machines are all such merges. Every sum here is a mean under the posterior, so nothing overflows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass
class Accumulator:
    """What a part of the training set says.

    Attributes:
        log_normalizer: ``log Σ exp(logit)`` over the part, float64 (…); −inf for an empty part.
        mean: posterior mean over the part, float64 (…, k): any k values carried along.
    """

    log_normalizer: Floats
    mean: Floats

    @classmethod
    def empty(cls, shape: tuple[int, ...], values: int) -> Accumulator:
        """Of no images: log-normalizer −inf."""
        return cls(np.full(shape, -np.inf), np.zeros((*shape, values)))

    def merge(self, other: Accumulator) -> Accumulator:
        """Of both parts together."""
        total = np.logaddexp(self.log_normalizer, other.log_normalizer)
        reference = np.where(np.isfinite(total), total, 0.0)
        share, other_share = np.exp(self.log_normalizer - reference), np.exp(other.log_normalizer - reference)
        return Accumulator(total, share[..., None] * self.mean + other_share[..., None] * other.mean)
