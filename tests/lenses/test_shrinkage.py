"""The lens of shrinkage, on a real small network and on what cannot be differentiated."""

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser, WaveletDenoiser
from scorescope.lenses import LensSettings, Subject, look
from scorescope.lenses.shrinkage import Shrinkage, levels
from scorescope.networks import UNet
from scorescope.study import Results, open_run

CONFIG = LensSettings()
IMAGES, LEVELS = CONFIG.spectrum_images, CONFIG.spectrum_levels


def network(sigma_range=(0.0, 2.0)):
    torch.manual_seed(0)
    return NetworkDenoiser(UNet(1, 4, 2), "blind-residual", (1, 8, 8), sigma_range)


def page_of(denoiser, images, folder):
    results = Results(study="main/explain", title="explain")
    with open_run(folder / "run", "main/explain", {}, cache=folder / "cache") as workspace:
        subject = Subject({"network": denoiser}, {"network": images}, None)
        look(Shrinkage(), results, subject, CONFIG, workspace)
        before = results.tables["spectra"].frame if results.tables else None
        workspace.store(results)
        assert workspace.done("shrinkage") == bool(results.tables)
    return before, Results.load(folder / "run")


@pytest.mark.slow
def test_a_network_gets_its_basis_dimension_asymmetry_and_harmonicity(digits, tmp_path):
    frame, results = page_of(network(), digits.subset(range(50)), tmp_path)
    keys = [exhibit.key for exhibit in results.figures]
    for key in ("eigenvalues", "coefficients", "eigenvectors", "dimension", "harmonicity-ranks", "harmonicity-levels"):
        assert key in keys
    assert list(frame["σ"]) == pytest.approx(np.geomspace(0.1, 1, LEVELS))
    assert {"effective dimension", "asymmetry", "concentration", "concentration, rotated"} <= set(frame.columns)
    assert f"{IMAGES} images" in results.methods["Shrinkage"]
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}


@pytest.mark.slow
def test_claims_are_tested_on_images_that_are_large_enough(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 1, 5, 5)).astype(np.uint8).repeat(4, 2).repeat(4, 3)
    _, results = page_of(GaussianDenoiser(ImageSet(pixels)), ImageSet(pixels), tmp_path)
    verdicts = {claim.sentence: claim.verdict for claim in results.claims}
    assert verdicts["The Jacobian is nearly symmetric."] == "holds"
    assert "not tested at this size" not in verdicts.values()


@pytest.mark.slow
def test_large_images_are_measured_by_products(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 3, 5, 5)).astype(np.uint8).repeat(4, 2).repeat(4, 3)
    denoiser = GaussianDenoiser(ImageSet(pixels))
    frame, results = page_of(denoiser, ImageSet(pixels), tmp_path)
    assert frame["lowest λ"].isna().all()
    exact = [float((denoiser.variances / (denoiser.variances + sigma**2)).sum()) for sigma in frame["σ"]]
    assert frame["effective dimension"].to_numpy() == pytest.approx(exact, rel=1e-3)
    assert frame["asymmetry"].to_numpy() == pytest.approx(np.zeros(LEVELS), abs=1e-4)
    assert "approximate" not in results.methods["Shrinkage"]


def test_what_is_not_differentiable_says_so(digits, tmp_path):
    _, results = page_of(WaveletDenoiser(digits), digits, tmp_path)
    assert "takes a derivative" in results.not_measured["Shrinkage"]
    assert results.sections == {"Shrinkage": []}


def test_levels_are_those_the_network_knows():
    assert levels(network((0.3, 0.5)), LEVELS) == pytest.approx(np.geomspace(0.3, 0.5, LEVELS))
    assert levels(network((2.0, 80.0)), LEVELS) == [2.0]


@pytest.mark.slow
def test_claims_that_need_more_eigenpairs_than_were_computed_are_not_tested(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 3, 20, 20)).astype(np.uint8)
    _, results = page_of(GaussianDenoiser(ImageSet(pixels)), ImageSet(pixels), tmp_path)
    verdicts = {claim.sentence: claim.verdict for claim in results.claims}
    assert verdicts["The clean image's coefficients decay fast in the denoiser's basis."] == "not tested at this size"
    assert verdicts["The Jacobian is nearly symmetric."] == "holds"
