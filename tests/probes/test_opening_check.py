"""What was assumed of a file is found out by denoising: real networks, trained for seconds, saved without saying how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.data import ImageSet, load_images
from scorescope.foundation.randomness import seeded
from scorescope.networks import OpenedNetwork, open_checkpoint, preconditioning_from
from scorescope.networks.ddpm_unet import DDPMUNet
from scorescope.networks.guided_unet import GuidedUNet
from scorescope.probes.opening_check import check_opening, checked

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits").train


def train(network: nn.Module, use: str, arguments: dict[str, Any], images: ImageSet, steps: int) -> nn.Module:
    """A few seconds of denoising, weighted so that all levels count."""
    preconditioning, pixels = preconditioning_from(use, arguments), images.tensor()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        clean = pixels[torch.randint(len(pixels), (16,), generator=generator)]
        sigma = torch.exp(1.3 * torch.randn(16, generator=generator) - 0.7)
        noise = torch.randn(clean.shape, generator=generator)
        denoised = preconditioning.denoise(network, clean + sigma.reshape(-1, 1, 1, 1) * noise, sigma)
        weight = (1 + sigma**-2).clamp(max=100).reshape(-1, 1, 1, 1)
        loss = (weight * (denoised - clean).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """Three checkpoints that say nothing of how they were trained, or not the truth."""
    folder = tmp_path_factory.mktemp("trained")
    with seeded(0):
        velocity = GuidedUNet(1, 1, 32, [32], 1, [0], num_heads=4, use_new_attention_order=True)
        flow = GuidedUNet(1, 1, 32, [32], 1)
        noise = DDPMUNet(1, 1, 32, [32], 1)
    sigmoid = {"time": {"kind": "table", "schedule": "sigmoid"}}
    torch.save(train(velocity, "v", sigmoid, digits, 120).state_dict(), folder / "model.pt")
    torch.save(train(flow, "flow", {}, digits, 80).state_dict(), folder / "straight.pt")
    young = {name: value.clone() for name, value in noise.state_dict().items()}
    trained = train(noise, "epsilon", {"image_range": [0, 1]}, digits, 80).state_dict()
    torch.save({"model": trained, "ema": young}, folder / "young.pt")
    return folder


def opening(path: Path, **said: Any) -> tuple[OpenedNetwork, Any]:
    opened = open_checkpoint(path, None, said, sides=(8, 8))

    def again(more: Mapping[str, Any]) -> OpenedNetwork:
        return open_checkpoint(path, None, {**said, **more}, sides=(8, 8), like=opened)

    return opened, again


@pytest.mark.exhaustive
def test_prediction_schedule_and_attention_are_found(files, digits):
    opened, again = opening(files / "model.pt")
    found = check_opening(opened, digits, again)
    assert found.doubtful
    best = found.trials[0].arguments
    assert best["prediction"] == "v"
    assert best["schedule"] == "sigmoid"
    assert best["use_new_attention_order"] is True
    assert found.trials[0].mean > found.own.mean + 3
    assert found.trials[0].mean > found.gaussian_mean - 1
    assert "Doubtful" in found.sentence
    assert "--arch-arg prediction=v" in found.sentence
    right = check_opening(again(best), digits, again)
    assert not right.doubtful
    assert not right.trials
    assert right.own.gains == pytest.approx(found.trials[0].gains)


@pytest.mark.slow
def test_a_flow_that_was_taken_for_noise_prediction_is_used_as_one_unasked(files, digits):
    opened, again = opening(files / "straight.pt")
    assert opened.config.preconditioning == "epsilon"
    taken = checked(opened, digits, again, CPU)
    assert taken.config.preconditioning == "flow"
    assert taken.origin.endswith("--arch-arg prediction=flow. It is used so from here on.")


@pytest.mark.slow
def test_raw_weights_and_the_range_of_images_are_found(files, digits):
    opened, again = opening(files / "young.pt")
    assert opened.weights == "averaged"
    found = check_opening(opened, digits, again)
    assert found.doubtful
    best = found.trials[0].arguments
    assert best["weights"] == "raw"
    assert best["image_range"] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("said", [{"prediction": "v", "schedule": "linear"}])
def test_a_wrong_word_of_the_users_is_found_too(files, digits, said):
    opened, again = opening(files / "straight.pt", **said)
    found = check_opening(opened, digits, again)
    assert found.doubtful
    assert found.trials[0].arguments["prediction"] == "flow"


@pytest.mark.slow
def test_what_denoises_is_left_as_it_is(files, digits):
    opened, again = opening(files / "straight.pt", prediction="flow")
    assert checked(opened, digits, again, CPU) is opened
    found = check_opening(opened, digits, again, always=True)
    assert not found.doubtful
    assert found.sentence.startswith("Checked: denoising 16 images of digits")
    assert found.better is None
    assert found.unambiguous is None


@pytest.mark.slow
def test_an_untrained_network_is_doubtful_and_nothing_is_chosen_for_it(tmp_path, digits):
    with seeded(1):
        network = GuidedUNet(1, 1, 32, [32], 1)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    opened, again = opening(tmp_path / "net.pt")
    kept = checked(opened, digits, again, CPU)
    assert kept.network is opened.network
    assert kept.config == opened.config
    assert "Doubtful" in kept.origin
    assert "trained little, or on other images" in kept.origin or "is clearly better" in kept.origin
    assert "Used otherwise" not in kept.origin


def test_gains_are_those_of_a_float64_computation(files, digits):
    opened, again = opening(files / "straight.pt", prediction="flow")
    found = check_opening(opened, digits, again, seed=3)
    order = np.random.default_rng(3).permutation(digits.stored)
    clean = digits.tensor(order[:16]).double()
    generator = torch.Generator().manual_seed(3)
    others = digits.tensor(order[16 : 16 + 512]).flatten(1).double()
    mean = others.mean(0)
    covariance = (others - mean).T @ (others - mean) / len(others)
    for level, sigma in enumerate(found.sigmas):
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator).double()
        wiener = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(64))
        linear = mean + (noisy.flatten(1) - mean) @ wiener.T
        tau = 1 / (1 + sigma)
        with torch.no_grad():
            net = opened.network((tau * noisy).float(), torch.full((16,), tau))
        for denoised, gain in (
            (linear.reshape(noisy.shape), found.gaussian),
            (tau * noisy + (1 - tau) * net, found.own.gains),
        ):
            expected = 10 * math.log10(float((noisy - clean).square().mean() / (denoised - clean).square().mean()))
            assert gain[level] == pytest.approx(expected, abs=1e-3)


def test_a_class_is_asked_for_where_the_network_needs_one(tmp_path):
    labels = np.arange(40) % 3
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8), labels)
    with seeded(1):
        network = GuidedUNet(1, 1, 32, [32], 1, num_classes=3)
    asked: list[list[int]] = []
    network.label_emb.register_forward_pre_hook(lambda module, given: asked.append(given[0].tolist()))
    torch.save(network.state_dict(), tmp_path / "net.pt")
    opened, again = opening(tmp_path / "net.pt")
    opened.network.label_emb.register_forward_pre_hook(lambda module, given: asked.append(given[0].tolist()))
    check_opening(opened, images, again)
    assert set(asked[0]) == {0, 1, 2}
    asked.clear()
    check_opening(opened, images, again, class_label=2)
    assert set(asked[0]) == {2}


@pytest.mark.slow
def test_ways_that_cannot_be_are_left_out(tmp_path, digits):
    """A network that looks its time up in a table takes no times outside of it, and none of them ends the check."""
    with seeded(1):
        network = DDPMUNet(1, 1, 32, [32], 1, steps=10)
    state = network.state_dict()
    theirs = {
        "temb.table": "time_embedding.timembedding.0",
        "temb.dense.0": "time_embedding.timembedding.1",
        "temb.dense.1": "time_embedding.timembedding.3",
        "conv_in": "head",
        "norm_out": "tail.0",
        "conv_out": "tail.2",
        "mid.block_1": "middleblocks.0",
        "mid.block_2": "middleblocks.1",
        "mid.attn_1": "middleblocks.0.attn",
        "down.0.block.0": "downblocks.0",
        "up.0.block.0": "upblocks.0",
        "up.0.block.1": "upblocks.1",
    }
    parts = {"norm1": "block1.0", "conv1": "block1.2", "temb_proj": "temb_proj.1", "norm2": "block2.0", "conv2": "block2.3",
             "nin_shortcut": "shortcut", "norm": "group_norm", "q": "proj_q", "k": "proj_k", "v": "proj_v",
             "proj_out": "proj"}  # fmt: skip
    renamed = {}
    for name, value in state.items():
        home = next(ours for ours in theirs if name.startswith(f"{ours}."))
        part, _, kind = name.removeprefix(f"{home}.").rpartition(".")
        renamed[".".join([theirs[home], *([parts[part]] if part else []), kind])] = value
    torch.save({"net_model": renamed}, tmp_path / "ckpt.pt")
    opened, again = opening(tmp_path / "ckpt.pt")
    assert opened.format == "pytorch-ddpm"
    found = check_opening(opened, digits, again, always=True)
    assert {"flow", "edm", "v"} <= {trial.arguments.get("prediction") for trial in found.trials}
