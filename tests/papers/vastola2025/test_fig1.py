"""Figure 1: regions and claims from the closed form, and a page that holds its maps."""

import pytest
import torch

from scorescope import report
from scorescope.foundation import UserError
from scorescope.papers.vastola2025.fig1 import Figure1, _regions
from scorescope.study.claims import HOLDS
from scorescope.variance.processes import LinearSignal
from scorescope.variance.proxy import PointProxy


@pytest.mark.slow
def test_the_page_holds_maps_claims_and_numbers(tmp_path):
    results = report.run_study(Figure1(), Figure1.configure("tiny"), tmp_path / "run")
    assert [exhibit.key for exhibit in results.figures] == ["fraction", "fields"]
    assert all(claim.verdict == HOLDS for claim in results.claims)
    assert len(results.tables["regions"].frame) == 20
    assert results.arrays["fraction-0"].shape == (5, 31, 31)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Share of noise in the training target" in page
    assert "mathdefault" not in page  # numbers of colour bars are plain text


def test_regions_of_two_points():
    """Half way between two points the score vanishes and all of the target is noise, along the line through them."""
    proxy = PointProxy(LinearSignal(), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    found = _regions(proxy, 0.05)
    assert found["between"] == pytest.approx(1)
    assert found["aligned"] == pytest.approx(1)
    assert found["around"] < 0.05


def test_settings_that_make_no_sense_are_refused():
    for override in ("times=0,0.5", "field_set=circle", "cells=2"):
        with pytest.raises(UserError):
            Figure1.configure("tiny", [override])
