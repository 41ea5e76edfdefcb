"""Two processes take the steps of one."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from scorescope.networks import NetworkConfig, architectures, build_network
from scorescope.training import Trainer, TrainingConfig

# The perceptron has no layer that looks at the batch as a whole.
UNCONDITIONAL = architectures["mlp"].arguments_for((1, 8, 8)) | {"width": 32}
NETWORK = NetworkConfig(
    architecture="mlp",
    arguments=UNCONDITIONAL | {"num_classes": 10},
    preconditioning="edm",
    image_shape=(1, 8, 8),
    sigma_range=(0.01, 10.0),
)
CONFIG = {"steps": 20, "batch": 16, "clip": 1.0, "objective": {"noise": "lognormal", "weight": "edm"}}

SCRIPT = """
import sys
import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from scorescope.data.images import ImageSet
from scorescope.networks import NetworkConfig, build_network
from scorescope.training import TrainingConfig
from scorescope.training.accelerated import AcceleratedTrainer

digits = load_digits()
pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
network = NetworkConfig.model_validate_json(sys.argv[1])
accelerator = Accelerator(cpu=True)
trainer = AcceleratedTrainer(
    build_network(network), "edm", ImageSet(pixels, digits.target), TrainingConfig.model_validate_json(sys.argv[2]), accelerator
)
losses = [trainer.step().loss for _ in range(trainer.config.steps)]
save_file(
    trainer.state() | {"losses": torch.tensor(losses, dtype=torch.float64)},
    f"{sys.argv[3]}/{accelerator.process_index}-of-{accelerator.num_processes}.safetensors",
)
accelerator.end_training()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(count, folder, network, config):
    """Run the script in several processes, as torchrun does."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    call = [sys.executable, "-c", SCRIPT, network.model_dump_json(), config.model_dump_json(), str(folder)]
    started = [
        subprocess.Popen(
            call, env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        )
        for rank in range(count)
    ]
    assert [process.wait(timeout=120) for process in started] == [0] * count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accumulate", "target"),
    [
        (2, "noisy"),
        pytest.param(1, "noisy", marks=pytest.mark.exhaustive),
        pytest.param(1, "closed-form", marks=pytest.mark.exhaustive),
    ],
)
def test_two_processes_end_with_the_weights_of_one(digits, tmp_path, accumulate, target):
    objective = CONFIG["objective"] | {"target": target}
    config = TrainingConfig.model_validate(CONFIG | {"accumulate": accumulate, "objective": objective})
    network = NETWORK if target == "noisy" else NETWORK.model_copy(update={"arguments": UNCONDITIONAL})
    launch(2, tmp_path, network, config)
    alone = Trainer(build_network(network), "edm", digits, config)
    losses = torch.tensor([alone.step().loss for _ in range(config.steps)], dtype=torch.float64)
    first, second = (load_file(tmp_path / f"{rank}-of-2.safetensors") for rank in range(2))
    assert torch.equal(first["losses"], second["losses"])
    torch.testing.assert_close(first["losses"], losses, rtol=1e-5, atol=0)
    for key, value in alone.average.state_dict().items():
        scale = value.abs().max().item()
        for found in (first, second):
            assert (found[f"average.{key}"] - value).abs().max().item() <= 1e-5 * scale, key
    # the moments of the optimizer show that it was the gradient of the whole batch, and not of a share
    moments = {key: value for key, value in alone.state().items() if key.endswith("exp_avg")}
    assert moments
    for key, value in moments.items():
        torch.testing.assert_close(first[key], value, rtol=1e-3, atol=1e-5 * value.abs().max().item())
