"""Schedulers of ``diffusers``: what a network predicts and is told, from a ``scheduler_config.json``.

- Those of a table of β (DDPM, DDIM, PNDM, Euler, Heun, LMS, KDPM2, DPM-Solver, DEIS, UniPC, LCM, TCD): what
  ``prediction_type`` says, told the step.
- ``FlowMatch…``, or one of those above with ``flow_prediction``: the velocity n − x, told the share of noise times the steps.
- ``EDM…``: EDM's preconditioning.
- ``CMStochasticIterativeScheduler``: a consistency model, told 250 ln σ.
- ``ScoreSdeVeScheduler``: the score of images on [0, 1], told σ.

How a scheduler walks through its levels (its order, its spacing, a shift, Karras' σ) does not matter to the denoiser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scorescope.foundation import UserError

MOST_STEPS = 100_000
# With the ends of β that each has unless its file says other ones.
_USUAL, _OF_LATENTS = (1e-4, 0.02), (0.00085, 0.012)
TABLED = {
    **dict.fromkeys(
        (
            "DDPMScheduler",
            "DDPMParallelScheduler",
            "DDIMScheduler",
            "DDIMParallelScheduler",
            "PNDMScheduler",
            "EulerDiscreteScheduler",
            "EulerAncestralDiscreteScheduler",
            "LMSDiscreteScheduler",
            "DPMSolverMultistepScheduler",
            "DPMSolverSinglestepScheduler",
            "DEISMultistepScheduler",
            "UniPCMultistepScheduler",
        ),
        _USUAL,
    ),
    **dict.fromkeys(
        (
            "HeunDiscreteScheduler",
            "KDPM2DiscreteScheduler",
            "KDPM2AncestralDiscreteScheduler",
            "LCMScheduler",
            "TCDScheduler",
        ),
        _OF_LATENTS,
    ),
}
_SCALED = ("LCMScheduler", "TCDScheduler")
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDMS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
CONSISTENCY, EXPLODING = "CMStochasticIterativeScheduler", "ScoreSdeVeScheduler"
USUAL_SCHEDULER = "DDPMScheduler"
PREDICTIONS = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v"}

Use = tuple[str, dict[str, Any], tuple[str, ...]]


def use_of_scheduler(scheduler: Mapping[str, Any]) -> Use:
    """Name and arguments of the preconditioning, and what is to be said, from a scheduler's settings.

    Raises UserError for a scheduler that is not known, or settings that are.
    """
    kind = scheduler.get("_class_name")
    if kind == EXPLODING:
        low, high = _number(scheduler, "sigma_min", 0.01), _number(scheduler, "sigma_max", 1348.0)
        time = {"kind": "sigma", "low": low, "high": high}
        return "score", {"process": "ve", "time": time, "image_range": [0.0, 1.0]}, ()
    if kind == CONSISTENCY:
        data, lowest = _number(scheduler, "sigma_data", 0.5), _number(scheduler, "sigma_min", 0.002)
        return "edm", {"sigma_data": data, "noise_scale": 250.0, "boundary": lowest}, ()
    prediction = scheduler.get("prediction_type", "epsilon")
    if kind in EDMS:
        if prediction != "epsilon":
            raise UserError(f"its prediction_type is {word(prediction)}; of an {word(kind)} epsilon is supported")
        return "edm", {"sigma_data": _number(scheduler, "sigma_data", 0.5)}, ()
    if kind in FLOWS or (kind in TABLED and prediction == "flow_prediction"):
        time = {"kind": "flow", "toward": "noise", "scale": float(_steps(scheduler))}
        return "flow", {"time": time}, ()
    if kind not in TABLED:
        known = ", ".join((*TABLED, *FLOWS, *EDMS, CONSISTENCY, EXPLODING))
        raise UserError(f"its scheduler is a {word(kind)}; supported are {known}")
    if prediction not in PREDICTIONS:
        raise UserError(f"its prediction_type is {word(prediction)}; supported are {', '.join(PREDICTIONS)}")
    if scheduler.get("timestep_type", "discrete") != "discrete":
        raise UserError(f"its timestep_type is {word(scheduler['timestep_type'])}; supported is 'discrete'")
    whole = signal_table(scheduler)
    table = [signal for signal in whole if signal > 0]
    said = ("its last step, pure noise, is left out",) if len(table) < len(whole) else ()
    return PREDICTIONS[prediction], {"time": {"kind": "table", "alphas_cumprod": table}}, said


def signal_table(scheduler: Mapping[str, Any]) -> list[float]:
    """ᾱ_t of every step from a scheduler's settings; the last is 0 where they ask for no signal at the end.

    Raises UserError for settings that are not known or make no table.
    """
    betas = _betas(scheduler, _steps(scheduler))
    if not bool(((betas > 1e-12) & (betas < 1)).all()):
        raise UserError("the scheduler's betas do not lie between 0 and 1: copy its scheduler_config.json again")
    signal = (1 - betas).cumprod(0)
    if scheduler.get("rescale_betas_zero_snr"):
        # Lin et al. 2024, arXiv 2305.08891: sqrt(ᾱ) is shifted to end at 0 and stretched to begin where it began.
        root = signal.sqrt()
        signal = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))).square()
    return [float(value) for value in signal]


def _steps(scheduler: Mapping[str, Any]) -> int:
    steps = scheduler.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 2 <= steps <= MOST_STEPS:
        raise UserError(f"num_train_timesteps is {word(steps)}; allowed are 2 to {MOST_STEPS:,}")
    return steps


def _betas(scheduler: Mapping[str, Any], steps: int) -> Tensor:
    trained = scheduler.get("trained_betas")
    if trained is not None:
        if not isinstance(trained, list) or not 2 <= len(trained) <= MOST_STEPS:
            raise UserError(f"trained_betas must be a list of 2 to {MOST_STEPS:,} numbers")
        return torch.tensor([_finite(value, "trained_betas") for value in trained], dtype=torch.float64)
    kind = scheduler.get("_class_name", USUAL_SCHEDULER)
    usual = TABLED.get(kind, _USUAL) if isinstance(kind, str) else _USUAL
    start, end = _number(scheduler, "beta_start", usual[0]), _number(scheduler, "beta_end", usual[1])
    schedule = scheduler.get("beta_schedule", "scaled_linear" if kind in _SCALED else "linear")
    if schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    if schedule == "squaredcos_cap_v2":
        time = torch.arange(steps + 1, dtype=torch.float64) / steps
        signal = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
        return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    if schedule == "sigmoid":
        return torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (end - start) + start
    raise UserError(
        f"its beta_schedule is {word(schedule)}; supported are linear, scaled_linear, squaredcos_cap_v2 and sigmoid"
    )


def _number(settings: Mapping[str, Any], name: str, usual: float) -> float:
    return _finite(settings.get(name, usual), name)


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise UserError(f"the scheduler's {name} is {word(value)}: it must be a number from 0")
    return float(value)


def word(value: Any) -> str:
    """A value of a file, short enough for a message."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a number of more than 64 bits"  # which Python may refuse to print
    return repr(value)[:40] if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"
