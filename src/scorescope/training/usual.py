"""What a network is usually trained on, by what it predicts: the loss and the noise levels of the paper it comes from.

| preconditioning | noise levels | loss |
| --- | --- | --- |
| ``blind-residual`` | more small σ than large, up to the width of the intensity range | squared error of the image |
| ``edm`` | log-normal | EDM's |
| ``vp``, ``ve``, ``score`` | uniform time of the VP process; log-uniform σ | squared error of the noise |
| ``epsilon``, ``iddpm``; ``sample`` | uniform over a table of steps | squared error of the noise; of the image |
| ``v``, ``flow`` | uniform time | squared error of the velocity |
"""

from __future__ import annotations

from typing import Any

OBJECTIVES: dict[str, dict[str, Any]] = {
    "blind-residual": {"noise": "power", "weight": "uniform"},
    "edm": {"noise": "lognormal", "weight": "edm"},
    "vp": {"noise": "vp", "weight": "noise"},
    "ve": {"noise": "log-uniform", "sigma_min": 0.02, "sigma_max": 100.0, "weight": "noise"},
    "score": {"noise": "log-uniform", "sigma_min": 0.01, "sigma_max": 50.0, "weight": "noise"},
    "iddpm": {"noise": "ddpm-cosine", "weight": "noise"},
    "epsilon": {"noise": "ddpm", "weight": "noise"},
    "sample": {"noise": "ddpm", "weight": "uniform"},
    "v": {"noise": "cosine", "weight": "velocity"},
    "flow": {"noise": "flow", "weight": "flow"},
}
# Batch normalization, which the blind networks have, bears a larger step.
BLIND_LEARNING_RATE, LEARNING_RATE = 3e-3, 1e-3


def usual_training(preconditioning: str) -> dict[str, Any]:
    """Settings of a `TrainingConfig` that go with a preconditioning; its defaults where there is nothing usual."""
    rate = BLIND_LEARNING_RATE if preconditioning == "blind-residual" else LEARNING_RATE
    return {"learning_rate": rate, "objective": OBJECTIVES.get(preconditioning, {})}
