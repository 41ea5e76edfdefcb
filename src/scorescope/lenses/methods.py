"""How networks were trained and measured, in sentences for the foot of a page."""

from __future__ import annotations

from collections.abc import Mapping

from scorescope.lenses.settings import MORE_IMAGES, MeasurementConfig
from scorescope.probes.audit.verdict import RULE
from scorescope.training import TrainingConfig


def training_method(config: TrainingConfig, steps: Mapping[int, int] | None = None) -> str:
    """How both networks of a pair were trained, in a sentence; `steps` for each N, where they are not the same for all."""
    counted = ", ".join(f"{count:,} (N = {size:,})" for size, count in (steps or {}).items()) or f"{config.steps:,}"
    return (
        f"{counted} steps of {config.batch} images, Adam at {config.learning_rate:g} falling along a cosine,"
        f" σ = {config.objective.sigma_max:g}·u^{config.objective.sigma_power:g}, moving average {config.ema_decay:g};"
        f" seeds {2 * config.seed} (A) and {2 * config.seed + 1} (B)."
    )


def measurement_methods(config: MeasurementConfig) -> dict[str, str]:
    """How everything was measured, for the foot of a page."""
    return {
        "Units": "Images in [−1, 1]; σ is the noise's standard deviation in that unit; PSNR = 10 log10(4 / MSE).",
        "Sampling": "Blind networks: stochastic ascent from σ = the highest level trained on, around the mean intensity, h ="
        f" {config.sampler_h:g}{' growing' if config.sampler_h_grows else ''}, β = {config.sampler_beta:g}, stopped at σ̂ ="
        f" {config.sigma_end:g}; the same noise for every network. Others: Heun's method on {config.flow_steps} EDM levels,"
        " from noise; where the highest level trained on is not ten times the size of the images, from noise on draws of a"
        " Gaussian with their mean and covariance."
        f" {config.samples} samples a network{_more(config)}.",
        "Similarity": "Cosine of images that are centred by their own mean, so that brightness and contrast do not count.",
        "Inputs": f"Forward: {config.deviation_inputs} noisy training images a level. Reverse: the states of as many"
        " trajectories of the first network's own probability flow (Heun), from the highest level down.",
        "Verdict rule": RULE,
        "Seed": f"{config.seed} for all noise and choices of the measurements.",
    }


def _more(config: MeasurementConfig) -> str:
    if not config.more_samples:
        return ""
    return (
        f", and {config.more_samples} more, with {MORE_IMAGES} times as many images for the PSNR, where those leave the verdict"
        " undecided; its rate of errors counts both looks"
    )
