"""What happens during training: statistics on cases with known answer, and three studies at preset tiny on the same runs."""

import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from scorescope.data import ImageSet
from scorescope.denoisers import LocalScoreDenoiser
from scorescope.foundation import UserError
from scorescope.networks import load_network
from scorescope.papers.kadkhodaie2024.trained import open_material
from scorescope.papers.newer import NetworkPhases, SelectiveUnderfitting, TrainingTimes
from scorescope.papers.newer.network_phases import Phases, beyond
from scorescope.papers.newer.selective_underfitting import OWN, SUPERVISED, measure_trends, rank_correlation
from scorescope.papers.newer.training_runs import RunsConfig
from scorescope.papers.newer.training_times import (
    COPIES,
    COPIES_BEGIN,
    GAP_OPENS,
    SAMPLES_GOOD,
    TIMES,
    mean_time,
    reached_times,
    words,
)
from scorescope.probes.power_law import Reached, power_law
from scorescope.report import run_study
from scorescope.study.pairs import NETWORKS, choose_pair
from scorescope.study.workspace import open_run
from scorescope.training import TrainingConfig, TrainingJob, train_networks


def runs_of(cache, study):
    folder = cache.parent / study.name.replace("/", "-")
    return run_study(study, study.configure("tiny"), folder, cache=cache)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("watched") / "cache"


@pytest.fixture(scope="module")
def times(cache):
    return runs_of(cache, TrainingTimes())


def trained(cache):
    """When each network of the cache was written."""
    return {path: path.stat().st_mtime_ns for path in cache.rglob("network.safetensors")}


def test_times_that_are_made_to_grow_with_n_are_found():
    """Distances fall at one step for all N, copies and gap rise at 20·N."""
    steps = [int(step) for step in np.geomspace(20, 20_000, 40)]
    x = np.log(steps)
    curves = {}
    for size in (16, 64, 256, 4096):
        late = 1 / (1 + np.exp(-4 * (x - math.log(20 * size))))
        curves[size] = {
            "distance": np.tile(1 + 9 / (1 + np.exp(4 * (x - math.log(150)))), (2, 1)),
            "unseen": np.tile(20 / (1 + np.exp(-4 * (x - math.log(150)))), (2, 1)),
            "copied": np.tile(late, (2, 1)),
            "gap": 6 * late,
        }
    found = reached_times(curves, steps)
    assert list(found) == list(TIMES)
    exponents = {name: power_law(*zip(*rows, strict=True)).exponent.value for name, rows in found.items()}
    assert exponents[SAMPLES_GOOD] == pytest.approx(0, abs=1e-3)
    assert exponents[COPIES_BEGIN] == pytest.approx(1, abs=0.03)
    assert exponents[GAP_OPENS] == pytest.approx(1, abs=0.03)
    assert [one.state for size, one in found[COPIES_BEGIN] if size == 4096] == ["later", "later"]
    begun = next(one.time for size, one in found[COPIES_BEGIN] if size == 64)
    wanted = 20 * 64 * (COPIES / (1 - COPIES)) ** 0.25  # where the logistic curve is at that level
    assert begun == pytest.approx(wanted, rel=0.05)


def test_times_in_words_and_their_mean():
    assert words(Reached(1234.4, "observed")) == "1,234"
    assert words(Reached(5000, "later")) == "> 5,000"
    assert words(Reached(40, "earlier")) == "< 40"
    assert mean_time([Reached(100, "observed"), Reached(400, "observed")]) == pytest.approx(200)
    assert math.isnan(mean_time([Reached(100, "observed"), Reached(400, "later")]))


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 5, (3, 9)).astype(float), random.standard_normal(9)
    assert rank_correlation(first, second) == pytest.approx([spearmanr(row, second).statistic for row in first])
    assert math.isnan(rank_correlation(np.ones(9), second))


def test_trends_of_errors_with_the_quality_of_samples():
    random = np.random.default_rng(1)
    noise = 1 + 0.05 * random.standard_normal((6, 2, 40))
    falling, rising = np.array([9.0, 7, 5, 4, 3, 2]), np.array([1.0, 2, 3, 4, 5, 6])
    errors = {SUPERVISED: falling[:, None, None] * noise, OWN: rising[:, None, None] * noise[::-1]}
    distance = np.array([60.0, 50, 40, 30, math.nan, 10])  # one flow led nowhere
    found = measure_trends(errors, distance)
    assert found[SUPERVISED] == pytest.approx((-1, -1, -1))
    assert found[OWN] == pytest.approx((1, 1, 1))
    assert found["ratio"] == pytest.approx((1, 1, 1))
    assert found["excess"][0] == pytest.approx(3, rel=0.05)
    assert found["excess"][1] < found["excess"][0] < found["excess"][2]
    assert found["first"][SUPERVISED] == pytest.approx(9, rel=0.05)
    assert found["best"][OWN] == pytest.approx(6, rel=0.05)
    assert math.isnan(measure_trends(errors, np.full(6, math.nan))[OWN][0])


