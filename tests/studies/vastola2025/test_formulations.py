"""The study of formulations: identities hold, and the page says so."""

from scorescope import report
from scorescope.studies.claims import HOLDS, NOT_TESTED
from scorescope.studies.vastola2025.formulations import Formulations, identities


def test_identities_hold_to_rounding():
    found = identities(Formulations.configure("tiny"))
    assert max(found["score"], found["proxy covariance"]) < 1e-10
    assert found["naive trajectories"] < 1e-8


def test_the_page_says_what_depends_on_the_formulation(tmp_path):
    results = report.run_study(Formulations(), Formulations.configure("tiny"), tmp_path / "run")
    assert [claim.verdict for claim in results.claims] == [HOLDS, HOLDS, NOT_TESTED, NOT_TESTED, NOT_TESTED]
    assert {exhibit.key for exhibit in results.figures} == {"densities", "variance"}
    assert list(results.tables["linear"].frame["prediction"]) == ["score", "denoiser", "noise"]
    assert len(results.tables["distances"].frame) == 3
