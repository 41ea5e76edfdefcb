"""How a network is trained: steps, learning rates, moving averages, as settings that are written down with the weights."""

from __future__ import annotations

import math
from typing import Literal

import pydantic

from scorescope.training.objective import Objective


class TrainingConfig(pydantic.BaseModel):
    """How a network is trained.

    Attributes:
        steps: optimizer steps.
        batch: images a step.
        accumulate: parts that a batch is split into, one after another; less memory, the same step but for layers that
            look at the batch as a whole.
        learning_rate: Adam's peak learning rate.
        schedule: after `warmup`, ``cosine`` (to 1 % at the end), ``constant``, or ``inverse-sqrt`` (from `decay_from` on).
        warmup: steps over which the learning rate rises.
        decay_from: step from which ``inverse-sqrt`` falls.
        ema: ``classic`` (decay a step, shorter in the first steps) or ``power`` (Karras et al. 2024: decay
            ``(1 − 1/t)^(ema_power + 1)``).
        ema_decay: of ``classic``.
        ema_power: of ``power``; 6.94 averages over a tenth of the run.
        clip: norm that gradients are clipped to; None for none.
        flips: whether images are mirrored at random.
        label_dropout: share of the images whose class is hidden from a network that is told classes and can do without.
        compile: whether ``torch.compile`` compiles the network first, which pays in long runs; where no compiler works, that is
            said and it is trained without.
        objective: what it is trained on.
        seed: of the initial weights and of everything drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    steps: int = pydantic.Field(2400, ge=1)
    batch: int = pydantic.Field(32, ge=1)
    accumulate: int = pydantic.Field(1, ge=1)
    learning_rate: float = pydantic.Field(3e-3, gt=0)
    schedule: Literal["cosine", "constant", "inverse-sqrt"] = "cosine"
    warmup: int = pydantic.Field(50, ge=0)
    decay_from: int = pydantic.Field(10_000, ge=1)
    ema: Literal["classic", "power"] = "classic"
    ema_decay: float = pydantic.Field(0.99, ge=0, lt=1)
    ema_power: float = pydantic.Field(6.94, ge=0)
    clip: float | None = pydantic.Field(None, gt=0)
    flips: bool = False
    label_dropout: float = pydantic.Field(0.1, ge=0, le=1)
    compile: bool = False
    objective: Objective = Objective()
    seed: int = pydantic.Field(0, ge=0)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step `step`, counted from 0."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.schedule == "cosine":
            fall = 0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2
        elif self.schedule == "inverse-sqrt":
            fall = math.sqrt(self.decay_from / max(step + 1, self.decay_from))
        else:
            fall = 1.0
        return self.learning_rate * rise * fall

    def decay_at(self, finished: int) -> float:
        """Decay of the moving average after `finished` steps, counted from 1."""
        if self.ema == "power":
            return float((1 - 1 / finished) ** (self.ema_power + 1))
        return min(self.ema_decay, finished / (finished + 9))
