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


@pytest.mark.slow
def test_mixed_precision_follows_single_precision(digits, tmp_path):
    config = TrainingConfig(steps=40, batch=32)
    plain = Trainer(build_network(NETWORK), "blind-residual", digits, config)
    accelerator = open_accelerator(torch.device("cpu"), "bf16", None, tmp_path)
    mixed = AcceleratedTrainer(build_network(NETWORK), "blind-residual", digits, config, accelerator)
    expected, found = ([trainer.step().loss for _ in range(40)] for trainer in (plain, mixed))
    assert found[0] == pytest.approx(expected[0], rel=0.02)
    assert sum(found) == pytest.approx(sum(expected), rel=0.1)
    assert found != expected
    assert all(value.dtype == torch.float32 for value in mixed.average.state_dict().values())
