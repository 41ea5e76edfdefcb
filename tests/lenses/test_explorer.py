"""What the explorer shows of a small network, against float64 brute force: pictures, derivatives, windows, training images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scorescope.data.images import to_uint8
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser, OptimalDenoiser
from scorescope.lenses import Explorer, LensSettings, Subject, look
from scorescope.lenses import explorer as explorer_module
from scorescope.lenses.mechanisms import rivals
from scorescope.lenses.origins import origins, pixel_grid, window_sides
from scorescope.networks import UNet
from scorescope.study import Results, open_run

SETTINGS = LensSettings(
    deviation_levels=3,
    deviation_inputs=2,
    explorer_images=2,
    explorer_pixels=9,
    explorer_sides=3,
    explorer_patches=3,
    samples=5,
    sampler_beta=0.5,
    sigma_end=0.3,
    spectrum_images=1,
    spectrum_levels=2,
)


@pytest.fixture(scope="module")
def subject(digits):
    torch.manual_seed(0)
    network = NetworkDenoiser(UNet(blocks=1, width=4), "blind-residual", (1, 8, 8), (0.0, 2.0), name="mine")
    training = digits.subset(range(60)).with_flips()
    return Subject({"mine": network}, {"mine": training}, digits.subset(range(1000, 1100)), names=("gaussian",))


def looked(subject, folder):
    results = Results(study="test", title="test")
    with open_run(folder / "run", "test", {}, cache=folder / "cache") as workspace:
        found = look(Explorer(), results, subject, SETTINGS, workspace)
    assert not results.not_measured
    assert results.exploration is found
    return found


@pytest.fixture(scope="module")
def found(subject, tmp_path_factory):
    return looked(subject, tmp_path_factory.mktemp("explorer"))


def noisy_of(found, subject, level):
    """The noisy images, unrounded, from the clean ones and what the lens documents of the noise."""
    clean = torch.from_numpy(found.clean.astype(np.float32) / 127.5 - 1)
    inputs = explorer_module.SameNoise("", found.sigmas, clean, SETTINGS.seed)
    assert torch.allclose(inputs.at(level), clean + found.sigmas[level] * inputs.noise)
    return inputs.at(level)


@pytest.mark.slow
def test_the_same_noise_is_added_at_every_level_to_images_of_both_kinds(found, subject):
    assert found.kinds == ["held-out", "held-out", "training", "training"]
    training = subject.first_training.take(range(60))
    assert all(any(np.array_equal(image, one) for one in training) for image in found.clean[2:])
    noise = []
    for level, sigma in enumerate(found.sigmas):
        assert np.array_equal(found.noisy[level], to_uint8(noisy_of(found, subject, level)))
        inside = (found.noisy[level] > 0) & (found.noisy[level] < 255)
        noise.append(np.where(inside, (found.noisy[level].astype(float) - found.clean) / 127.5 / sigma, np.nan))
    assert np.nanmax(np.abs(noise[0] - noise[1])) < 1 / 127.5 / min(found.sigmas[:2]) * 1.01
    assert np.nanstd(noise[1]) == pytest.approx(1, abs=0.3)


def test_pictures_and_distances_are_those_of_the_denoisers(found, subject):
    training = subject.first_training
    ways = {"mine": subject.first, "optimal": OptimalDenoiser(training), "gaussian": GaussianDenoiser(training)}
    assert found.denoisers == list(ways)
    for level, sigma in enumerate(found.sigmas):
        noisy = noisy_of(found, subject, level)
        with torch.no_grad():
            made = {name: way(noisy, sigma) for name, way in ways.items()}
        for place, name in enumerate(ways):
            apart = np.abs(found.denoised[level, :, place].astype(int) - to_uint8(made[name]).astype(int))
            assert apart.max() <= 1
            wanted = (made[name] - made["mine"]).double().square().mean((1, 2, 3))
            assert found.distances[level, :, place] == pytest.approx(wanted.numpy(), rel=1e-4, abs=1e-9)


def test_maps_are_derivatives_of_single_pixels(found, subject):
    network = NetworkDenoiser(subject.first.network.double(), "blind-residual", (1, 8, 8), (0.0, 2.0))
    noisy = noisy_of(found, subject, 1).double()
    row, column = found.pixels[4]
    image = noisy[3:4].clone().requires_grad_()
    (looks,) = torch.autograd.grad(network(image, found.sigmas[1])[0, 0, row, column], image)
    subject.first.network.float()
    wanted = looks[0, 0].abs().numpy()
    assert found.peaks[1, 3, 4] == pytest.approx(wanted.max(), rel=1e-5)
    assert found.sensitivity[1, 3, 4] == pytest.approx(255 * np.sqrt(wanted / wanted.max()), abs=0.51)


def brute(training, noisy, sigma, row, column, side):
    """Posterior weights of a window around a pixel and the posterior mean of that pixel, float64."""
    reach = side // 2
    cut = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    logits = -np.square(training[:, 0][(slice(None), *cut)] - noisy[0][cut]).sum((1, 2)) / (2 * sigma**2)
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    return weights, weights @ training[:, 0, row, column]


def test_windows_and_what_is_behind_them_are_exact(found, subject):
    training = subject.first_training.tensor().double().numpy()
    level, image = 1, 0
    noisy = noisy_of(found, subject, level).double().numpy()
    sigma, sides = found.sigmas[level], found.sides
    assert sides == [3, 7, 15]
    with torch.no_grad():
        made = subject.first(torch.from_numpy(noisy).float(), sigma).double().numpy()
    apart = np.empty((3, 8, 8))
    for place, side in enumerate(sides):
        for row, column in np.ndindex(8, 8):
            mean = brute(training, noisy[image], sigma, row, column, side)[1]
            apart[place, row, column] = (mean - made[image, 0, row, column]) ** 2
    for pixel, (row, column) in enumerate(found.pixels):
        around = apart[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean((1, 2))
        assert found.side_errors[level, image, pixel] == pytest.approx(around, rel=1e-3, abs=1e-7)
        best = int(found.best[level, image, pixel])
        assert around[best] <= 1.002 * around.min() + 1e-9
        assert (around[:best] > 1.0005 * around.min()).all()
        weights, _ = brute(training, noisy[image], sigma, row, column, sides[best])
        order = np.argsort(-weights)[:3]
        assert found.weights[level, image, pixel] == pytest.approx(weights[order], rel=1e-3, abs=1e-6)
        assert found.effective[level, image, pixel] == pytest.approx(
            np.exp(-(weights * np.log(np.maximum(weights, 1e-300))).sum()), rel=1e-3
        )
        named = found.behind_entries[level, image, pixel]
        for entry, weight in zip(named, found.weights[level, image, pixel], strict=True):
            if entry >= 0:
                assert weights[entry] == pytest.approx(weight, rel=1e-3, abs=1e-6)
        places = found.behind[level, image, pixel]
        known = places >= 0
        assert np.array_equal(known, named >= 0)
        assert np.array_equal(found.entries[places[known]], named[known])
        assert np.array_equal(found.training[places[known]], subject.first_training.take(named[known]))


def test_samples_stand_by_nearness_with_their_neighbours(found, subject):
    def directions(images):
        flat = images.reshape(len(images), -1).astype(float)
        flat = flat - flat.mean(1, keepdims=True)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    cosines = directions(found.samples) @ directions(subject.first_training.take(range(120))).T
    assert (np.diff(found.similarity[:, 0]) <= 0).all()
    # samples are kept as bytes, so their cosines are known to a few thousandths
    assert found.similarity == pytest.approx(-np.sort(-cosines, axis=1)[:, :4], abs=0.01)
    assert found.similarity == pytest.approx(np.take_along_axis(cosines, found.entries[found.neighbours], 1), abs=0.01)


def test_directions_are_eigenvectors_of_the_symmetric_part(found):
    assert found.eigenvectors.shape[:2] == (2, 1)
    assert (np.diff(found.eigenvalues, axis=-1) <= 1e-6).all()
    vectors = found.eigenvectors[1, 0].reshape(found.eigenvectors.shape[2], -1) / 127.5 - 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors @ vectors.T == pytest.approx(np.eye(len(vectors)), abs=0.05)


def test_training_images_without_room_are_named_all_the_same(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer_module, "MOST_TRAINING_BYTES", 30 * 64)
    few = looked(subject, tmp_path)
    assert len(few.training) == 30
    left_out = few.behind == explorer_module.NOT_KEPT
    assert left_out.any()
    assert (few.behind_entries[left_out] >= 0).all()
    assert (few.neighbours >= 0).all()
    weight = np.zeros(120)
    np.add.at(weight, few.behind_entries[few.behind_entries >= 0], few.weights[few.behind_entries >= 0])
    kept = np.setdiff1d(few.entries, few.entries[few.neighbours])
    gone = np.setdiff1d(few.behind_entries[left_out], few.entries)
    assert weight[kept].min() >= weight[gone].max()


def test_a_model_without_derivatives_or_samples_has_all_but_what_takes_them(digits, tmp_path, monkeypatch):
    class Rounds(torch.nn.Module):
        def forward(self, noisy, *_):
            return torch.round(noisy)

    def diverged(*_):
        return {"samples/rounds": np.full((3, 1, 8, 8), np.inf, np.float32)}

    monkeypatch.setattr(explorer_module, "stored_samples", diverged)

    images = digits.subset(range(20))
    network = NetworkDenoiser(Rounds(), "blind-residual", (1, 8, 8), (0.0, 2.0), name="rounds")
    network.differentiable = False
    found = looked(Subject({"rounds": network}, {"rounds": images}, None, names=("gaussian",)), tmp_path)
    assert set(found.missing) == {"sensitivity", "eigenvectors", "samples"}
    assert found.samples.shape == (0, 1, 8, 8)
    assert found.sensitivity.shape[0] == found.eigenvalues.size == 0
    assert set(found.kinds) == {"training"}
    assert found.spectrum_sigmas == []


def test_what_was_fitted_for_the_mechanisms_is_not_fitted_again(subject, tmp_path):
    again = replace(subject)
    with open_run(tmp_path / "run", "test", {}) as workspace:
        comparison, builder = rivals(again, SETTINGS, workspace)
        (one,) = comparison.networks
        built = builder.of(one).denoisers["gaussian"]
        assert rivals(again, SETTINGS, workspace)[1].of(one).denoisers["gaussian"] is built
        more = SETTINGS.model_copy(update={"deviation_levels": 4})
        assert len(rivals(again, more, workspace)[0].sigmas) == 4
    assert rivals(replace(subject), SETTINGS, workspace)[1] is not builder


def test_pixels_and_windows_are_spread_over_the_image(digits):
    assert pixel_grid(8, 8, 64) == [(row, column) for row in range(8) for column in range(8)]
    assert pixel_grid(28, 28, 9) == [(row, column) for row in (4, 14, 23) for column in (4, 14, 23)]
    assert pixel_grid(1, 5, 4) == [(0, 1), (0, 3)]
    assert window_sides(28, 28, 6) == [3, 5, 9, 15, 27, 55]
    assert window_sides(3, 3, 6) == [5]
    images = digits.subset(range(4))
    noisy = images.tensor([2])
    found = origins(images, OptimalDenoiser(images), noisy, 0.01, noisy, [(4, 4)], [3, 15], 3)
    assert found["entries"][0, 0, 0] == 2
    assert found["weights"][0, 0].sum() == pytest.approx(1)
