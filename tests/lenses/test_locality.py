"""Locality, mechanisms and samples of one model: a real small network against everything that is registered."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser
from scorescope.lenses import LensSettings, Locality, MechanismsLens, Samples, Shrinkage, Subject, look
from scorescope.lenses.comparison import comparison_of
from scorescope.lenses.inputs import TRAIN, forward
from scorescope.lenses.locality import concentrations
from scorescope.lenses.samples import similarity_to
from scorescope.networks import UNet
from scorescope.study import open_run
from scorescope.study.results import Results

CONFIG = LensSettings(deviation_levels=3, deviation_inputs=2, everywhere_images=50, flow_steps=4)


@pytest.fixture(scope="module")
def subject(digits):
    torch.manual_seed(0)
    network = NetworkDenoiser(UNet(blocks=1, width=4), "blind-residual", (1, 8, 8), (0.0, 2.0), name="mine")
    held_out = digits.subset(range(1000, 1100))
    return Subject({"mine": network}, {"mine": digits.subset(range(60))}, held_out)


def looked(lens, subject, folder, settings=CONFIG):
    results = Results(study="test", title="test")
    with open_run(folder / "run", "test", {}, cache=folder / "cache") as workspace:
        found = look(lens, results, subject, settings, workspace)
    assert not results.not_measured
    assert [glance.section for glance in results.glances] == [lens.title]
    return results, found


@pytest.mark.slow
def test_every_mechanism_is_compared_on_every_kind_of_input(subject, tmp_path):
    results, _ = looked(MechanismsLens(), subject, tmp_path)
    assert {figure.key for figure in results.figures} == {"explained-mine", "examples-mine"}
    frame = results.tables["mechanisms"].frame
    standard = {"pspc-flex", "pca-locality", "stacked", "gaussian", "equivariant-local-score", "wavelet"}
    assert standard <= set(frame["denoiser"])
    assert set(frame["inputs"]) == {
        "noisy training images",
        "noisy held-out images",
        "states of the network's own sampling",
    }
    assert "bm3d" in results.methods["Not compared, mine"]
    assert {claim.source for claim in results.claims} == {"niedoba2025, figure 2", "niedoba2025, figure 7"}


@pytest.mark.slow
def test_a_mechanism_that_is_the_optimal_denoiser_explains_nothing(subject, tmp_path):
    named = Subject(subject.networks, subject.training, None, names=("gaussian",))
    _, found = looked(MechanismsLens(), named, tmp_path)
    assert set(found.deviations) == {"forward", "reverse"}
    assert list(found.deviations["forward"].to_mechanism) == ["gaussian"]
    # by brute force at the first level: the same inputs through the same denoisers
    one = found.deviations["forward"]
    gaussian = GaussianDenoiser(subject.first_training)
    comparison = comparison_of(named, 3, 2, CONFIG.seed)
    noisy = forward(comparison, comparison.networks[0], TRAIN).at(0)
    with torch.no_grad():
        apart = subject.first(noisy, one.sigmas[0]) - gaussian(noisy, one.sigmas[0])
    assert one.to_mechanism["gaussian"][0] == pytest.approx(apart.double().square().mean((1, 2, 3)).numpy(), rel=1e-4)


@pytest.mark.slow
def test_a_report_gains_where_the_model_looks_and_which_patches_it_acts_like(subject, tmp_path):
    results, found = looked(Locality(), subject, tmp_path)
    keys = {figure.key for figure in results.figures}
    assert keys == {"concentration", "heatmaps-mine", "heatmaps-gaussian", "best-side"}
    assert "heatmaps/KEY" in results.methods["Heatmaps"]
    assert found.pixels is None
    assert len(found.sides) == 3


@pytest.mark.slow
def test_some_output_pixels_stand_for_all(subject, tmp_path):
    """The sides around a few pixels are those that the heatmaps of all pixels have there."""
    few = CONFIG.model_copy(update={"heatmap_pixels": 4, "patch_sides": 2})
    results, found = looked(Locality(), subject, tmp_path, few)
    one = found.concentrations[0]
    assert one.sides.shape == (3, 8, 3)  # four on a grid and the four that are shown
    assert "8 output pixels" in results.methods["Heatmaps"]
    assert set(found.sides) <= {3, 8}
    with open_run(tmp_path / "whole", "test", {}, cache=tmp_path / "cache") as workspace:
        whole = concentrations(comparison_of(subject, 3, 2, CONFIG.seed), CONFIG.heatmap_images, workspace)[0]
    assert abs(one.mean(0.75) - whole.mean(0.75)).max() < 4


@pytest.mark.slow
def test_flex_is_left_out_where_only_some_pixels_have_heatmaps(subject, tmp_path):
    few = CONFIG.model_copy(update={"heatmap_pixels": 4})
    results, _ = looked(MechanismsLens(), subject, tmp_path, few)
    assert "heatmaps of all 64 output pixels" in results.methods["Not compared, mine"]
    assert "pspc-flex" not in set(results.tables["mechanisms"].frame["denoiser"])


def test_the_subject_is_compared_with_its_own_training_images(subject):
    comparison = comparison_of(subject, 3, 2, 0)
    (one,) = comparison.networks
    assert one.training is subject.training["mine"]
    assert one.optimal is subject.optimal
    assert comparison.sigmas == pytest.approx(subject.sigmas(3))
    assert one.within(comparison.sigmas) == [0, 1, 2]


def test_samples_of_every_denoiser_start_from_the_same_noise(subject, tmp_path):
    given = Subject(
        subject.networks, subject.training, None, given={"gaussian": GaussianDenoiser(subject.first_training)}
    )
    results, found = looked(Samples(), given, tmp_path)
    assert results.figures[0].layout.row_labels == ("network", "nearest to network", "optimal", "gaussian")
    alike = similarity_to(found["rows"], "network")
    assert set(alike) == {"optimal", "gaussian"}
    flat = {
        name: rows.reshape(8, -1) - rows.reshape(8, -1).mean(1, keepdims=True) for name, rows in found["rows"].items()
    }
    cosines = (flat["network"] * flat["gaussian"]).sum(1)
    cosines = cosines / np.linalg.norm(flat["network"], axis=1) / np.linalg.norm(flat["gaussian"], axis=1)
    assert alike["gaussian"] == pytest.approx(float(cosines.mean()), rel=1e-4)


def test_samples_that_left_all_bounds_have_no_similarity():
    rows = {"network": np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)}
    rows["lost"] = np.full((3, 1, 4, 4), np.nan, np.float32)
    rows["half"] = np.where(np.arange(3)[:, None, None, None] == 0, np.nan, rows["network"]).astype(np.float32)
    found = similarity_to(rows, "network")
    assert np.isnan(found["lost"])
    assert found["half"] == pytest.approx(1)


class Stubborn(nn.Module):
    """A blind network whose derivative cannot be had."""

    def forward(self, noisy):
        if noisy.requires_grad or torch._C._functorch.maybe_current_level() is not None:
            raise NotImplementedError("derivative of stubborn is not implemented")
        return 0.3 * noisy


@pytest.mark.slow
def test_a_network_without_a_derivative_costs_what_needs_one_and_no_more(digits, tmp_path):
    network = NetworkDenoiser(Stubborn(), "blind-residual", (1, 8, 8), (0.0, 2.0), name="mine")
    subject = Subject({"mine": network}, {"mine": digits.subset(range(30))}, None, names=("gaussian", "pspc-flex"))
    results = Results(study="test", title="test")
    with open_run(tmp_path / "run", "test", {}, cache=tmp_path / "cache") as workspace:
        for one in (Locality, Shrinkage):
            assert look(one(), results, subject, CONFIG, workspace) is None
            assert "derivative of stubborn" in results.not_measured[one.title]
        every = Subject(subject.networks, subject.training, None)
        found = look(
            MechanismsLens(), results, every, CONFIG.model_copy(update={"costly_mechanisms": False}), workspace
        )
        named = Subject(subject.networks, subject.training, None, names=("gaussian", "pspc-flex"))
        assert look(MechanismsLens(), Results(study="test", title="test"), named, CONFIG, workspace) is None
    assert "gaussian" in found.deviations["forward"].to_mechanism
