"""Errors against known truths: the best kernel estimate, the exactly solvable case, and the study in its smallest size."""

import numpy as np
import pytest
import torch
from scipy import stats

from scorescope import report
from scorescope.foundation import UserError
from scorescope.papers.vastola2025.error import Error, ErrorConfig, _best_kernel, geometric
from scorescope.papers.vastola2025.gaussian_error import divergences, exact_case, floor
from scorescope.papers.vastola2025.mixture_error import GRID, Mixture, best_kernel, gaussian_cells


def test_cells_hold_the_probability_of_the_mixture():
    mixture = Mixture()
    cells = mixture.cells()
    assert float(cells.sum()) == pytest.approx(1)
    drawn = mixture.draw(60_000, torch.Generator().manual_seed(0))
    assert float((GRID.shares(drawn) - cells).abs().sum()) < 0.03


def test_the_best_bandwidth_is_the_best():
    mixture = Mixture()
    truth, data = mixture.cells(), mixture.draw(50, torch.Generator().manual_seed(1))
    value, width = best_kernel(truth, data, 10_000)
    for other in (width / 2, width * 2):
        estimate = gaussian_cells(data[:, 0], other)
        assert float((truth * (truth / (estimate + 1e-9)).log()).sum()) > value
    # of one data point the best estimate of a Gaussian is broader than the Gaussian
    single = Mixture(means=(0.0,), deviation=0.3)
    assert best_kernel(single.cells(), torch.tensor([[0.3]], dtype=torch.float64), 10_000)[1] > 0.3


def test_the_kernel_estimate_of_a_gaussian_is_a_sum_over_the_line():
    config = ErrorConfig(mean=0.0, deviation=1.0)
    # a single point at the mean: the best bandwidth is the truth's own, and nothing is left
    assert _best_kernel(config, np.array([0.0])) == pytest.approx(0, abs=2e-3)
    assert _best_kernel(config, stats.norm.ppf((np.arange(400) + 0.5) / 400)) < 0.01


def test_the_exact_score_comes_back_to_the_truth():
    truth = exact_case(0.01, 0.3, 0.5)
    process, end = truth.process, torch.tensor(0.01, dtype=torch.float64)
    alpha, noise = process.alpha(end), process.mean_variance(end, 1)
    noisy_truth = truth.divergence_to(
        alpha * truth.mean, alpha**2 * 0.25 + noise
    )  # what a flow that stops at ε reaches
    assert floor(truth, 1500) == pytest.approx(float(noisy_truth), rel=0.1)
    assert floor(truth, 60) < 1e-4


@pytest.mark.slow
def test_theory_and_training_runs_have_the_same_law():
    """For Gaussian data the two are the same random variable, drawn independently."""
    truth = exact_case(0.01, 0.3, 0.5)
    found = divergences(truth, 8, 80, 5.0, 1, 12, torch.Generator().manual_seed(3))
    assert found["data"].shape == (80, 8)
    assert found["spread"].mean() == pytest.approx(1, abs=4 * found["spread"].std() / 80**0.5)
    assert found["spread"].std() / 80**0.5 < 0.2
    assert stats.ks_2samp(found["real"], found["theory"]).pvalue > 0.01


def test_sizes_must_increase():
    with pytest.raises(UserError, match="must increase"):
        Error.configure("tiny", ["data=8,4"])


@pytest.mark.slow
def test_the_smallest_run_has_both_parts(tmp_path):
    results = report.run_study(Error(), Error.configure("tiny"), tmp_path / "run")
    rows = results.tables["errors"].frame
    assert list(rows["N"]) == [4, 16]
    assert (rows.drop(columns="N") > 0).all(axis=None)
    assert len(results.claims) == 6
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert geometric([1.0, 4.0]).value == pytest.approx(2)
