"""Training through accelerate is the same training."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from scorescope.networks import NetworkConfig, build_network
from scorescope.training import Trainer, TrainingConfig
from scorescope.training.accelerated import AcceleratedTrainer, open_accelerator

NETWORK = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 4, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)


@pytest.fixture(autouse=True)
def fresh_state():
    """Accelerate keeps one state a process; each of these tests makes its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_one_process_takes_the_plain_steps(digits):
    config = TrainingConfig(steps=5, batch=8)
    plain = Trainer(build_network(NETWORK), "blind-residual", digits, config)
    accelerated = AcceleratedTrainer(build_network(NETWORK), "blind-residual", digits, config, Accelerator(cpu=True))
    for _ in range(5):
        assert accelerated.step().loss == pytest.approx(plain.step().loss, rel=1e-5)
    for key, value in plain.average.state_dict().items():
        assert torch.allclose(accelerated.average.state_dict()[key], value, rtol=1e-4, atol=1e-6), key


def test_mixed_precision_learns_as_well(digits, tmp_path):
    torch.manual_seed(0)
    config = TrainingConfig(steps=60, batch=32)
    accelerator = open_accelerator(torch.device("cpu"), "bf16", None, tmp_path)
    trainer = AcceleratedTrainer(build_network(NETWORK), "blind-residual", digits, config, accelerator)
    losses = [trainer.step().loss for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10]) / 2
    assert all(value.dtype == torch.float32 for value in trainer.average.state_dict().values())
