"""Permuted pixels: the permutation itself, networks for which it must not matter, and every verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data.images import ImageSet
from scorescope.data.store import Provenance, writing_store
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.papers.kadkhodaie2024 import fig21, permuted_pixels
from scorescope.papers.kadkhodaie2024.fig21 import Fig21
from scorescope.papers.kadkhodaie2024.permuted_pixels import (
    CONNECTED,
    CONVOLUTIONAL,
    ORIGINAL,
    PERMUTED,
    Both,
    Data,
    Measured,
    Permutation,
    PermutedConfig,
)
from scorescope.study.claims import FAILS, HOLDS, NOT_TESTED
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

CONFIG = PermutedConfig(data="digits", images=50, test_images=30, levels=3, eigen_images=2, shown=(1, 2))


def test_a_permutation_is_undone_and_moves_all_channels_alike() -> None:
    permutation = Permutation((4, 6), seed=1)
    images = torch.arange(2 * 3 * 24.0).reshape(2, 3, 4, 6)
    moved = permutation.of(images)
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    assert torch.equal(permutation.undone(moved), images)
    assert torch.equal(moved[0, 1] - moved[0, 0], torch.full((4, 6), 24.0)), "the same place in every channel"
    assert sorted(moved[1, 2].flatten().tolist()) == images[1, 2].flatten().tolist()
    assert torch.equal(Permutation((4, 6), seed=1).of(images), moved)
    assert not torch.equal(Permutation((4, 6), seed=2).of(images), moved)


def test_a_set_is_permuted_as_its_images_are(digits: ImageSet) -> None:
    permutation = Permutation((8, 8), seed=0)
    some = digits.subset([5, 3, 100])
    assert torch.equal(permutation.of_set(some).tensor(), permutation.of(some.tensor()))
    assert "permuted" in permutation.of_set(some).name


class Pixelwise(nn.Module):
    """Every pixel times its own factor: knows no neighbours."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy * (1 - self.factors)


class Smoothing(nn.Module):
    """The mean over 3×3 pixels: relies on neighbours."""

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy - nn.functional.avg_pool2d(noisy, 3, stride=1, padding=1)


def denoiser(network: nn.Module) -> NetworkDenoiser:
    return NetworkDenoiser(network, "blind-residual", (1, 8, 8), (0.0, 2.0))


def test_what_the_permutation_costs_is_nothing_without_neighbours_and_much_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = permuted_pixels.load(CONFIG)
    assert torch.equal(data.train[PERMUTED].tensor(), data.permutation.of(data.train[ORIGINAL].tensor()))
    factors = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    made = {
        "unet": {ORIGINAL: denoiser(Smoothing()), PERMUTED: denoiser(Smoothing())},
        "mlp": {
            ORIGINAL: denoiser(Pixelwise(factors)),
            PERMUTED: denoiser(Pixelwise(data.permutation.of(factors))),
        },
    }
    monkeypatch.setattr(permuted_pixels, "trained_on", lambda _, settings, __: made[settings.architecture])
    with open_run(tmp_path / "run", Fig21.name, CONFIG) as workspace:
        found = permuted_pixels.measure(CONFIG, data, workspace)
    alone, smoothed = found[CONNECTED], found[CONVOLUTIONAL]
    assert np.abs(alone.loss).max() < 1e-4, "the same images and the same noise, in another order"
    assert alone.original.eigenvalues == pytest.approx(alone.permuted.eigenvalues, abs=1e-6)
    assert alone.original.eigenvalues[0, 0] == pytest.approx(float(factors.max()), abs=1e-6)
    assert alone.original.kept() == pytest.approx(float(factors.sum() / factors.max()), rel=1e-5)
    assert np.abs(np.abs(alone.original.pictures[2:]) - np.abs(alone.permuted.pictures[2:])).max() < 1e-6, (
        "eigenvectors are put back into the order of the picture"
    )
    assert alone.original.pictures[:2] == pytest.approx(alone.permuted.pictures[:2], abs=1e-5)
    assert smoothed.loss[0].mean() > 0.2, "neighbours in the array are no longer alike"


