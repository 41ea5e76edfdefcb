"""The exactly solvable case: Gaussian data, and a lazy network that is affine in x, whose flow takes Gaussians to Gaussians.

One training run learns ``ŝ(x, t) = s₁(t) x + s₀(t)``, and its flow ends in ``N(c, A² S_T)`` with A and c from a linear
equation, so that the divergence from the truth needs no samples. Runs are drawn in two ways: from actual noisy targets and
actual starts, and as Gaussian fields with the average and the V that the theory states. Both must give the same divergences.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scorescope.variance.formulations import DENOISER
from scorescope.variance.gaussian_truth import GaussianTruth
from scorescope.variance.lazy import LazyNetwork, noise_weighted, scaled_inputs
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.tangent_kernels import AffineTangentKernel, ReluTangentKernel
from scorescope.variance.v_kernel import root_of


def exact_case(epsilon: float, mean: float, deviation: float) -> GaussianTruth:
    """A Gaussian on the line under a VP process that stops at ε."""
    return GaussianTruth(VariancePreserving(epsilon), torch.tensor([mean]), deviation)


def divergences(
    truth: GaussianTruth, data: int, runs: int, time: float, depth: int, steps: int, generator: torch.Generator
) -> dict[str, Any]:
    """Divergence from the truth of what lazy networks learn from N data points, each seen once with its own noise.

    Args:
        truth: on the line.
        data: N.
        runs: training runs, each with its own data.
        time: τ.
        depth: hidden layers of the networks of time.
        steps: of the flow.
        generator: of everything.

    Returns:
        ``real`` and ``theory``, nats, (runs,); ``spread``, the squared deviation of the real run's outputs from the theory's
        average over the theory's variance, mean over x and t, (runs,); ``data``, the data points of every run, (runs, N).
    """
    kernel = AffineTangentKernel(ReluTangentKernel(depth))
    times = truth.process.times(steps)
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(steps)[:, None]  # enough to know an affine function
    t = times[:-1].repeat_interleave(2)
    real, theory, points, spreads = [], [], [], []
    for _ in range(runs):
        clean, at, noisy = truth.draw_training(data, generator)
        network = LazyNetwork(truth, kernel, noise_weighted(time), noisy, at)
        inputs = torch.cat([scaled_inputs(truth.process, x, t), scaled_inputs(truth.process, noisy, at)])
        start = _draw(kernel.start_covariance(inputs, inputs)[..., 0, 0], generator)
        output = network.output(x, t, clean, start[: len(x)], start[len(x) :])
        real.append(_divergence(truth, output, x, t, times))
        spread = network.output_covariance(x, t, x, t)[..., 0, 0]
        mean = network.mean_output(x, t)
        field = mean + _draw(spread, generator)
        spreads.append(((output - mean)[:, 0].square() / spread.diagonal()).mean())
        theory.append(_divergence(truth, field, x, t, times))
        points.append(clean[:, 0])
    return {
        "real": torch.stack(real).numpy(),
        "theory": torch.stack(theory).numpy(),
        "spread": torch.stack(spreads).numpy(),
        "data": torch.stack(points).numpy(),
    }


def floor(truth: GaussianTruth, steps: int) -> float:
    """Divergence that the exact score has with the same steps, nats: what is left of the error is not learning's."""
    times = truth.process.times(steps)
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(steps)[:, None]
    t = times[:-1].repeat_interleave(2)
    output = DENOISER.from_score(truth.process, truth.score(x, t), x, t)
    return float(_divergence(truth, output, x, t, times))


def _draw(covariance: Tensor, generator: torch.Generator) -> Tensor:
    """One Gaussian draw, (n, 1)."""
    noise = torch.randn(len(covariance), 1, generator=generator, dtype=torch.float64)
    return root_of((covariance + covariance.T) / 2) @ noise


def _divergence(truth: GaussianTruth, output: Tensor, x: Tensor, t: Tensor, times: Tensor) -> Tensor:
    """The flow of an affine model by Euler's method, and the divergence of where it ends."""
    process = truth.process
    score = DENOISER.to_score(process, output, x, t).reshape(-1, 2)
    offset, slope = score[:, 0], score[:, 1] - score[:, 0]
    width, centre = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    beta, diffusion = process.beta(times), process.diffusion(times).trace(1)
    for step in range(len(times) - 1):
        length = times[step + 1] - times[step]
        rate = -beta[step] - diffusion[step] * slope[step]
        centre = centre + length * (rate * centre - diffusion[step] * offset[step])
        width = width + length * rate * width
    variance = width**2 * process.mean_variance(times[0], 1)
    return truth.divergence_to(centre[None], variance)
