"""Critics' question 2: the comparison of targets on cases whose answer is known, and the study in its smallest size."""

import math

import numpy as np
import pytest
import torch

from scorescope import report
from scorescope.foundation import UserError
from scorescope.papers.vastola2025 import critics2
from scorescope.papers.vastola2025.critics2 import Critics2
from scorescope.papers.vastola2025.estimates import Estimate, mean_over_runs, removed_share, removed_share_of_means
from scorescope.papers.vastola2025.point_ensembles import off_points
from scorescope.papers.vastola2025.targets_on_images import nearest_distance
from scorescope.papers.vastola2025.targets_on_linear import LinearConfig, compare_linear
from scorescope.study.workspace import open_run


def test_student_intervals_hold_the_mean_as_often_as_they_say():
    runs = np.random.default_rng(0).normal(3.0, 2.0, (4000, 3))
    found = [mean_over_runs(row) for row in runs]
    covered = np.mean([one.low <= 3.0 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=0.015)
    assert mean_over_runs([2.0]).interval is None


def test_a_share_is_what_is_gone_without_the_cause():
    share = removed_share([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert (share.value, share.low, share.high) == pytest.approx((0.5, 0.5, 0.5))
    assert removed_share([1.0, 1.0], [1.0, 4.0]).value == pytest.approx(-1.0)  # geometric mean of 1 and 4 is 2
    with pytest.raises(ValueError, match="positive"):
        removed_share([1.0], [0.0])


def test_a_share_of_means_bears_runs_without_any_effect():
    generator = np.random.default_rng(1)
    share = removed_share_of_means([0.0, 0.2, 0.4, 0.2], [0.0, 0.1, 0.2, 0.1], generator)
    assert share.value == pytest.approx(0.5)
    assert share.low <= 0.5 <= share.high
    assert removed_share_of_means([0.0, 0.0], [0.0, 0.1], generator).interval is None


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.6, 0.9, "causes most"),
        (0.2, 0.9, "causes a part"),
        (-0.3, 0.05, "next to nothing"),
        (-0.1, 0.4, "holds both"),
    ],
)
def test_the_verdict_follows_the_interval(low, high, said):
    assert said in critics2.verdict(Estimate((low + high) / 2, low, high))


def test_distance_to_the_nearest_image_is_a_brute_force_minimum(digits):
    samples = torch.randn(6, 1, 8, 8)
    some = digits.subset(range(50))
    away = (samples[:, None].double() - some.tensor().double()).square().mean((2, 3, 4)).sqrt()
    assert nearest_distance(samples, some) == pytest.approx(away.min(1).values.numpy())


def test_samples_between_points_are_counted():
    samples = torch.tensor([[[-1.0], [0.0], [0.4], [0.09]], [[1.0], [1.0], [1.0], [5.0]]])
    assert off_points(samples, torch.tensor([[-1.0], [0.0], [1.0]]), 0.1).tolist() == [0.25, 0.25]
    with pytest.raises(UserError, match="positive"):
        off_points(samples, torch.zeros(1, 1), 0.0)


def test_with_many_draws_both_targets_give_the_same_linear_model(tmp_path):
    """The two least squares problems have the same limit, and the exact target gets there sooner."""
    config = LinearConfig(sets=("three on a line",), pools=(100, 6000), models=6, per_axis=6, samples=20, levels=4)
    with open_run(tmp_path / "run", "test", {}) as workspace:
        few, many = compare_linear(config, workspace)
    assert few.run_variance["closed-form"].mean() < few.run_variance["noisy"].mean()
    assert many.run_variance["noisy"].mean() < few.run_variance["noisy"].mean() / 10
    exact, noisy = (many.to_optimal[target].mean() for target in ("closed-form", "noisy"))
    assert noisy == pytest.approx(exact, rel=0.15)


@pytest.mark.slow
def test_the_smallest_run_says_that_it_decides_nothing(tmp_path):
    folder = tmp_path / "run"
    results = report.run_study(Critics2(), Critics2.configure("tiny"), folder, cache=tmp_path / "cache")
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert "decide nothing" in results.headline
    assert list(results.tables["images"].frame["N"]) == [10, 200]
    rows = results.tables["points"].frame
    assert set(rows["model"]) == {"linear model", "network"}
    assert all(math.isfinite(value) for value in rows["deviation, exact target"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Deviation from memorization at every noise level" in page
    assert "Samples of all networks, square" in page
