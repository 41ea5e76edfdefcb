"""Critics' question 3: the effective process where the theory is exact, and the study in its smallest size."""

import numpy as np
import pytest
import torch

from scorescope import report
from scorescope.papers.vastola2025.critics3 import Critics3, left_share, rank_correlation, variance_ratio
from scorescope.papers.vastola2025.ensemble_flows import compare_flows, independent_samples, sample_variances
from scorescope.variance.ensemble import Ensemble

POINTS = torch.tensor([-0.4, 0.1, 0.6])


def gaussian_members(count):
    """Denoisers that answer with constants drawn from a Gaussian: their flows end at the constant, exactly."""
    constants = torch.randn(count, 1, 1, 1, 1, generator=torch.Generator().manual_seed(4))

    def everywhere(noisy, sigma):
        return constants.expand(count, *noisy.shape)

    def own(noisy, sigma):
        return constants.expand_as(noisy)

    return Ensemble(everywhere, count), own, constants.flatten()


def test_gaussian_members_are_what_the_effective_process_makes_of_them():
    ensemble, own, constants = gaussian_members(400)
    start = torch.randn(6, 1, 1, 1)
    sigmas = [2.0, 1.0, 0.5, 0.2, 0.1]
    found = compare_flows(
        ensemble, own, lambda noisy, sigma: noisy.flatten(1).square().sum(1), start, sigmas, 400, torch.Generator()
    )
    assert found["members"][:, 0].ravel() == pytest.approx(constants.numpy(), abs=1e-6)
    assert found["average"].ravel() == pytest.approx(float(constants.mean()), abs=1e-5)
    ratio = variance_ratio(found)
    assert ratio.value == pytest.approx(1.0, abs=0.25)
    assert left_share(found) == pytest.approx(found["model"].mean(1) / found["target"].mean(1))
    assert np.isnan(rank_correlation(found).value)  # constants vary alike everywhere
    alone = independent_samples(ensemble, own, torch.randn(500, 4, 1, 1, 1), sigmas, torch.Generator())
    assert alone["effective"].std() == pytest.approx(float(constants.std()), rel=0.1)
    assert alone["average"].std() < 1e-5
    assert alone["members"].shape == (400, 4, 1, 1, 1)


def test_sample_variances_are_summed_over_pixels():
    samples = np.random.default_rng(0).normal(size=(5, 3, 1, 2, 2))
    assert sample_variances(samples) == pytest.approx(samples.reshape(5, 3, 4).var(0, ddof=1).sum(1))


@pytest.mark.slow
def test_the_smallest_run_shows_its_pages_and_decides_nothing(tmp_path):
    folder = tmp_path / "run"
    results = report.run_study(Critics3(), Critics3.configure("tiny"), folder, cache=tmp_path / "cache")
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert len(results.claims) == 6
    assert set(results.tables["profile"].frame["case"]) == {"points", "images"}
    assert set(results.sections) == {"Variance along the flow", "Samples"}
    assert (results.tables["profile"].frame["tr V σ²"] > 0).all()
