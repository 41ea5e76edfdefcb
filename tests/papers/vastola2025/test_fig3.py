"""Figure 3: strips along sides and diagonals, their index, and the page."""

import math

import pytest
import torch

from scorescope import report
from scorescope.foundation import UserError
from scorescope.papers.vastola2025.fig3 import Figure3, gap_strips, side_index, strip_shares
from scorescope.study.claims import NOT_TESTED
from scorescope.variance.point_sets import square


@pytest.mark.slow
def test_the_page_compares_features_and_theory(tmp_path):
    results = report.run_study(Figure3(), Figure3.configure("tiny"), tmp_path / "run")
    assert [exhibit.key for exhibit in results.figures] == ["densities", "fields"]
    assert all(claim.verdict == NOT_TESTED for claim in results.claims)
    assert len(results.tables["conditions"].frame) == 2


@pytest.mark.parametrize("rotation", [0.0, 0.3])
def test_strips_follow_the_square(rotation):
    corners = square(rotation)
    strips = gap_strips(corners)
    on_side, on_diagonal, at_corner = (corners[0] + corners[1]) / 2, corners[2] / 2, corners[3]
    points = torch.stack([on_side, on_diagonal, at_corner, 0 * at_corner])[None]
    areas = (4 * 0.24 * math.sqrt(2) / 2, 4 * 0.24 * 0.5)
    torch.testing.assert_close(strip_shares(points, strips)[0], torch.tensor([0.25 / a for a in areas]).double())


def test_index_and_its_error():
    shares = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.tensor(
        [1.0, 0.0]
    )
    index, error = side_index(shares)
    assert index == pytest.approx(math.log(3), abs=4 * error)
    several = torch.stack([torch.tensor(side_index(part)[0]) for part in shares.split(100)])
    assert float(several.std()) / 40**0.5 == pytest.approx(error, rel=0.4)


def test_unknown_features_are_refused():
    with pytest.raises(UserError, match="gaussian, fourier"):
        Figure3.configure("tiny", ["families=wavelets"])
