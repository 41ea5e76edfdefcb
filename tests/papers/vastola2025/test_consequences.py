"""Consequences: the measurements on samples whose answer is known, and the study in its smallest size."""

import numpy as np
import pytest
import torch

from scorescope import report
from scorescope.papers.vastola2025 import consequence_cases as cases
from scorescope.papers.vastola2025.consequences import Consequences
from scorescope.papers.vastola2025.learned_by_linear import LinearDensityConfig


def test_density_in_the_middle_half_of_a_gap():
    uniform = torch.rand(3, 20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 - 1
    assert cases.in_gap(uniform, 0.0, 1.0) == pytest.approx([0.25] * 3, rel=0.1)
    assert cases.in_gap(torch.zeros(2, 5, 1), 0.5, 1.5).tolist() == [0.0, 0.0]


def test_the_participation_ratio_counts_directions():
    generator = torch.Generator().manual_seed(1)
    round_cloud = torch.randn(1, 20_000, 3, generator=generator, dtype=torch.float64)
    flat = round_cloud * torch.tensor([1.0, 0.0, 0.0])
    assert float(cases.participation_ratio(round_cloud)) == pytest.approx(3, rel=0.01)
    assert float(cases.participation_ratio(flat)) == pytest.approx(1)


def test_the_targets_variance_vanishes_far_from_the_data():
    found = cases.far_from_data(LinearDensityConfig(models=4, per_axis=8, samples=200))
    assert found["target"][-1] < 2e-3 * found["target"].max()
    assert 0.3 < found["x"][found["target"].argmax()] < 0.7  # between the points at 0 and 1
    assert (found["model"] > 0).all()


def test_copies_are_counted_in_the_share_of_the_data():
    found = cases.duplicates(LinearDensityConfig(models=3, per_axis=8, samples=2000, drawn=200, ridge=1e-3), 4)
    assert found["data share"] == pytest.approx(4 / 6)
    whole = found["near middle"] + found["near others"] + found["in gaps"]
    assert (whole <= 1).all()
    assert found["near middle"].mean() > found["near others"].mean() / 2


@pytest.mark.slow
def test_the_smallest_run_tests_every_consequence(tmp_path):
    results = report.run_study(Consequences(), Consequences.configure("tiny"), tmp_path / "run")
    assert len(results.claims) == 9
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert {exhibit.key for exhibit in results.figures} == {"line", "duplicates", "anisotropy", "far"}
    assert np.isfinite([float(row.split(" ")[0]) for row in results.tables["benign"].frame["value"]]).all()
