"""Mixtures of Gaussians of images, whole and in windows: their definitions in float64, and the contract of all denoisers."""

import numpy as np
import pytest
import torch
from tests.conftest import relative_error

from scorescope.data.images import ImageSet
from scorescope.denoisers import (
    GaussianDenoiser,
    GaussianMixtureDenoiser,
    LocalMixturesDenoiser,
    WindowMixtureDenoiser,
    denoisers,
)
from scorescope.denoisers.local_mixtures import scaled
from scorescope.denoisers.window_mixtures import places
from scorescope.foundation import UserError

SIGMAS = (0.002, 0.3, 1.0, 20.0)


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def training(digits):
    return digits.subset(range(900))


@pytest.fixture(scope="module")
def whole(training):
    return GaussianMixtureDenoiser(training, components=6, directions=20)


@pytest.fixture(scope="module")
def windows(training, whole):
    return WindowMixtureDenoiser(training, whole, 3, 2, components=4, temperature=1.5)


def log_normal(vector, mean, covariance):
    """The density with an inverse and a determinant."""
    deviation = vector - mean
    return -0.5 * (deviation @ np.linalg.inv(covariance) @ deviation + np.linalg.slogdet(2 * np.pi * covariance)[1])


def softmax(values):
    weights = np.exp(values - values.max())
    return weights / weights.sum()


def dense(whole):
    """The mixture as weights, means and covariances of whole images, all directions together."""
    mixture, axes = whole.mixture, whole.directions.numpy()
    rest = np.diag(whole.variances[whole.leading :].numpy())
    covariances = []
    for covariance in mixture.covariances.numpy():
        full = np.zeros((axes.shape[1],) * 2)
        full[: whole.leading, : whole.leading], full[whole.leading :, whole.leading :] = covariance, rest
        covariances.append(axes @ full @ axes.T)
    means = whole.mean.numpy() + mixture.means.numpy() @ axes[:, : whole.leading].T
    return mixture.log_weights.numpy(), means, covariances


def shares_and_mean(noisy, sigma, prior, means, covariances, temperature=1.0):
    blurred = [covariance + sigma**2 * np.eye(len(noisy)) for covariance in covariances]
    evidence = np.array([log_normal(noisy, mean, each) for mean, each in zip(means, blurred, strict=True)])
    shares = softmax(prior + evidence / temperature)
    filtered = [
        mean + covariance @ np.linalg.inv(each) @ (noisy - mean)
        for mean, covariance, each in zip(means, covariances, blurred, strict=True)
    ]
    return shares, shares @ np.array(filtered)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_whole_images_are_filtered_by_their_kind(whole, training, sigma):
    noisy = (training.tensor(range(2)) + sigma * noise((2, 1, 8, 8))).double()
    expected = [shares_and_mean(image.numpy().ravel(), sigma, *dense(whole)) for image in noisy]
    assert relative_error(whole(noisy, sigma).flatten(1), np.stack([mean for _, mean in expected])) < 1e-8
    found = whole.component_shares(noisy, sigma).numpy()
    assert found == pytest.approx(np.stack([shares for shares, _ in expected]), abs=1e-8)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_temperature_divides_the_evidence(training, sigma):
    """Of whole images too; at once infinitely high, what is known beforehand alone decides."""
    late = GaussianMixtureDenoiser(training, components=3, directions=12, temperature=2.5)
    noisy = (training.tensor(range(2)) + sigma * noise((2, 1, 8, 8))).double()
    expected = [shares_and_mean(image.numpy().ravel(), sigma, *dense(late), temperature=2.5) for image in noisy]
    assert relative_error(late(noisy, sigma).flatten(1), np.stack([mean for _, mean in expected])) < 1e-8
    found = late.component_shares(noisy, sigma).numpy()
    assert found == pytest.approx(np.stack([shares for shares, _ in expected]), abs=1e-8)
    late.temperature = 1e12
    prior = late.mixture.log_weights.exp().expand(2, -1)
    torch.testing.assert_close(late.component_shares(noisy, sigma), prior, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_windows_are_filtered_by_their_kind_and_that_of_the_image(whole, windows, training, sigma):
    noisy = (training.tensor(range(2)) + sigma * noise((2, 1, 8, 8))).double()
    expected = []
    for image in noisy.numpy():
        kinds = shares_and_mean(image.ravel(), sigma, *dense(whole))[0]
        total, weight = np.zeros((8, 8)), np.zeros((8, 8))
        for window in windows.windows:
            place = (window.rows, window.columns)
            prior = np.log(np.exp(window.table.numpy()).T @ kinds)
            parts = window.mixture.means.numpy(), window.mixture.covariances.numpy()
            _, mean = shares_and_mean(image[0][place].ravel(), sigma, prior, *parts, temperature=1.5)
            profile = np.sin(np.pi * np.array([0.25, 0.5, 0.75])) ** 2
            total[place] += np.outer(profile, profile) * mean.reshape(3, 3)
            weight[place] += np.outer(profile, profile)
        expected.append(total / weight)
    assert relative_error(windows(noisy, sigma)[:, 0], np.stack(expected)) < 1e-8


def test_tables_say_how_often_kinds_went_together(whole, windows, training):
    window = windows.windows[3]
    for row in window.table.exp():
        assert float(row.sum()) == pytest.approx(1)
    patches = training.tensor(whole.chosen)[:, :, window.rows, window.columns].flatten(1).double()
    own, kinds = window.mixture.shares(patches, 0.1), whole.shares.double()
    counted = kinds.mT @ own
    share = counted / counted.sum(1, keepdim=True)
    often = kinds.sum(0) > 50
    assert (window.table.exp() - share)[often].abs().max() < 0.15
    assert float((window.table.exp()[0] - window.table.exp()[1]).abs().max()) > 0.1  # it does depend on the kind


def test_one_component_is_the_gaussian_denoiser(training):
    noisy = training.tensor(range(3)) + 0.5 * noise((3, 1, 8, 8))
    found = GaussianMixtureDenoiser(training, components=1)(noisy, 0.5)
    torch.testing.assert_close(found, GaussianDenoiser(training)(noisy, 0.5), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["whole", "windows"])
def test_mixed_noise_levels_are_those_of_each_image_alone(kind, training, request):
    denoiser = request.getfixturevalue(kind)
    sigmas = torch.tensor([0.002, 0.3, 1.0, 0.3, 80.0])
    noisy = training.tensor(range(5)) + sigmas[:, None, None, None] * noise((5, 1, 8, 8))
    together = denoiser(noisy, sigmas)
    alone = torch.cat([denoiser(noisy[k : k + 1], float(sigmas[k])) for k in range(5)])
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert denoiser(noisy.double(), sigmas.double()).dtype == torch.float64


def test_unseen_images_are_denoised_better_the_more_is_known_of_them(digits, training, whole, windows):
    clean = digits.tensor(range(1200, 1500))
    noisy = clean + 0.5 * noise(clean.shape)
    errors = [float((d(noisy, 0.5) - clean).square().mean()) for d in (GaussianDenoiser(training), whole)]
    assert errors[1] < 0.9 * errors[0]
    alone = WindowMixtureDenoiser(training, GaussianMixtureDenoiser(training, components=1), 3, 2, components=4)
    in_context, without = (float((d(noisy, 0.5) - clean).square().mean()) for d in (windows, alone))
    assert in_context < 0.97 * without


def test_windows_cover_the_image():
    assert [place.start for place in places(28, 7, 3)] == [0, 3, 6, 9, 12, 15, 18, 21]
    assert [place.start for place in places(10, 4, 5)] == [0, 5, 6]
    assert places(5, 9, 2) == [slice(0, 5)]


def test_colours_belong_to_one_vector():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 3, 5, 4)).astype(np.uint8)
    images = ImageSet(pixels)
    whole = GaussianMixtureDenoiser(images, components=2)
    denoised = WindowMixtureDenoiser(images, whole, 3, 1, components=2)(images.tensor(range(4)), 0.01)
    assert denoised.shape == (4, 3, 5, 4)
    torch.testing.assert_close(denoised, images.tensor(range(4)), rtol=0, atol=0.05)


