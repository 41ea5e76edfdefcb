"""Critics' question 4: shares in a gap, what is attributed to the variance, and the study in its smallest size."""

import math

import pytest
import torch

from scorescope import report
from scorescope.papers.vastola2025.critics4 import Critics4, GapFound, filled_before, middle_share
from scorescope.papers.vastola2025.estimates import Estimate
from scorescope.papers.vastola2025.learned_by_linear import LinearDensityConfig, learned, line_proxy, naive

TWO = torch.tensor([[-0.5], [0.5]])


def test_the_middle_half_of_a_gap():
    samples = torch.tensor([[[0.0], [0.24], [0.26], [-0.24]], [[1.0], [-0.3], [0.3], [0.1]]])
    assert middle_share(samples, 1.0).tolist() == [0.75, 0.25]


def test_a_single_point_leaves_nothing_to_the_variance():
    """With one training point the target has no variance: all fitted models, and their average, learn the same."""
    config = LinearDensityConfig(models=3, samples=4000, per_axis=8, drawn=50, ridge=1e-3)
    runs = learned(line_proxy(torch.tensor([[0.2]]), 1e-2), config)
    assert float((runs.models - runs.average).abs().max()) < 0.02
    still = naive(line_proxy(torch.tensor([[0.2]]), 1e-2), config, 0.05)
    assert torch.equal(still.models, still.exact)


def test_the_exact_score_leaves_the_gap_empty_and_naive_noise_does_not():
    config = LinearDensityConfig(models=4, drawn=300, steps=60)
    runs = naive(line_proxy(TWO, 1e-3), config, 0.05)
    assert middle_share(runs.exact, 1.0).max() < 0.03
    assert float(runs.models.std()) > 0.4
    assert runs.models.shape == (4, 300, 1)
    assert torch.equal(runs.average, runs.exact)


def test_verdicts_follow_intervals():
    def found(low, high, average):
        return GapFound("case", "gaussian", 1.0, 0.2, average, 0.0, Estimate((low + high) / 2, low, high))

    cases = [found(0.1, 0.2, 0.05), found(-0.2, -0.1, 0.4), found(-0.1, 0.1, 0.9), found(-0.3, -0.2, 0.2)]
    assert [one.says for one in cases] == ["fills", "empties", "undecided", "empties"]
    assert filled_before(cases, "empties") == pytest.approx(0.3)
    assert math.isnan(filled_before(cases[:1], "empties"))


@pytest.mark.slow
def test_the_smallest_run_shows_every_gap(tmp_path):
    results = report.run_study(Critics4(), Critics4.configure("tiny"), tmp_path / "run")
    rows = results.tables["gaps"].frame
    assert len(rows) == 2 * (2 + 1)
    assert set(rows["variance"]) <= {"fills", "empties", "undecided"}
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert "decide nothing" in results.headline
