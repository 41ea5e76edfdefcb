"""Isolated images and memorized ones: the tiny run."""

import numpy as np
import pytest

from scorescope.papers.newer import LocalCoverage
from scorescope.report import run_study


@pytest.mark.slow
def test_the_tiny_run_has_everything(tmp_path):
    found = run_study(LocalCoverage(), LocalCoverage.configure("tiny"), tmp_path / "run", cache=tmp_path / "cache")
    assert [figure.key for figure in found.figures] == ["coverage", "levels", "images"]
    groups = found.tables["groups"].frame
    assert groups["images"].sum() == 24
    assert (np.diff(groups["coverage"]) > 0).all()
    assert len(found.tables["predicted"].frame) == 3 + 2
    assert {claim.verdict for claim in found.claims} == {"not tested at this size"}