def fabricated(lost: float, kept: float) -> Both:
    psnr = np.linspace(20, 30, 3)[:, None] + np.zeros((3, 5))
    values = np.linspace(1, 0, 40)[None].repeat(2, 0)
    pictures = np.zeros((4, 1, 4, 4))
    original = Measured(psnr, values, np.zeros(2), pictures)
    more = np.concatenate([np.ones((2, round((kept - 1) * 20))), values], axis=1)
    return Both(original, Measured(psnr - lost, more, np.zeros(2), pictures))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unet", "mlp", "steps", "verdicts"),
    [
        ((3.0, 1.5), (0.1, 1.0), 2000, [HOLDS, HOLDS, HOLDS]),
        ((0.5, 1.1), (-0.4, 1.0), 2000, [FAILS, FAILS, FAILS]),
        ((3.0, 1.5), (0.1, 1.0), 100, [NOT_TESTED] * 3),
    ],
)
def test_verdicts_follow_from_the_numbers(
    unet: tuple[float, float], mlp: tuple[float, float], steps: int, verdicts: list[str]
) -> None:
    config = Fig21.configure(
        "small", [f"convolutional.training.steps={steps}", "shown=1,2", "levels=3", "connected.training.seed=4"]
    )
    assert config.connected.architecture == "mlp", "changing one setting leaves the others"
    data = Data({}, torch.zeros(1, 1, 28, 28), Permutation((28, 28), 0), "clothes")
    results = Results("s", "t")
    fig21.fill(results, {CONVOLUTIONAL: fabricated(*unet), CONNECTED: fabricated(*mlp)}, data, config)
    assert [claim.verdict for claim in results.claims] == verdicts
    assert results.tables["permuted"].frame["directions kept"].tolist()[:2] == pytest.approx([20, 20 * unet[1]])
    assert f"costs the UNet {unet[0]:.1f} dB" in results.headline


def test_a_store_without_test_images_gives_some_of_its_own(tmp_path: Path, digits: ImageSet) -> None:
    with writing_store(tmp_path / "faces") as writer:
        writer.append(digits.read(0, 60))
        writer.provenance = Provenance(source="digits", colour="grey")
    config = CONFIG.model_copy(update={"data": str(tmp_path / "faces"), "images": 40, "test_images": 20})
    data = permuted_pixels.load(config)
    train = {image.tobytes() for image in data.train[ORIGINAL].tensor().numpy()}
    assert len(data.clean) == 20
    assert not any(image.tobytes() in train for image in data.clean.numpy())
    with pytest.raises(UserError, match="41 training images, and 20 others .* has 60: set images to at most 40"):
        permuted_pixels.load(config.model_copy(update={"images": 41}))
    with pytest.raises(UserError, match="64 eigenvectors, number 65"):
        permuted_pixels.load(config.model_copy(update={"shown": (65,)}))


@pytest.mark.slow
def test_a_tiny_run_says_that_it_decides_nothing(tmp_path: Path) -> None:
    config = Fig21.configure("tiny", ["convolutional.training.steps=3", "connected.training.steps=3", "eigen_images=1"])
    with open_run(tmp_path / "run", Fig21.name, config, cache=tmp_path / "cache") as workspace:
        results = Fig21().run(config, workspace)
    assert {claim.verdict for claim in results.claims} == {NOT_TESTED}
    assert sorted(path.name for path in (tmp_path / "run" / "networks").iterdir()) == [
        "mlp-original",
        "mlp-permuted",
        "unet-original",
        "unet-permuted",
    ]
    assert {exhibit.key for exhibit in results.figures} == {"psnr", "loss", "eigenvalues", "eigenvectors"}
