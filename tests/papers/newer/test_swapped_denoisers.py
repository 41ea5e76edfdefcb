"""Denoisers swapped in one interval: effects with a known answer, and the tiny run."""

import math

import numpy as np
import pytest

from scorescope.data import load_images
from scorescope.networks import NetworkConfig
from scorescope.papers.newer import SwappedDenoisers
from scorescope.papers.newer.swapped_denoisers import middle_advantage
from scorescope.papers.newer.swapped_runs import PATH, SwappedDenoisersConfig, all_runs
from scorescope.report import run_study
from scorescope.study.workspace import open_run
from scorescope.training import Selection, TrainingConfig, TrainingJob, train_networks


def copies(random, shares, count):
    return np.array([random.random(count) < share for share in shares])


def test_the_middle_is_found_where_it_is():
    random = np.random.default_rng(0)
    before = random.random(400) < 0.9
    middle = middle_advantage(before, copies(random, [0.9, 0.9, 0.1, 0.9, 0.9], 400))
    assert middle.low > 0.6
    assert middle.value == pytest.approx(0.8, abs=0.1)
    end = middle_advantage(before, copies(random, [0.1, 0.9, 0.9, 0.9, 0.9], 400))
    assert end.high < -0.6


def test_rises_are_falls_of_the_negative():
    random = np.random.default_rng(1)
    before = random.random(300) < 0.05
    after = copies(random, [0.05, 0.6, 0.05], 300)
    assert middle_advantage(-1.0 * before, -1.0 * after).low > 0.3


def test_nothing_swapped_has_no_middle():
    before = np.arange(100) % 3 == 0
    found = middle_advantage(before, np.stack([before] * 4))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_intervals_join():
    config = SwappedDenoisersConfig(edges=(0.1, 1.0, 4.0))
    assert config.intervals == [(0, 0.1), (0.1, 1.0), (1.0, 4.0), (4.0, math.inf)]
    assert (np.diff(np.log(config.centres)) > 0).all()
    with pytest.raises(ValueError, match="edges must increase"):
        SwappedDenoisersConfig(edges=(1.0, 0.1))


@pytest.mark.slow
def test_the_tiny_run_has_everything(tmp_path):
    found = run_study(
        SwappedDenoisers(), SwappedDenoisers.configure("tiny"), tmp_path / "run", cache=tmp_path / "cache"
    )
    assert [figure.key for figure in found.figures] == ["copies", "distance", "samples"]
    frame = found.tables["runs"].frame
    assert len(frame) == 1 + 2 + 2 * 2 * 3
    assert {claim.verdict for claim in found.claims} == {"not tested at this size"}
    assert "collapse" in found.figures[0].caption


@pytest.mark.slow
def test_a_checkpoint_says_which_images_it_memorizes(tmp_path):
    """What takes its place is built of none of them."""
    config = NetworkConfig(
        architecture="mlp",
        arguments={"image_shape": [1, 8, 8], "width": 8, "depth": 1},
        preconditioning="edm",
        image_shape=(1, 8, 8),
        sigma_range=(0.0, 2.0),
    )
    data = load_images("digits").train
    selection = Selection(total=data.stored, size=12, count=2, share=1, seed=3)
    few = selection.choose(data)
    job = TrainingJob(tmp_path / "network", config, few, TrainingConfig(steps=2, batch=4), selection)
    train_networks([job])
    asked = SwappedDenoisersConfig.model_validate(
        {"data": "digits", "side": None, "many": 300, "memorizing": f"{PATH}{job.folder}", "others": ["gaussian"]}
        | {"samples": 4, "levels": 4, "edges": [0.5, 1.0], "sigma_max": 80.0}
    )
    with open_run(tmp_path / "run", "any", asked) as workspace:
        made = all_runs(asked, workspace)
    assert np.array_equal(made.few.tensor(), few.tensor())
    assert not np.isin(made.many.indices, few.indices).any()
    assert made.sigma_max == 2.0  # what it was trained on
    assert [len(made.runs[0].copies(direction)) for direction in ("out", "in")] == [3, 3]