def test_registered_with_an_explanation():
    entry = denoisers["gaussian-mixture"]
    assert entry.explanation
    assert entry.source


def test_what_cannot_be_is_refused(training, whole):
    for options in ({"components": 0}, {"directions": 0}, {"pool": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(UserError, match="at least 1|positive and finite"):
            GaussianMixtureDenoiser(training, **options)
    for arguments, options in (
        ((0, 1), {}),
        ((3, 0), {}),
        ((3, 1), {"components": 0}),
        ((3, 1), {"temperature": -1.0}),
    ):
        with pytest.raises(UserError, match="at least 1|positive and finite"):
            WindowMixtureDenoiser(training, whole, *arguments, **options)


@pytest.fixture(scope="module")
def local(digits):
    return LocalMixturesDenoiser(
        digits.subset(range(1000)), windows=((11, 6, 6), (18, 6, 6)), components=8, levels=[0.5]
    )


def test_sizes_are_mixed_by_what_they_do_to_unseen_images(local, digits):
    assert [member.name for member in local.members] == ["gaussian", "gaussian-mixture", *["window-mixture"] * 2]
    assert [window.rows.stop for window in (local.members[2].windows[0], local.members[3].windows[0])] == [3, 5]
    clean = digits.tensor(range(1300, 1700))
    noisy = clean + 0.5 * noise(clean.shape)
    errors = [float((member(noisy, 0.5) - clean).square().mean()) for member in local.members]
    assert float((local(noisy, 0.5) - clean).square().mean()) < 1.005 * min(errors)


def test_images_that_are_held_out_are_not_fitted_to(local, digits):
    images = digits.subset(range(1000))
    fitted = local.members[1]
    assert len(local.clean) == 100
    assert len(fitted.chosen) == 900
    clean = images.tensor()
    held_out = {int((clean - image).square().sum((1, 2, 3)).argmin()) for image in local.clean}
    assert len(held_out) == 100
    # the Gaussian's mean is that of the 900 others
    kept = sorted(set(range(1000)) - held_out)
    torch.testing.assert_close(local.members[0].mean, clean[kept].flatten(1).double().mean(0), rtol=0, atol=1e-6)


def test_windows_go_with_the_image():
    assert scaled(((5, 3, 32), (9, 3, 48), (13, 5, 48)), 28) == [(5, 3, 32), (9, 3, 48), (13, 5, 48)]
    assert scaled(((5, 3, 32), (9, 3, 48), (13, 5, 48)), 64) == [(11, 7, 32), (21, 7, 48), (29, 11, 48)]
    assert scaled(((5, 3, 32), (9, 3, 48), (13, 5, 48)), 8) == [(3, 1, 32)]
    assert scaled(((5, 3, 32),), 3) == []


def test_mixtures_need_images_to_hold_out():
    with pytest.raises(UserError, match="at least 2 images"):
        LocalMixturesDenoiser(ImageSet(np.zeros((1, 1, 6, 6), np.uint8)))
    assert denoisers["local-mixtures"].costly
