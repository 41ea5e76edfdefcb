"""Figure 2: golden densities, what counts as a gap, and a page that says what it could not test."""

import pytest
import torch

from scorescope import report
from scorescope.foundation import UserError
from scorescope.papers.vastola2025.fig2 import Figure2
from scorescope.papers.vastola2025.three_points import _gap_cells, scene
from scorescope.study.claims import NOT_TESTED
from scorescope.variance.features import bumps
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.learned_density import Density, Grid, total_variation
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.point_sets import three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy

TINY = ["epsilons=0.01", "samples=40", "models=6", "points=200", "per_axis=4"]


@pytest.mark.slow
def test_the_page_shows_densities_beside_the_theory(tmp_path):
    results = report.run_study(Figure2(), Figure2.configure("tiny", TINY), tmp_path / "run")
    keys = {exhibit.key for exhibit in results.figures}
    assert keys == {"densities", "gaps", "distances", "variances", "fields"}
    assert all(claim.verdict == NOT_TESTED and claim.note for claim in results.claims)
    row = results.tables["conditions"].frame.iloc[0]
    assert row["F/P"] == pytest.approx(16 / 40)
    assert 0 <= row["in gaps"] <= 1
    assert row["TV floor"] > 0


@pytest.mark.parametrize("case", ["eps0.01_P64", "eps0.01_P1024", "eps0.001_P256"])
def test_average_density_against_the_golden_one(golden, case):
    """Golden samples read the field from a grid of 200 positions and clamp it at its edges; ours clamp too, and are exact."""
    data = golden("vastola.npz")
    epsilon, samples = float(case[3:].split("_")[0]), int(case.split("P")[1])
    process, generator = VariancePreserving(epsilon), torch.Generator().manual_seed(0)
    proxy, features = PointProxy(process, three()), bumps(1, 16, (epsilon, 1.0))
    models = fit_linear(proxy, features, LinearTraining(samples, 0.1), 100, generator)
    starts = process.start(100 * 1000, 1, generator).reshape(100, 1000, 1)
    ends = follow_flow(models, starts, process.times(30), window=(-1.5, 1.5))
    width = 3 / 199
    found = Density.of(ends, Grid(-1.5 - width / 2, 1.5 + width / 2, 200))
    assert found.inside == pytest.approx(float(data[f"fig2/{case}/fraction_inside"]), abs=0.015)
    shares = torch.from_numpy(data[f"fig2/{case}/average_density"]) * width
    coarse = [one.reshape(20, 10).sum(1) for one in (found.shares.mean(0)[:-1], shares)]
    halves = [found.shares[part::2].mean(0)[:-1].reshape(20, 10).sum(1) for part in (0, 1)]
    # Two sets of 100 models differ by about as much as halves of one do, over √2; the grid of positions adds a little.
    chance = float(total_variation(*halves)) / 2**0.5
    assert float(total_variation(coarse[0] / coarse[0].sum(), coarse[1] / coarse[1].sum())) < 2.5 * chance + 0.03


def test_gaps_lie_between_points_and_away_from_them():
    config = Figure2.configure("tiny")
    proxy, _, _ = scene(config, 0.01, 64)
    grid = Grid(-1.5, 1.5, 60)
    gaps = grid.centres[_gap_cells(proxy, grid)[:-1]].abs()
    assert float(gaps.min()) > 0.2
    assert float(gaps.max()) < 0.8
    assert len(gaps) == 24


def test_settings_that_make_no_sense_are_refused():
    for override in ("epsilons=0", "samples=0", "family=wavelets", "models=1"):
        with pytest.raises(UserError):
            Figure2.configure("tiny", [override])


@pytest.mark.slow
def test_two_values_make_no_trend_but_enough_models_test_the_rest(tmp_path):
    settings = ["epsilons=0.01", "samples=30,60", "models=50", "points=50", "per_axis=3"]
    results = report.run_study(Figure2(), Figure2.configure("tiny", settings), tmp_path / "run")
    tested = {claim.sentence: claim for claim in results.claims if claim.verdict != NOT_TESTED}
    assert len(tested) == 4
    ratio = next(claim for sentence, claim in tested.items() if "proposition 5.1" in sentence)
    assert ratio.value is not None
    assert ratio.value > 0
    assert all("three values" in claim.note for claim in results.claims if claim.verdict == NOT_TESTED)
