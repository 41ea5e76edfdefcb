"""An ensemble against the theory of its variance: V beside C along the flow, and real members beside the effective process.

Everything starts from the same noise: the members' own flows, the flow of the average model (no variance), and the flows of the
effective process, whose runs are draws of the Gaussian field with the ensemble's V. The theory keeps two cumulants; what it
gets wrong is seen in the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.sampling import heun, last
from scorescope.variance.ensemble import Ensemble, profile

Own = Callable[[Tensor, float], Tensor]
"""Every member on noisy images of its own: (M, B, …), σ -> (M, B, …)."""


def compare_flows(
    ensemble: Ensemble,
    own: Own,
    target_variance: Callable[[Tensor, float], Tensor],
    start: Tensor,
    sigmas: Sequence[float],
    runs: int,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Flows of the members, of the average model and of the effective process from the same noise.

    Args:
        ensemble: the members.
        own: the same members, each on its own images.
        target_variance: ``tr Cov[x | y]`` of noisy images (B, …) at σ, (B,).
        start: noisy images at ``sigmas[0]``, (B, …).
        sigmas: decreasing.
        runs: of the effective process, R.
        generator: of its fields.

    Returns:
        ``sigma`` (L,), ``model`` and ``target`` variance (L, B) along the flow of the average model, and the samples
        ``members`` (M, B, …), ``average`` (B, …) and ``effective`` (R, B, …), float32.
    """
    states = list(heun(ensemble.mean, start, sigmas))
    along = profile(ensemble, target_variance, [(state.noisy, state.sigma) for state in states[:-1]])
    members = last(heun(own, start.expand(ensemble.count, *start.shape), sigmas)).noisy
    field = ensemble.run(ensemble.draw_weights(runs, generator))
    effective = last(heun(field, start.expand(runs, *start.shape), sigmas)).noisy
    return {
        "sigma": along.sigmas.numpy(),
        "model": along.model.numpy(),
        "target": along.target.numpy(),
        "correlation": along.rank_correlations().numpy(),
        "members": members.float().numpy(),
        "average": states[-1].noisy.float().numpy(),
        "effective": effective.float().numpy(),
    }


def independent_samples(
    ensemble: Ensemble, own: Own, start: Tensor, sigmas: Sequence[float], generator: torch.Generator
) -> dict[str, Any]:
    """Samples from noise that is new for every run, so that average densities can be compared.

    Args:
        ensemble: the members, M.
        own: the same members, each on its own images.
        start: noisy images at ``sigmas[0]``, (R, B, …) with R ≥ M; the members use the first M.
        sigmas: decreasing.
        generator: of the fields of the effective process.

    Returns:
        ``members`` (M, B, …), and ``effective`` and ``average`` (R, B, …), float32.
    """
    field = ensemble.run(ensemble.draw_weights(len(start), generator))
    none = ensemble.run(torch.zeros(len(start), ensemble.count))
    flows = {
        "members": heun(own, start[: ensemble.count], sigmas),
        "effective": heun(field, start, sigmas),
        "average": heun(none, start, sigmas),
    }
    return {name: last(flow).noisy.float().numpy() for name, flow in flows.items()}


def sample_variances(samples: Any) -> Any:
    """Variance over runs of the sample from one noise, summed over pixels, for each noise: (R, B, …) -> (B,) float64."""
    runs = np.asarray(samples, dtype=np.float64).reshape(*np.shape(samples)[:2], -1)
    return runs.var(axis=0, ddof=1).sum(axis=1)


def separately(denoisers: Sequence[Callable[[Tensor, float], Tensor]]) -> Own:
    """Denoisers as one function that gives each of them images of its own."""

    def own(noisy: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            return torch.stack([denoiser(images, sigma) for denoiser, images in zip(denoisers, noisy, strict=True)])

    return own
