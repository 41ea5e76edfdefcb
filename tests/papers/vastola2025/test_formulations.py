"""The study of formulations: identities hold, and the page says so."""

import numpy as np
import pytest

from scorescope import report
from scorescope.papers.vastola2025.formulations import Formulations, identities, linear_models
from scorescope.study.claims import HOLDS, NOT_TESTED


@pytest.mark.slow
def test_identities_hold_to_rounding():
    found = identities(Formulations.configure("tiny"))
    assert max(found["score"], found["proxy covariance"]) < 1e-10
    assert found["naive trajectories"] < 1e-8


@pytest.mark.slow
def test_places_that_no_feature_reaches_do_not_spoil_the_ratios():
    found = linear_models(Formulations.configure("small", models=20, points=20, samples=400))
    for one in found["models"].values():
        for key in ("ratio", "leading"):
            assert np.isfinite(one[key]).all()
            assert one[key] == sorted(one[key])
            assert 0.1 < one[key][1] < 10


@pytest.mark.slow
def test_the_page_says_what_depends_on_the_formulation(tmp_path):
    results = report.run_study(Formulations(), Formulations.configure("tiny"), tmp_path / "run")
    assert [claim.verdict for claim in results.claims] == [HOLDS, HOLDS, NOT_TESTED, NOT_TESTED, NOT_TESTED]
    assert {exhibit.key for exhibit in results.figures} == {"densities", "variance"}
    assert list(results.tables["linear"].frame["prediction"]) == ["score", "denoiser", "noise"]
    assert len(results.tables["distances"].frame) == 3
