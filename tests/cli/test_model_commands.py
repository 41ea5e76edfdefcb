"""``scorescope model info`` and ``model check``: what is in a checkpoint, and whether it denoises."""

from __future__ import annotations

import json

import pytest
import torch
from tests.cli.conftest import refused, run
from tests.networks.readers.files import edm_pickle, song_network

from scorescope.foundation.randomness import seeded
from scorescope.networks.guided_unet import GuidedUNet


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with seeded(0):
        raw, averaged = (GuidedUNet(1, 2, 32, [32], 1, [0], num_heads=2).state_dict() for _ in range(2))
    torch.save({"model": raw, "ema": averaged, "step": 3}, "net.pt")
    (tmp_path / "edm.pkl").write_bytes(edm_pickle(song_network()))
    return tmp_path


def test_info_says_what_was_read_and_assumed(capsys, files):
    code, out, _ = run(capsys, "model", "info", "net.pt")
    assert code == 0
    assert "guided-unet, " in out
    assert "averaged (the raw ones: --weights raw)" in out
    assert "1 channels, any size" in out
    assert "noise prediction over the linear schedule of 1,000 steps" in out
    assert "--arch-arg image_size=N" in out
    assert "not recorded" in out


def test_info_as_json_is_complete(capsys, files):
    found = json.loads(run(capsys, "model", "info", "net.pt", "--arch", "guided-diffusion", "--json")[1])
    assert found["format"] == "guided-diffusion"
    assert found["parameters"] == sum(value.numel() for value in torch.load("net.pt")["ema"].values())
    assert found["image_shape"] == [1, None, None]
    assert found["weights"] == "averaged"
    assert found["flips"] is None
    assert {"prediction": "v", "schedule": "cosine"} in found["assumed"][-1]["otherwise"]
    own = json.loads(run(capsys, "model", "info", "edm.pkl", "--json")[1])
    assert own["image_shape"] == [1, 8, 8]
    assert own["assumed"] == []


@pytest.mark.slow
def test_check_ranks_the_ways(capsys, files):
    code, out, _ = run(capsys, "model", "check", "net.pt", "--data", "digits", "--arch-arg", "num_heads=2")
    assert code == 0
    assert "Doubtful: denoising 16 images of digits" in out
    assert "a Gaussian model of the data" in out
    assert "as it was opened" in out
    found = json.loads(
        run(capsys, "model", "check", "net.pt", "--data", "digits", "--arch-arg", "num_heads=2", "--json")[1]
    )
    means = [sum(way["gains"]) for way in found["ways"]]
    assert means == sorted(means, reverse=True)
    assert any(way["arguments"] == {} for way in found["ways"])
    assert any(way["arguments"].get("weights") == "raw" for way in found["ways"])


@pytest.mark.slow
def test_denoise_says_that_it_is_doubtful(capsys, files):
    words = ["--model", "net.pt", "--data", "digits", "--sigma", 0.5, "--count", 2, "--out", "d.png"]
    code, out, _ = run(capsys, "denoise", *words)
    assert code == 0
    assert "Doubtful: denoising 16 images of digits" in out


@pytest.mark.slow
def test_wrong_words_are_one_line(capsys, files):
    assert "no such checkpoint" in refused(capsys, "model", "info", "nothing.pt")
    assert "28×28" in refused(capsys, "model", "check", "edm.pkl", "--data", "fashion-mnist")
    assert "weights are averaged or raw" in refused(capsys, "model", "info", "net.pt", "--weights", "best")
    assert "no network is called" in refused(capsys, "model", "info", "net.pt", "--arch", "nothing")
