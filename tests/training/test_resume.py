"""A training run that is killed, whenever that is, ends with the weights of one that is not; and its files always open."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from scorescope.foundation import UserError
from scorescope.networks import NetworkConfig, architectures, build_network
from scorescope.training import Trainer, TrainingConfig, TrainingJob, train_networks
from scorescope.training.saved import SavedState, claimed

NETWORK = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 8, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)
STEPS = 120

# One process imports everything and then forks a child for every run, which would otherwise import for seconds.
SERVER = """
import os, shutil, signal, sys
from pathlib import Path
import numpy as np
from sklearn.datasets import load_digits
from scorescope.data.images import ImageSet
from scorescope.networks import NetworkConfig, checkpoint
from scorescope.training import TrainingConfig, TrainingJob, run, saved, train_networks

pixels = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[:, None]
network = NetworkConfig.model_validate_json(sys.argv[1])
config = TrainingConfig(steps=int(sys.argv[2]), batch=16)

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def half(write):
    def written(tensors, path, **more):
        write(tensors, path, **more)
        os.truncate(path, os.path.getsize(path) // 2)
        die()
    return written

def after(count, before_it, normal):
    calls = []
    def called(*arguments, **more):
        calls.append(1)
        return (before_it if len(calls) == count else normal)(*arguments, **more)
    return called

def prepare(moment):
    if moment == "in the middle of a save":
        saved.save_file = after(3, half(saved.save_file), saved.save_file)
    if moment == "before the renaming of a save":
        Path.replace = after(3, die, Path.replace)
    if moment == "in the middle of the checkpoint":
        checkpoint.save_file = half(checkpoint.save_file)
    if moment == "before the saved state goes":
        run.forget = after(1, die, run.forget)

for line in sys.stdin:
    folder, moment = line.rstrip("\\n").split("|")
    child = os.fork()
    if not child:
        prepare(moment)
        train_networks([TrainingJob(Path(folder), network, ImageSet(pixels), config)], save_every=10)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def server():
    call = [sys.executable, "-c", SERVER, NETWORK.model_dump_json(), str(STEPS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process
        process.stdin.close()


def run(server, folder, moment="", kill_after=None):
    """Train towards a folder; returns the exit status. It is killed some seconds after it has saved a new state."""
    saved = folder.with_name(folder.name + ".training.safetensors")
    before = version(saved)
    print(f"{folder}|{moment}", file=server.stdin, flush=True)
    child = int(server.stdout.readline())
    if kill_after is not None:
        while version(saved) == before and not folder.exists():
            time.sleep(0.001)
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):  # it was done already
            os.kill(child, signal.SIGKILL)
    return int(server.stdout.readline())


def version(path):
    """Which of the files that were renamed to a path it is now."""
    return path.stat().st_ino if path.exists() else None


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """Weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "net"
    assert run(server, folder) == 0
    return load_file(folder / "network.safetensors")


def assert_ends_as(whole, server, folder):
    assert run(server, folder) == 0
    resumed = load_file(folder / "network.safetensors")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert os.listdir(folder.parent) == [folder.name]


@pytest.mark.parametrize(
    "moment",
    [
        "in the middle of a save",
        "before the renaming of a save",
        "in the middle of the checkpoint",
        "before the saved state goes",
    ],
)
def test_a_run_killed_while_it_writes_goes_on(server, whole, tmp_path, moment):
    folder = tmp_path / "net"
    assert run(server, folder, moment) == signal.SIGKILL
    if moment != "before the saved state goes":
        assert not folder.exists()
        finished = int(load_file(tmp_path / "net.training.safetensors")["finished"])
        assert finished == (STEPS if moment == "in the middle of the checkpoint" else 20)
    if moment == "in the middle of a save":
        assert any(name.endswith(".part") for name in os.listdir(tmp_path))
    assert_ends_as(whole, server, folder)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_goes_on(server, whole, tmp_path):
    folder, moments, killed = tmp_path / "net", random.Random(0), 0
    while killed < 5 and not folder.exists():
        killed += run(server, folder, kill_after=moments.uniform(0, 0.05)) == signal.SIGKILL
        if not folder.exists():
            assert int(load_file(tmp_path / "net.training.safetensors")["finished"]) % 10 == 0
    assert killed
    assert_ends_as(whole, server, folder)


def test_two_processes_do_not_train_the_same_network(digits, tmp_path):
    job = TrainingJob(tmp_path / "net", NETWORK, digits.subset(range(8)), TrainingConfig(steps=2, batch=4))
    with claimed(job.folder), pytest.raises(UserError, match="another process is training"):
        train_networks([job])
    assert train_networks([job]) == [job.folder]
    assert os.listdir(tmp_path) == ["net"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_state_is_refused(tmp_path, damage):
    state = SavedState(tmp_path / "net", "settings")
    state.write({"weight": torch.ones(3)}, {"losses": [1.0]})
    content = state.path.read_bytes()
    changed = {"cut": content[:-5], "flipped": bytes([content[0] ^ 255]) + content[1:], "empty": b""}
    state.path.write_bytes(changed[damage])
    with pytest.raises(UserError, match=r"damaged .* delete it to train from the beginning"):
        state.read()


def test_a_state_comes_back_as_it_was(tmp_path):
    state = SavedState(tmp_path / "net", "settings")
    assert state.read() is None
    tensors = {"weight": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "finished": torch.tensor(7)}
    state.write(tensors, {"losses": [0.1, 1 / 3]})
    found, progress = state.read()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert progress == {"losses": [0.1, 1 / 3]}


def dropping(digits, seed=0):
    """A trainer whose network draws dropout masks."""
    entry = architectures["ddpm++"]
    arguments = entry.arguments_for((1, 8, 8)) | {"model_channels": 8, "dropout": 0.5}
    config = NetworkConfig(
        architecture="ddpm++", arguments=arguments, preconditioning="edm", image_shape=(1, 8, 8), sigma_range=(0.1, 1.0)
    )
    return Trainer(build_network(config, seed), "edm", digits, TrainingConfig(steps=6, batch=4, seed=seed))


@pytest.mark.slow
def test_masks_of_dropout_are_those_of_the_step(digits):
    state = torch.get_rng_state()
    straight, stopped = dropping(digits), dropping(digits)
    losses = [straight.step().loss for _ in range(6)]
    assert torch.equal(torch.get_rng_state(), state), "training left its mark on the global generator"
    torch.manual_seed(99)
    found = [stopped.step().loss for _ in range(3)]
    later = dropping(digits)
    later.restore(stopped.state())
    torch.manual_seed(5)
    found += [later.step().loss for _ in range(3)]
    assert found == losses
    for key, value in straight.average.state_dict().items():
        assert torch.equal(later.average.state_dict()[key], value), key
    assert dropping(digits, seed=1).step().loss != losses[0]