def test_a_local_model_is_recognized_by_its_side():
    images = ImageSet(np.random.default_rng(2).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8))
    noisy = images.tensor(np.arange(10)) + 0.4 * torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sides = [1, 3, 5, 8]
    outputs = torch.stack([LocalScoreDenoiser(images, side)(noisy, 0.4) for side in (1, 3, 5, 15)]).double()
    network = outputs[1]
    to_local = (network - outputs).square().mean((2, 3, 4))[None, None]  # (1, 1, sides, inputs)
    spread = (network - network.mean(0)).square().mean((1, 2, 3))[None, None]
    phases = Phases(sides, np.array([[3.0], [1.0], [0.5], [0.0]]), to_local.numpy(), spread.numpy())
    assert phases.best_side().tolist() == [[3]]
    assert phases.match() == pytest.approx(np.array([[1.0]]))
    assert phases.boundary == pytest.approx([3 + 2 * (1 - math.log(2)) / 0.5])
    match, side = phases.redrawn(np.full((2, 10), 0.1))
    assert match == pytest.approx(np.ones((2, 1, 1)))
    assert (side == 3).all()
    assert beyond(np.array([[3, 9, 5]]), np.array([4.0, 4.0, math.nan])) == pytest.approx([0.5])
    assert math.isnan(beyond(np.array([3]), np.array([math.nan])))


@pytest.mark.parametrize(
    ("first", "steps", "count", "wanted"),
    [(40, 5000, 4, [40, 200, 1000, 5000]), (10, 25, 4, [10, 20, 25]), (100, 60, 3, [60])],
)
def test_steps_grow_by_a_factor(first, steps, count, wanted):
    config = RunsConfig(first=first, snapshots=count, training=TrainingConfig(steps=steps))
    assert config.steps == wanted
    assert config.untested
    assert not RunsConfig().untested


@pytest.mark.slow
def test_the_tiny_run_of_the_times(times):
    assert [figure.key for figure in times.figures] == ["times", "curves"]
    frame = times.tables["times"].frame
    assert frame["N"].tolist() == [4, 8, 16]
    assert all(text for name in TIMES for text in frame[name])
    assert times.arrays["copied 4"].shape == (2, 3)
    assert times.arrays["gap 4"].shape == (3,)
    assert times.arrays["gap 4"][-1] > times.arrays["gap 4"][0]
    assert {claim.verdict for claim in times.claims} == {"not tested at this size"}
    assert len(times.claims) == 4


@pytest.mark.slow
def test_the_other_studies_train_nothing_again(times, cache):
    before = trained(cache)
    underfitting = runs_of(cache, SelectiveUnderfitting())
    phases = runs_of(cache, NetworkPhases())
    assert trained(cache) == before
    assert [figure.key for figure in underfitting.figures] == ["errors", "levels", "samples"]
    assert underfitting.arrays[OWN].shape == underfitting.arrays[SUPERVISED].shape == (3, 4, 8)
    assert (underfitting.arrays[SUPERVISED] > 0).all()
    assert [figure.key for figure in phases.figures if figure.key != "match"] == [
        "diagram-16",
        "entropy-16",
        "diagram-4",
        "entropy-4",
    ]
    assert phases.arrays["to_local 16"].shape == (3, 2, 4, 6)
    assert set(phases.tables["sides"].frame["side"]) <= {1, 3, 5, 8}
    for found in (underfitting, phases):
        assert {claim.verdict for claim in found.claims} == {"not tested at this size"}
        assert len(found.claims) == 4


@pytest.mark.slow
def test_a_checkpoint_is_what_so_many_steps_give(times, cache, tmp_path):
    folder = next(path for path in cache.rglob("step-0000020") if load_network(path)[1].training["images"] == 16)
    _, config = load_network(folder)
    how = TrainingConfig.model_validate(config.training["config"]).model_copy(update={"steps": 20})
    study = TrainingTimes.configure("tiny")
    with open_run(tmp_path / "run", "test", {}, cache=cache) as workspace:
        images = choose_pair(open_material(study, workspace).images, 16, study.seed).training[NETWORKS[how.seed]]
    untrained = config.model_copy(update={"training": {}})
    train_networks([TrainingJob(tmp_path / "again", untrained, images, how)])
    kept, again = (load_file(place / "network.safetensors") for place in (folder, tmp_path / "again"))
    for name in again:  # sums in another order, as memory happens to lie, differ in the last bit
        torch.testing.assert_close(kept[name], again[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_cache_without_some_checkpoint_is_refused(times, cache, tmp_path):
    mine = shutil.copytree(cache, tmp_path / "cache")
    lost = next(mine.rglob("step-0000020"))
    shutil.rmtree(lost)
    with pytest.raises(UserError, match="is missing, a checkpoint on the way to .*: delete that folder"):
        run_study(TrainingTimes(), TrainingTimes.configure("tiny"), tmp_path / "run", cache=mine)
    shutil.rmtree(lost.parent.with_name(lost.parent.name.removesuffix("-checkpoints")))
    again = run_study(TrainingTimes(), TrainingTimes.configure("tiny"), tmp_path / "run", cache=mine)
    assert lost.exists()
    assert again.tables["times"].frame.equals(times.tables["times"].frame)


@pytest.mark.parametrize("study", [TrainingTimes, SelectiveUnderfitting, NetworkPhases])
def test_one_training_setting_leaves_the_others_as_they_are(study):
    assert study.configure("small", ["training.seed=0"]) == study.configure("small") == study.Config()
    changed = study.configure("small", ["training.steps=100"]).training
    assert (changed.steps, changed.batch, changed.schedule) == (100, 16, "constant")
