"""Critics' question 1: the tests of normality on numbers that are, and are not, Gaussian; the study in its smallest size."""

import numpy as np
import pytest
from scipy import stats

from scorescope import report
from scorescope.foundation import UserError
from scorescope.papers.vastola2025.critics1 import MODELS, Critics1
from scorescope.papers.vastola2025.normality import holm, normality_of


def test_gaussian_numbers_pass_as_often_as_they_should():
    found = normality_of(np.random.default_rng(0).normal(3.0, 2.0, (60, 40, 100)))
    assert found.runs == 60
    assert len(found.p_values) == 4000
    assert found.below_level == pytest.approx(0.05, abs=0.02)
    assert found.rejected_share < 0.002
    assert np.sqrt((found.skewness**2).mean()) == pytest.approx(found.expected_skewness, rel=0.03)
    assert np.sqrt((found.excess**2).mean()) == pytest.approx(found.expected_excess, rel=0.05)


def test_others_are_rejected():
    generator = np.random.default_rng(1)
    skewed = normality_of(generator.exponential(size=(200, 50)))
    assert skewed.rejected_share == 1
    assert skewed.skewness.mean() == pytest.approx(2, rel=0.2)
    two_values = normality_of(generator.choice([-1.0, 1.0], (200, 50)))
    assert two_values.rejected_share == 1
    assert two_values.excess.mean() == pytest.approx(-2, abs=0.05)


def test_holm_is_its_definition():
    p_values = [0.001, 0.04, 0.011, 0.3, 0.0124]
    assert holm(p_values, 0.05).tolist() == [True, False, True, False, True]
    # 0.03 passes no step before it, so a smaller threshold later does not save it
    assert holm([0.03, 0.026], 0.05).tolist() == [False, False]


def test_constant_outputs_are_left_out_and_few_runs_refused():
    values = np.random.default_rng(2).normal(size=(30, 4))
    values[:, 1] = 5.0
    found = normality_of(values)
    assert found.skewness == pytest.approx(stats.skew(values[:, [0, 2, 3]], axis=0))
    with pytest.raises(UserError, match="at least 20 training runs, found 8"):
        normality_of(np.zeros((8, 3)))
    with pytest.raises(UserError, match="no output varies"):
        normality_of(np.ones((30, 3)))


@pytest.mark.slow
def test_the_smallest_run_tests_all_three_models(tmp_path):
    results = report.run_study(Critics1(), Critics1.configure("tiny"), tmp_path / "run", cache=tmp_path / "cache")
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    rows = results.tables["normality"].frame
    assert tuple(dict.fromkeys(rows["model"])) == MODELS
    assert len(rows) == 3 + 3 * 3
    assert set(rows["runs"]) == {40, 20}
    assert {exhibit.key for exhibit in results.figures} == {"histograms", "levels", "p-values"}
