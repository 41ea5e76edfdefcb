"""Trends over size and training: snapshots are shorter runs, numbers with known trends get their verdicts, one tiny run."""

from __future__ import annotations

import numpy as np
import pytest

from scorescope.foundation import UserError
from scorescope.networks import load_network
from scorescope.papers.kadkhodaie2024.snapshots import snapshots
from scorescope.papers.kadkhodaie2024.trends import Trends
from scorescope.papers.kadkhodaie2024.trends_page import PHOTOGRAPHS, Quantity, fill
from scorescope.study.claims import FAILS, HOLDS, NOT_TESTED
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

SMALL = Trends.configure("small")
SIZES = [120_000, 480_000, 1_920_000]


def quantity(name: str, theory: float, measured: np.ndarray) -> Quantity:
    return Quantity(
        name, f"{name} grows", "figure", theory, measured, measured - 0.01, measured + 0.01, 20 + 0 * measured
    )


def verdicts(slopes: list[np.ndarray], skew: np.ndarray, config=SMALL) -> Results:
    results = Results(study="test", title="test")
    classes = [
        quantity(f"slope, α = {alpha:g}", alpha / (alpha + 1), one)
        for alpha, one in zip(config.alphas, slopes, strict=True)
    ]
    fill(results, classes, [quantity(f"asymmetry, {PHOTOGRAPHS}", 0.0, skew)], SIZES, config)
    return results


def test_verdicts_of_numbers_whose_trends_are_known() -> None:
    steps, size = np.arange(3.0)[None], np.arange(3.0)[:, None]
    scatter = 0.004 * np.array(
        [[1.0], [-2.0], [1.0]]
    )  # of networks, so that one class alone would show nothing with size
    grows = 0.5 + 0.03 * steps + 0.03 * size + scatter
    beyond = 0.95 - 0.03 * steps + 0 * size + scatter  # above theory, from where it falls
    still = 0.5 + 0 * steps + 0 * size - scatter
    results = verdicts([grows, beyond, still], 0.5 + 0.05 * steps - 0.0 * size + scatter)
    found = [claim.verdict for claim in results.claims]
    assert found == [HOLDS, HOLDS, HOLDS, FAILS, FAILS, FAILS, FAILS, FAILS]
    assert results.claims[0].note == "+0.030 a doubling, 0.62 at the largest size and length: grows towards"
    away = results.claims[6].interval
    assert away is not None
    assert away[1] < 0, "it moves away from theory"
    assert (
        "Slope, α = 3: 0.95 to 0.89 (theory 0.75), grows towards theory with training, not with size"
        in results.headline
    )
    frame = results.tables["trends"].frame
    trained, grown = (frame["change"][frame["with"] == how].tolist() for how in ("training", "size"))
    assert trained == pytest.approx([0.03, 0.03, 0, -0.05])
    assert grown == pytest.approx([0.015, 0, 0, 0], abs=1e-9), "a doubling, where sizes are two apart"
    assert len(results.tables["cells"].frame) == 4 * 9


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.schedule=cosine"], "depends on how long the run is"),
        (["lengths=400,800"], "at least 3 items"),
        (["lengths=400,1600,800"], "lengths must increase"),
        (["training.steps=100"], "set by lengths"),
    ],
)
def test_settings_that_have_no_trend_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Trends.configure("small", overrides)


def test_presets_decide_but_the_tiny_one() -> None:
    assert {name: not Trends.configure(name).too_small for name in Trends.presets} == {
        "tiny": False,
        "small": True,
        "full": True,
        "paper": True,
    }


@pytest.mark.slow
def test_a_tiny_run_decides_nothing_and_its_snapshots_are_what_shorter_runs_give(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "data"))
    config = Trends.configure("tiny")
    with open_run(tmp_path / "run", Trends.name, config, cache=tmp_path / "cache") as workspace:
        results = Trends().run(config, workspace)
    assert {claim.verdict for claim in results.claims} == {NOT_TESTED}
    assert [figure.key for figure in results.figures] == ["slopes", "asymmetry"]
    cells = results.tables["cells"].frame
    assert cells["steps"].tolist() == [4, 8, 16] * 9
    assert (cells["low"] <= cells["measured"]).all()
    assert (cells["measured"] <= cells["high"]).all()
    assert cells["parameters"].nunique() == 3
    sets = {"α = 2": config.load(2.0).train}
    with open_run(tmp_path / "again", Trends.name, config, cache=tmp_path / "other") as workspace:
        (shorter,) = snapshots(sets, config.network(2), [8], workspace)["α = 2"]
    kept = [load_network(folder.parent) for folder in (tmp_path / "cache").rglob("network.json")]
    matching = [
        network
        for network, found in kept
        if found.arguments["width"] == 2
        and found.training.get("step", found.training["config"]["steps"]) == 8
        and found.training["data"] == sets["α = 2"].name
    ]
    assert len(kept) == 18
    (snapshot,) = matching
    for name, value in shorter.network.state_dict().items():
        # Sums in another order, as memory happens to lie, differ in the last bit.
        np.testing.assert_allclose(
            value.numpy(), snapshot.state_dict()[name].numpy(), rtol=1e-4, atol=1e-6, err_msg=name
        )
