"""The pretrained small networks: all there, they open, compute in single precision, and denoise clothes they have not seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scorescope.data import load_images
from scorescope.data.fashion_mnist import DEBIAN_FOLDER
from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses.subject import chosen
from scorescope.networks import load_network
from scorescope.probes.errors import denoising_psnr, input_psnr
from scorescope.training import Selection
from scorescope.training.shipped import FOLDER

ASSETS = Path(__file__).resolve().parents[2] / "assets"
RECIPES = ["unet", "bf-cnn", "ddpm++", "ddpm++-no-attention", "dit", "u-vit"]
FEW = [10, 100, 1000, 10000]
HALVES = [f"{recipe}-{split}" for recipe in RECIPES for split in "ab"]
ALONE = "ddpm-unet-no-attention-a"
NAMES = [*HALVES, ALONE, *(f"unet-{size}-{split}" for size in FEW for split in "ab")]


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_stored_in_half_and_used_in_single_precision(name):
    stored = load_file(ASSETS / name / "network.safetensors")
    network, config = load_network(ASSETS / name)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert all(bool(torch.isfinite(value).all()) for value in stored.values())
    denoised = NetworkDenoiser.open(ASSETS / name)(torch.zeros(2, *config.image_shape), 0.5)
    assert denoised.dtype == torch.float32
    assert config.training["command"].startswith("scorescope train --data fashion-mnist")
    assert config.training["config"]["steps"] == config.training["observed"][-1]["step"]


@pytest.mark.parametrize("recipe", [*RECIPES, *(f"unet-{size}" for size in FEW)])
def test_the_two_networks_of_an_architecture_saw_disjoint_images(recipe):
    records = [load_network(ASSETS / f"{recipe}-{split}")[1].training for split in "ab"]
    parts = [Selection.model_validate(record["selection"]) for record in records]
    size = int(recipe.removeprefix("unet-")) if recipe.startswith("unet-") else 30_000
    assert [(part.total, part.size, part.count, part.share, part.seed) for part in parts] == [
        (60_000, size, 2, share, 0) for share in (0, 1)
    ]
    assert records[0]["data_sha256"] != records[1]["data_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HALVES, ALONE, "unet-10000-a", "unet-10000-b"])
def test_unseen_clothes_are_denoised(name):
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip("fashion-mnist is not installed")
    unseen = chosen(load_images("fashion-mnist").test, 64, 0)
    found = denoising_psnr(NetworkDenoiser.open(ASSETS / name), unseen, [0.1, 0.5, 1.0], 0).mean(1)
    gained = found - [input_psnr(sigma) for sigma in (0.1, 0.5, 1.0)]
    assert (gained > np.array([3, 8, 11])).all()


@pytest.mark.parametrize("split", "ab")
def test_a_network_of_ten_images_knows_only_these(split):
    if not DEBIAN_FOLDER.is_dir():
        pytest.skip("fashion-mnist is not installed")
    data = load_images("fashion-mnist")
    record = load_network(ASSETS / f"unet-10-{split}")[1].training
    seen = Selection.model_validate(record["selection"]).choose(data.train).tensor()
    network = NetworkDenoiser.open(ASSETS / f"unet-10-{split}")
    own, others = (denoising_psnr(network, images, [0.5], 0).mean() for images in (seen, chosen(data.test, 32, 0)))
    assert own > others + 6


def test_together_they_are_a_few_megabytes():
    folders = [ASSETS, FOLDER]
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()) < 14e6
