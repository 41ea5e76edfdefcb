"""Spectra of denoisers whose answers are known, and the study of figure 3 at its smallest."""

import itertools

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser, WaveletDenoiser
from scorescope.foundation import UserError
from scorescope.networks import UNet
from scorescope.probes.spectra import Spectrum, spectra
from scorescope.probes.spectrum_settings import SpectrumSettings
from scorescope.study import Results, open_run, studies

SETTINGS = SpectrumSettings(eigenpairs=12, rotations=4)


def stripes(count=80, side=12):
    """Images of a few waves of random amplitude."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[:side, :side] + 0.5
    waves = [np.cos(np.pi * (u * down + v * right) / side) for u, v in ((0, 1), (1, 0), (0, 3), (4, 0), (5, 0))]
    values = 127 + 30 * np.einsum("nk,kij->nij", rng.normal(size=(count, len(waves))), np.array(waves))
    return ImageSet(np.clip(values, 0, 255).astype(np.uint8)[:, None])


def test_spectrum_of_the_gaussian_denoiser_is_known():
    images, sigma = stripes(), 0.4
    denoiser = GaussianDenoiser(images)
    [[found]] = spectra(denoiser, images.tensor([3]), [sigma], SETTINGS, seed=0)
    expected = np.zeros(144)
    expected[: len(denoiser.variances)] = denoiser.variances / (denoiser.variances + sigma**2)
    assert found.exact
    assert found.eigenvalues == pytest.approx(np.sort(expected)[::-1], abs=1e-6)
    assert found.trace.value == pytest.approx(expected.sum())
    assert found.trace.error == 0
    assert found.asymmetry.value == pytest.approx(0, abs=1e-6)
    assert found.negative == 0
    black = images.tensor([3])[0].double().numpy() + 1
    kept = np.einsum(
        "kchw,chw->k", found.pictures[3:] / np.linalg.norm(found.pictures[3:], axis=(2, 3), keepdims=True), black
    )
    assert np.abs(kept) == pytest.approx(np.abs(found.coefficients[:12]), abs=1e-4)
    assert found.oracle == pytest.approx(found.coefficients**2 / (found.coefficients**2 + sigma**2))
    # nearly all contrast is in the five waves that the images are made of, and these are waves
    assert found.contrast_left[5] < 0.05
    assert found.contrast_left[-1] == pytest.approx(0, abs=1e-6)
    assert found.harmonic["concentration"][0] > found.harmonic["concentration"][1].max()


def network():
    torch.manual_seed(0)
    return NetworkDenoiser(UNet(1, 4, 2), "blind-residual", (1, 12, 12), (0.0, 2.0)).double()


@pytest.mark.slow
def test_large_images_give_the_same_from_products():
    images = stripes()
    clean = images.tensor([0, 5]).double()
    whole, parts = (
        spectra(network(), clean, [0.3, 0.8], SETTINGS.model_copy(update={"exact_up_to": limit}), seed=1)
        for limit in (1600, 0)
    )
    for one, other in zip(itertools.chain(*whole), itertools.chain(*parts), strict=True):
        assert one.exact
        assert not other.exact
        assert other.converged
        assert other.eigenvalues == pytest.approx(one.eigenvalues[:12], abs=1e-3)
        assert abs(other.trace.value - one.trace.value) < 5 * other.trace.error
        assert abs(other.asymmetry.value - one.asymmetry.value) < 5 * other.asymmetry.error
        assert other.negative == -1
        assert np.isnan(other.lowest)
        assert one.negative == (one.eigenvalues < -1e-4).sum()


def test_a_symmetric_bias_free_denoiser_is_explained_by_its_basis_and_others_are_not():
    [[found]] = spectra(network(), stripes().tensor([0]).double(), [0.3], SETTINGS, seed=1)
    assert found.denoised_left[0] == 1
    assert found.denoised_left[-1] == pytest.approx(_unexplained(found), abs=1e-3)
    assert 0 < found.denoised_left[-1] < 1


def _unexplained(found):
    """‖D − (J + Jᵀ)/2 y‖ / ‖D‖ from products."""
    from scorescope.probes.jacobian import jacobian_at

    noisy, denoised = (torch.from_numpy(found.pictures[place]).double() for place in (1, 2))
    linear = jacobian_at(network(), noisy, 0.3).symmetric(noisy[None] + 1)[0]
    return float((denoised + 1 - linear).norm() / (denoised + 1).norm())


def test_a_denoiser_that_is_not_differentiable_needs_a_step():
    images = stripes(4)
    with pytest.raises(UserError, match="finite_differences=STEP"):
        spectra(WaveletDenoiser(images), images.tensor([0]), [0.3], SETTINGS, seed=0)
    stepped = SETTINGS.model_copy(update={"finite_differences": 0.01, "exact_up_to": 0})
    [[found]] = spectra(WaveletDenoiser(images), images.tensor([0]), [0.3], stepped, seed=0)
    assert found.exact
    assert len(found.eigenvalues) == 144


def test_a_spectrum_survives_being_stored():
    [[found]] = spectra(GaussianDenoiser(stripes()), stripes().tensor([3]), [0.4], SETTINGS, seed=0)
    again = Spectrum.restored(found.stored())
    assert again.trace == found.trace
    assert again.band == found.band
    assert (again.pictures == found.pictures).all()
    assert again.harmonic["along"][0] == found.harmonic["along"][0]
    assert again.dimension == 144
    assert again.kept == 12


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fig3")
    one = studies["kadkhodaie2024/fig3"]
    config = one.configure("tiny")
    with open_run(folder / "run", one.name, config, cache=folder / "cache") as workspace:
        workspace.store(one().run(config, workspace))
        # a second time from the stored cells
        again = one().run(config, workspace)
    loaded = Results.load(folder / "run")
    assert again.to_json()["headline"] == loaded.headline
    return loaded


@pytest.mark.slow
def test_the_page_has_what_the_figure_asks_for(results):
    keys = {exhibit.key for exhibit in results.figures}
    assert {"eigenvalues", "coefficients", "unexplained", "eigenvectors", "dimension"} <= keys
    assert {"harmonicity-ranks", "harmonicity-levels"} <= keys
    frame = results.tables["spectra"].frame
    assert list(frame["σ"]) == [0.2, 0.5]
    assert np.isfinite(frame["asymmetry"]).all()
    values = results.arrays["eigenvalues"]
    assert values.shape == (2, 2, 64)
    assert frame["effective dimension"].to_numpy() == pytest.approx(values.sum(2).mean(1))
    assert results.arrays["concentration_rotated"].shape == (2, 2, 10)


@pytest.mark.slow
def test_claims_are_not_tested_on_tiny_images(results):
    assert len(results.claims) == 6
    for claim in results.claims:
        assert claim.verdict == "not tested at this size"
        assert "measured" in claim.note


@pytest.mark.slow
def test_claims_are_tested_on_a_denoiser_that_needs_no_training(tmp_path):
    one = studies["kadkhodaie2024/fig3"]
    config = one.configure(
        "tiny",
        [
            "data=natural-patches",
            'options={"size": 20, "n": 200, "test_n": 20}',
            "denoiser=gaussian",
            "shown_sigma=0.2",
        ],
    )
    with open_run(tmp_path / "run", one.name, config, cache=tmp_path / "cache") as workspace:
        found = one().run(config, workspace)
    verdicts = {claim.sentence.split(":")[0]: claim.verdict for claim in found.claims}
    assert verdicts["The Jacobian is nearly symmetric."] == "holds"
    assert verdicts["The shrinkage factors decay fast"] in ("holds", "fails")
    assert found.methods["Denoiser"].startswith("gaussian")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["denoiser=gausian"], "gaussian"),
        (["denoiser=network:nowhere"], "nowhere"),
        (["denoiser=wavelet"], "finite_differences=STEP"),
        (["size=1000000"], "has .* training images"),
    ],
)
def test_what_cannot_be_studied(overrides, message, tmp_path):
    one = studies["kadkhodaie2024/fig3"]
    config = one.configure("tiny", overrides)
    with (
        open_run(tmp_path / "run", one.name, config, cache=tmp_path / "cache") as workspace,
        pytest.raises(UserError, match=message),
    ):
        one().run(config, workspace)


def test_settings_that_do_not_fit():
    one = studies["kadkhodaie2024/fig3"]
    with pytest.raises(UserError, match="shown_sigma must be one of"):
        one.configure("tiny", ["shown_sigma=0.3"])
    with pytest.raises(UserError, match="sigmas must increase"):
        one.configure("tiny", ["sigmas=0.5,0.2"])
