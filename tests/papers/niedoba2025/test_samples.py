"""Samples from shared starts: what they are, what they do not depend on, and what is refused."""

import itertools

import numpy as np
import pytest
import torch

from scorescope.denoisers import GaussianDenoiser
from scorescope.foundation import UserError
from scorescope.lenses.drawing import guarded
from scorescope.lenses.samples import sample_sheet
from scorescope.papers.niedoba2025 import Fig9
from scorescope.papers.niedoba2025.samples import (
    SampledConfig,
    open_cast,
    samples_of,
    vectors_of_samples,
)
from scorescope.probes.features import PixelFeatures
from scorescope.study import Results, open_run


def opened(tmp_path, network_cache, *overrides):
    config = Fig9.configure("tiny", ["mechanisms.names=gaussian", "training.architectures=mlp", *overrides])
    with open_run(tmp_path / f"run {' '.join(overrides)}", "test", {}, cache=network_cache) as workspace:
        return open_cast(config, workspace), workspace


@pytest.fixture
def cast(tmp_path, network_cache):
    return opened(tmp_path, network_cache)


def test_networks_come_first_and_everything_is_there(cast):
    found, _ = cast
    assert list(found.denoisers) == ["mlp", "optimal", "gaussian"]
    assert found.training_free == ["optimal", "gaussian"]
    assert found.sigmas == sorted(found.sigmas, reverse=True)
    low, high = found.first.denoiser.sigma_range
    assert (found.sigmas[0], found.sigmas[-1]) == pytest.approx((min(high, 80.0), max(low, 0.002)))
    assert low <= found.sigmas[-1] < found.sigmas[0] <= high
    assert len(found.sigmas) == found.config.levels


def test_levels_that_follow_from_the_networks_are_not_warned_of(tmp_path, network_cache, capsys):
    opened(tmp_path, network_cache)
    assert "warning" not in capsys.readouterr().err
    opened(tmp_path, network_cache, "sigmas=70,10,1,0.1,0.001")
    assert "2 of the 5 levels lie outside" in capsys.readouterr().err


def test_samples_are_eulers_steps_of_the_flow(cast):
    found, workspace = cast
    made = samples_of(found, "gaussian", workspace)
    y = found.starts(range(found.config.samples)).double()
    for sigma, following in itertools.pairwise([*found.sigmas, 0.0]):
        y = y + (following - sigma) * (y - found.denoisers["gaussian"](y, sigma)) / sigma
    assert made.shape == (6, 1, 8, 8)
    assert made == pytest.approx(y.numpy(), abs=2e-4)


def test_a_sample_does_not_depend_on_its_company(tmp_path, network_cache):
    base, workspace = opened(tmp_path, network_cache)
    other, alone = opened(tmp_path, network_cache, "at_once=1", "samples=3")
    for name in base.denoisers:
        assert samples_of(other, name, alone) == pytest.approx(samples_of(base, name, workspace)[:3], abs=1e-5)


def test_other_seeds_are_other_starts(tmp_path, network_cache):
    base, _ = opened(tmp_path, network_cache)
    other, _ = opened(tmp_path, network_cache, "seed=1")
    assert not torch.allclose(base.starts(range(3)), other.starts(range(3)))
    starts = base.starts(range(4)) - base.centre
    assert float(starts.std()) == pytest.approx(base.sigmas[0], rel=0.15)
    assert not torch.allclose(starts[0], starts[1])


def test_an_interrupted_run_does_not_repeat_its_cells(cast, monkeypatch):
    found, workspace = cast
    complete = samples_of(found, "optimal", workspace)

    def refuses(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(found.denoisers["optimal"], "denoise", refuses)
    assert np.array_equal(samples_of(found, "optimal", workspace), complete)


def test_the_optimal_denoiser_samples_training_images(cast):
    found, workspace = cast
    made = samples_of(found, "optimal", workspace).reshape(6, -1)
    images = found.first.training.tensor().flatten(1).numpy()
    distances = np.square(made[:, None] - images[None]).mean(2).min(1)
    assert distances.max() < 1e-3


def test_levels_stay_where_networks_were_trained(tmp_path, network_cache):
    found, _ = opened(tmp_path, network_cache, "sigmas=70,10,1,0.1,0.001")
    assert found.sigmas == [10, 1, 0.1]
    with pytest.raises(UserError, match="two levels at least"):
        opened(tmp_path, network_cache, "sigmas=70,60,1")
    with pytest.raises(UserError, match="two levels at least"):
        opened(tmp_path, network_cache, "sigma_min=50")


def test_starts_that_do_not_drown_images_are_told(tmp_path, network_cache):
    for high, told in ((20.0, False), (2.0, True)):
        found, _ = opened(tmp_path, network_cache, f"sigma_max={high}")
        results = Results(study="test", title="test")
        found.describe(results)
        assert ("Starts" in results.methods) == told
        assert "Euler" in results.methods["Sampling"]


def test_a_trajectory_that_is_lost_stays_lost_alone(digits):
    denoiser = guarded(GaussianDenoiser(digits), torch.device("cpu"))
    noisy = digits.tensor(range(3))
    noisy[1, 0, 2, 2] = torch.inf
    found = denoiser(noisy, 0.5)
    assert torch.isnan(found[1]).all()
    assert torch.allclose(found[[0, 2]], GaussianDenoiser(digits)(noisy[[0, 2]], 0.5))
    vectors = vectors_of_samples(PixelFeatures(), found.numpy(), torch.device("cpu"))
    assert np.isfinite(vectors).all(1).tolist() == [True, False, True]
    with pytest.raises(UserError, match="none of the samples is finite"):
        vectors_of_samples(PixelFeatures(), np.full((2, 1, 4, 4), np.nan, np.float32), torch.device("cpu"))


def test_sheets_show_samples_and_neighbours():
    rows = {name: np.zeros((12, 1, 4, 4), np.float32) for name in ("network", "optimal")}
    sheet = sample_sheet(rows, np.ones((12, 1, 4, 4), np.float32))
    assert sheet.row_labels == ("network", "nearest to network", "optimal")
    assert sheet.tiles.shape[:2] == (3, 8)
    assert sheet.tiles[1].min() == 255


def test_settings_have_limits():
    with pytest.raises(UserError, match="samples"):
        Fig9.configure("tiny", ["samples=1"])
    assert SampledConfig(samples=4).too_few
    assert not SampledConfig(samples=16).too_few
