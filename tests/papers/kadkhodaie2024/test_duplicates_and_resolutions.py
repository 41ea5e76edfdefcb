"""Figures 6 and 15: pairs across subsets by a full search, the growth of N* on gaps whose N* are known, what is refused."""

import json

import numpy as np
import pytest
import torch

from scorescope import report
from scorescope.data import load_images
from scorescope.data.splits import disjoint_subsets
from scorescope.foundation import UserError
from scorescope.papers.kadkhodaie2024.fig6 import Fig6
from scorescope.papers.kadkhodaie2024.fig15 import Fig15, growth_of
from scorescope.papers.kadkhodaie2024.psnr_gaps import psnr_gaps


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORESCOPE_CACHE", str(folder))
        yield folder


@pytest.mark.slow
def test_nearest_pairs_are_those_of_a_full_search(cache, tmp_path):
    results = report.run_study(Fig6(), Fig6.configure("tiny"), tmp_path / "run")
    rows = results.tables["pairs"].frame.set_index(["N", "near-duplicates"])
    flat = load_images("digits").train.tensor().double().flatten(1)
    flat = torch.nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
    first, second = disjoint_subsets(len(flat), 400, seed=0)
    best = (flat[first] @ flat[second].T).max(1).values
    assert rows.loc[(400, "before"), "largest"] == pytest.approx(best.max().item(), abs=1e-5)
    assert rows.loc[(400, "before"), "median"] == pytest.approx(np.median(best.numpy()), abs=1e-5)
    assert rows.loc[(400, "before"), "above 0.95 (%)"] == pytest.approx(100 * (best > 0.9501).double().mean().item())
    assert (rows.xs("after", level=1)["above 0.95 (%)"] == 0).all()
    assert [claim.verdict for claim in results.claims] == ["holds"]
    assert [exhibit.key for exhibit in results.figures] == ["nearest", "closest-before", "closest-after", "removed"]


def test_without_a_threshold_there_is_nothing_to_show(cache, tmp_path):
    with pytest.raises(UserError, match="set near_duplicates to a cosine similarity"):
        report.run_study(Fig6(), Fig6.configure("tiny", ["near_duplicates=null"]), tmp_path / "run")


def gaps_with(transition, sizes=(1, 10, 100, 1000), scatter=0.3):
    """Gaps that fall as a straight line in log N and are 1 dB at `transition`, from 200 images that scatter."""
    found = []
    for size in sizes:
        random = np.random.default_rng([size, int(transition)])
        gap = 1 + 2 * (np.log10(transition) - np.log10(size))
        one = {"sigma": np.array([1.0])}
        for name in "AB":
            one[f"train/{name}"] = 20 + gap + scatter * random.normal(size=(1, 200))
            one[f"test/{name}"] = 20 + scatter * random.normal(size=(1, 200))
        found.append(one)
    return psnr_gaps(sizes, found, 1.0)


def test_the_exponent_is_that_of_the_transitions():
    growth = growth_of([64, 196, 784], [gaps_with(30 * d**0.5) for d in (1, 196 / 64, 784 / 64)])
    assert growth.exponent == pytest.approx(0.5, abs=0.05)
    assert growth.interval[0] < 0.5 < growth.interval[1]
    assert growth.interval[1] - growth.interval[0] < 0.2


def test_resolutions_without_a_transition_are_left_out():
    gaps = [gaps_with(50), gaps_with(200), gaps_with(5000)]
    growth = growth_of([64, 256, 1024], gaps)
    assert growth.used == (True, True, False)
    assert growth.exponent == pytest.approx(1, abs=0.1)
    nothing = growth_of([64, 256], gaps[1:])
    assert (nothing.exponent, nothing.interval) == (None, None)


@pytest.mark.slow
def test_the_page_of_resolutions_has_its_parts(cache, tmp_path):
    results = report.run_study(Fig15(), Fig15.configure("tiny", ["sizes=2,60", "training.steps=60"]), tmp_path / "run")
    assert results.figures[0].key == "gap"
    assert results.tables["sizes"].frame["d"].tolist() == [16, 64]
    assert results.claims[0].verdict == "not tested at this size"
    for side in (4, 8):
        record = json.loads((tmp_path / "run" / "networks" / f"{side}x{side}" / "A-60" / "network.json").read_text())
        assert record["image_shape"] == [1, side, side]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sides=8,4", "sides must increase"),
        ("sides=7,8", "even numbers"),
        ("sides=8,16", "to fewer pixels, not to more"),
    ],
)
def test_impossible_sides_are_refused(cache, tmp_path, setting, message):
    with pytest.raises(UserError, match=message):
        report.run_study(Fig15(), Fig15.configure("tiny", [setting]), tmp_path / "run")
