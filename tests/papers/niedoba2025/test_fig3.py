"""Figure 3: the tiny run, and concentration where the answer is known."""

import numpy as np
import pytest

from scorescope.denoisers import GivenHeatmaps
from scorescope.lenses.locality import heatmap_sheet
from scorescope.papers.niedoba2025 import Fig3, fig3
from scorescope.probes.concentration import SHARES, concentration
from scorescope.report import run_study
from scorescope.study.results import Results


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Fig3.configure("tiny", ["levels=3"])
    return run_study(Fig3(), config, tmp_path_factory.mktemp("fig3") / "run", cache=network_cache)


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny, network_cache):
    assert {figure.key for figure in tiny.figures} == {
        "concentration",
        *(f"heatmaps-{n}" for n in ("ddpm", "mlp", "gaussian")),
    }
    frame = tiny.tables["concentration"].frame
    assert len(frame) == 3 * 3
    sides = frame[[f"{share:.0%}" for share in SHARES]].to_numpy()
    assert (np.diff(sides, axis=1) >= 0).all()
    assert ((sides >= 1) & (sides <= 15)).all()
    assert [claim.verdict for claim in tiny.claims] == ["not tested at this size"]
    assert len(list((network_cache / "heatmaps").glob("*/sigma=*.npy"))) >= 2 * 3


def heatmaps_of_squares(*sides, size=9):
    """Heatmaps that are flat on the square of a side around each pixel, one a level."""
    rows, columns = np.indices((size, size))
    levels = []
    for side in sides:
        maps = np.zeros((size, size, size, size))
        for row in range(size):
            for column in range(size):
                maps[row, column] = np.maximum(abs(rows - row), abs(columns - column)) <= side // 2
        levels.append(maps)
    return GivenHeatmaps(np.array(levels), [10.0**-k for k in range(len(sides))])


def test_of_a_flat_square_half_its_area_holds_half():
    found = concentration("net", heatmaps_of_squares(5), [1.0], (9, 9))
    centre = found.sides[0, 4 * 9 + 4]
    assert centre.tolist() == [5, 5, 5]  # 9 of 25 pixels are less than half
    corner = found.sides[0, 0]
    assert corner.tolist() == [5, 5, 5]  # of 9 pixels inside the image the 4 nearest are less than half
    assert found.examples.shape == (4, 1, 9, 9)
    assert heatmap_sheet(found).tiles.shape[:2] == (4, 1)


def verdict(*sides, few=""):
    sigmas = [10.0**-k for k in range(len(sides))]
    found = concentration("net", heatmaps_of_squares(*sides), sigmas, (9, 9))
    results = Results(study="test", title="test")
    fig3.add_claims(results, [found], few)
    return results.claims[0].verdict


def test_the_claim_follows_the_heatmaps():
    assert verdict(13, 11, 9, 7, 5, 3) == "holds"
    assert verdict(3, 5, 7, 9, 11, 13) == "fails"
    assert verdict(13, 11, 9) == "not tested at this size"
    assert verdict(13, 11, 9, 7, 5, 3, few="1 image") == "not tested at this size"
