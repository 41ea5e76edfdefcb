"""Figure 7: the tiny run against direct calls of the denoisers, heatmaps that are measured once, claims on known distances."""

import numpy as np
import pytest
import torch

from scorescope.denoisers import GaussianDenoiser, StoredHeatmaps
from scorescope.foundation import UserError
from scorescope.lenses.against import Against, classes_table, overall_table
from scorescope.lenses.inputs import HELD_OUT, forward
from scorescope.lenses.network_heatmaps import measured_heatmaps
from scorescope.lenses.rivals import Builder
from scorescope.papers.niedoba2025 import Fig7, fig7
from scorescope.papers.niedoba2025.compared import open_comparison
from scorescope.probes.sensitivity import sensitivity
from scorescope.report import run_study
from scorescope.study import open_run
from scorescope.study.results import Results

NAMES = "gaussian,closed-form,pspc-square,pspc-flex,equivariant-local-score,stacked"
SETTINGS = ["levels=3", "mechanisms.everywhere_images=60", "mechanisms.heatmap_images=1"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Fig7.configure("tiny", [*SETTINGS, f"mechanisms.names={NAMES}"])
    return config, run_study(Fig7(), config, tmp_path_factory.mktemp("fig7") / "run", cache=network_cache)


@pytest.fixture
def opened(tiny, tmp_path, network_cache):
    with open_run(tmp_path / "run", "test", {}, cache=network_cache) as workspace:
        yield tiny[0], open_comparison(tiny[0], workspace), workspace


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    _, results = tiny
    for key in ("explained", "mse", "cosine", "examples"):
        assert {f"{key}-ddpm", f"{key}-mlp"} <= {figure.key for figure in results.figures}
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert len(results.claims) == 5
    frame = results.tables["levels"].frame
    assert len(frame) == 2 * 3 * 8 * 3  # networks, inputs, denoisers with the optimal one and the other network, levels
    assert "60 of the" in results.methods["Denoisers, ddpm++"]
    assert "of no input" in results.methods["Denoisers, ddpm++"]
    assert np.isfinite(frame["MSE"]).all()
    optimal = frame[(frame["denoiser"] == "optimal") & (frame["MSE"] > 1e-4)]
    assert optimal["explained"].to_numpy() == pytest.approx(0)


def test_distances_are_those_of_the_denoisers_on_the_same_inputs(tiny, opened):
    _, results = tiny
    _, comparison, _ = opened
    one = comparison.networks[0]
    inputs, gaussian = forward(comparison, one, HELD_OUT), GaussianDenoiser(one.training)
    frame = results.tables["levels"].frame
    frame = frame[(frame["network"] == one.name) & (frame["inputs"] == "noisy held-out images")]
    for level, sigma in enumerate(inputs.sigmas):
        with torch.no_grad():
            made = one.denoiser(inputs.at(level), sigma)
            gap = (made - one.optimal(inputs.at(level), sigma)).square().mean().item()
            distance = (made - gaussian(inputs.at(level), sigma)).square().mean().item()
        row = frame[frame["denoiser"] == "gaussian"].iloc[level]
        assert row["MSE"] == pytest.approx(distance, rel=1e-4)
        assert row["explained"] == pytest.approx(1 - distance / gap, abs=1e-4)
        assert row["explained low"] <= row["explained"] <= row["explained high"]


def test_heatmaps_are_the_networks_own_and_measured_once(opened, monkeypatch):
    _, comparison, workspace = opened
    one = comparison.networks[0]
    flex = Builder(comparison, comparison.config.mechanisms, workspace).of(one).denoisers["pspc-flex"]
    assert isinstance(flex.heatmaps, StoredHeatmaps)
    (sigma, *_) = flex.heatmaps.sigmas
    monkeypatch.setattr("scorescope.lenses.network_heatmaps.sensitivity", None)
    again = measured_heatmaps(one, flex.heatmaps.sigmas, 1, comparison.config.seed, workspace)
    assert np.array_equal(again.at(sigma), flex.heatmaps.at(sigma))
    assert again.at(sigma).shape == (8, 8, 8, 8)
    with pytest.raises(TypeError):  # another number of images is another measurement
        measured_heatmaps(one, flex.heatmaps.sigmas, 2, comparison.config.seed, workspace)


def test_a_heatmap_is_a_sensitivity_at_a_noisy_training_image(opened):
    _, comparison, workspace = opened
    one = comparison.networks[1]
    stored = measured_heatmaps(one, [0.5, 0.1], 1, 3, workspace)
    at_low, at_high = stored.at(0.1), stored.at(0.6)
    assert not np.allclose(at_low, at_high)
    # The sums over all pixels of a heatmap are of the size that the network's own Jacobian has at another such image.
    noisy = one.training.tensor([0]) + 0.5 * torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other = sensitivity(one.denoiser, noisy, 0.5).reshape(8, 8, 8, 8).numpy()
    assert at_high.sum() == pytest.approx(float(other.sum()), rel=0.5)
    assert np.corrcoef(at_high.ravel(), other.ravel())[0, 1] > 0.5


@pytest.mark.slow
def test_denoisers_that_are_named_must_be_buildable_and_others_are_left_out(opened):
    config, comparison, workspace = opened
    everything = config.mechanisms.model_copy(update={"names": ("bm3d",)})
    with pytest.raises(UserError, match="bm3d"):
        Builder(comparison, everything, workspace).of(comparison.networks[0])
    standard = config.mechanisms.model_copy(update={"names": ()})
    built = Builder(comparison, standard, workspace).of(comparison.networks[1])
    assert "bm3d" in built.left_out
    assert {"gaussian", "wavelet", "pca-locality", "border-local-score", "stacked"} <= set(built.denoisers)
    assert "optimal" not in built.denoisers


SIGMAS = np.array([10.0, 1.0, 0.5, 0.1])


def against(shares, kind="train", gap=0.1):
    """Distances that give explained deviations (S,) by name."""
    images = 20
    rows = {"optimal": np.full((4, images), gap)}
    rows |= {
        name: np.repeat(gap * (1 - np.asarray(share, dtype=float))[:, None], images, 1)
        for name, share in shares.items()
    }
    labels = np.arange(images) % 2
    return Against("net", kind, SIGMAS, rows, rows, labels, [], {})


GOOD = {
    "pspc-square": [0.0, 0.3, 0.4, 0.3],
    "pspc-flex": [0.0, 0.5, 0.6, 0.4],
    "gaussian": [0.1, 0.1, 0.1, 0.1],
    "closed-form": [0.005, 0.0, 0.0, 0.0],
    "pca-locality": [0.1, 0.4, 0.4, 0.3],
    "stacked": [0.2, 0.6, 0.7, 0.4],
}


def verdicts(found, few=""):
    results = Results(study="test", title="test")
    fig7.add_claims(results, found, few)
    return [claim.verdict for claim in results.claims]


def test_claims_follow_the_distances():
    assert verdicts([against(GOOD)]) == ["holds"] * 5
    # where PSPC is the optimal denoiser itself, it need not be better
    assert verdicts([against(GOOD | {"pspc-square": [-0.1, 0.3, 0.4, 0.3]})])[0] == "fails"
    assert verdicts([against(GOOD | {"closed-form": [0.0, 0.4, 0.0, 0.0]})])[1] == "fails"
    assert verdicts([against(GOOD | {"gaussian": [0.1, 0.1, 0.45, 0.1]})])[2] == "fails"
    assert verdicts([against(GOOD | {"gaussian": [0.9, 0.1, 0.1, 0.9]})])[2] == "holds"
    assert verdicts([against(GOOD), against(GOOD | {"pspc-square": [0.0, 0.6, 0.6, 0.4]}, "reverse")])[3] == "fails"
    assert verdicts([against(GOOD | {"stacked": [0.0, 0.0, 0.0, 0.0]})])[4] == "fails"
    assert set(verdicts([against(GOOD)], few="4 inputs")) == {"not tested at this size"}
    assert set(verdicts([against(GOOD, gap=1e-6)])) == {"not tested at this size"}


def test_tables_sum_over_levels_and_average_within_classes():
    one = against(GOOD)
    one.distance["gaussian"][:, ::2] = 0.0  # the images of class 0
    frame = overall_table([one])
    assert frame["denoiser"].iloc[0] == "pspc-flex" or frame["explained"].is_monotonic_decreasing
    row = frame[frame["denoiser"] == "pspc-flex"].iloc[0]
    assert row["explained"] == pytest.approx(np.mean(GOOD["pspc-flex"]))
    classes = classes_table([one])
    assert classes["gaussian"].tolist() == pytest.approx([1.0, 0.1])
    assert classes["images"].tolist() == [10, 10]
