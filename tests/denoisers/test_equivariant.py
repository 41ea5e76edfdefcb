"""The equivariant and the border local score: golden data, limits, and the contract of all training-free denoisers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import relative_error
from tests.denoisers import sharing
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import (
    BorderLocalScoreDenoiser,
    EquivariantLocalScoreDenoiser,
    LocalScoreDenoiser,
    OptimalDenoiser,
    WindowSchedule,
    denoisers,
)
from scorescope.foundation import UserError

KINDS = [EquivariantLocalScoreDenoiser, BorderLocalScoreDenoiser]
both = pytest.mark.parametrize("kind", KINDS)
INNER = (..., slice(1, -1), slice(1, -1))


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(range(0, 1797, 60))


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_golden(golden):
    data = golden("local_machines.npz")
    levels = torch.from_numpy(data["sigma"])
    noisy = torch.from_numpy(data["clean"]) + levels[:, None, None, None, None] * torch.from_numpy(data["noise"])
    images, sigmas = ImageSet(data["images"]), levels.repeat_interleave(noisy.shape[1])
    for k, side in enumerate(data["kernel_sizes"].tolist()):
        denoised = EquivariantLocalScoreDenoiser(images, side)(noisy.flatten(0, 1), sigmas).reshape(noisy.shape)
        for found, expected in zip(denoised, data["equivariant_local_circular"][:, k], strict=True):
            assert relative_error(found, expected) < 1e-5


@both
def test_registered_as_costly(kind):
    entry = denoisers[kind.name]
    assert entry.costly
    assert entry.explanation
    assert entry.source
    assert entry.build(ImageSet(np.zeros((2, 1, 4, 4), np.uint8))).name == kind.name


@both
def test_mixed_noise_levels_and_windows_are_those_of_each_image_alone(kind, few):
    denoiser = kind(few)
    sigmas = torch.tensor([0.002, 0.3, 1.5, 5.0, 80.0])
    assert len({denoiser.schedule.side(sigma) for sigma in sigmas.tolist()}) > 2
    noisy = few.tensor(range(5)) + sigmas[:, None, None, None] * noise((5, 1, 8, 8))
    together = denoiser(noisy, sigmas)
    alone = torch.cat([denoiser(noisy[k : k + 1], float(sigmas[k])) for k in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert denoiser(noisy.double(), sigmas.double()).dtype == torch.float64


def test_high_noise_gives_the_mean_over_all_places_inside(few):
    denoised = EquivariantLocalScoreDenoiser(few, 3)(noise((2, 1, 8, 8)), 1e5)
    torch.testing.assert_close(denoised, few.tensor()[INNER].mean().expand(2, 1, 8, 8), rtol=0, atol=1e-4)


def test_high_noise_gives_the_mean_over_all_places_alike_at_the_border(few):
    denoised, images = BorderLocalScoreDenoiser(few, 3)(noise((1, 1, 8, 8)), 1e5)[0, 0], few.tensor()[:, 0]
    expected = images.mean(0)  # corners stand for themselves
    expected[1:-1, 1:-1] = images[INNER].mean()
    expected[0, 1:-1], expected[-1, 1:-1] = images[:, 0, 1:-1].mean(), images[:, -1, 1:-1].mean()
    expected[1:-1, 0], expected[1:-1, -1] = images[:, 1:-1, 0].mean(), images[:, 1:-1, -1].mean()
    torch.testing.assert_close(denoised, expected, rtol=0, atol=1e-4)


def test_low_noise_gives_the_nearest_patch(few):
    clean = few.tensor(range(7))
    noisy = clean + 0.002 * noise(clean.shape)
    torch.testing.assert_close(BorderLocalScoreDenoiser(few, 3)(noisy, 0.002), clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        EquivariantLocalScoreDenoiser(few, 3)(noisy, 0.002)[INNER], clean[INNER], rtol=0, atol=1e-6
    )


def test_low_noise_finds_a_patch_that_has_moved(few):
    clean = few.tensor(range(4))
    moved = clean.roll((2, -1), (2, 3))
    denoised = EquivariantLocalScoreDenoiser(few, 3)(moved + 0.002 * noise(clean.shape), 0.002)
    torch.testing.assert_close(denoised.roll((-2, 1), (2, 3))[INNER], clean[INNER], rtol=0, atol=1e-6)


def test_border_windows_beyond_the_image_give_the_local_score_and_then_the_optimal_denoiser(few):
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    for side in (8, 11):
        found, expected = BorderLocalScoreDenoiser(few, side)(noisy, 0.7), LocalScoreDenoiser(few, side)(noisy, 0.7)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found, expected = BorderLocalScoreDenoiser(few, 15)(noisy, 0.7), OptimalDenoiser(few)(noisy, 0.7)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@both
def test_permuting_the_training_set_changes_nothing(kind, few):
    order = np.random.default_rng(0).permutation(len(few))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    torch.testing.assert_close(kind(few, 3)(noisy, 0.7), kind(few.subset(order), 3)(noisy, 0.7), rtol=0, atol=2e-6)


@both
def test_virtual_flips_equal_stored_ones(kind, few):
    pixels = few.read(0, len(few))
    stored = ImageSet(np.concatenate([pixels, pixels[..., ::-1]]))
    noisy = few.tensor(range(3)) + 0.7 * noise((3, 1, 8, 8))
    torch.testing.assert_close(kind(few.with_flips(), 3)(noisy, 0.7), kind(stored, 3)(noisy, 0.7), rtol=0, atol=1e-6)


@both
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 1, 5), (2, 4, 3)])
def test_one_training_image_of_any_shape(kind, shape):
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8))
    clean = torch.from_numpy(oracles.values(images.pixels)).float().expand(2, *shape)
    for sigma in (0.002, 1.0, 80.0):
        denoised = kind(images)(clean + noise((2, *shape)) * sigma, sigma)
        assert torch.isfinite(denoised).all()
        assert (denoised.amin() >= clean.amin() - 1e-6) & (denoised.amax() <= clean.amax() + 1e-6)
    # As wide as the image is from every pixel: nothing can move.
    torch.testing.assert_close(BorderLocalScoreDenoiser(images, 9)(clean + 1, 1.0), clean, rtol=0, atol=1e-6)


@both
def test_temperature_is_a_larger_sigma_in_the_weights(kind, few):
    noisy = few.tensor(range(2)) + 0.5 * noise((2, 1, 8, 8))
    torch.testing.assert_close(kind(few, 3, temperature=4.0)(noisy, 0.5), kind(few, 3)(noisy, 1.0))
    with pytest.raises(UserError, match="temperature"):
        kind(few, temperature=0.0)


@both
def test_wrong_input_is_refused(kind, few):
    with pytest.raises(UserError, match="side"):
        kind(few, 0)
    for noisy, sigma in ((torch.zeros(2, 1, 8, 7), 1.0), (torch.full((1, 1, 8, 8), float("nan")), 1.0)):
        with pytest.raises(UserError):
            kind(few)(noisy, sigma)


@both
def test_even_sides_count_as_the_next_odd_one(kind, few):
    noisy = few.tensor(range(2)) + 0.5 * noise((2, 1, 8, 8))
    torch.testing.assert_close(kind(few, WindowSchedule.constant(4))(noisy, 0.5), kind(few, 5)(noisy, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, pytest.param(11, marks=pytest.mark.exhaustive)])
def test_two_processes_that_share_the_images_find_what_one_does(count, tmp_path):
    # Images are shared out four at a time: of three, one process gets none.
    environment = os.environ | {"PYTHONPATH": str(Path(sharing.__file__).parents[2])}
    words = [[sys.executable, sharing.__file__, str(tmp_path), str(rank), "2", str(count)] for rank in range(2)]
    processes = [subprocess.Popen(word, env=environment) for word in words]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    expected = sharing.denoised(count)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=0, atol=1e-6)
