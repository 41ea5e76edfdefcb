"""What the reviewers asked for: the tiny run, and every part on samples and denoisers whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch

from scorescope.denoisers import GaussianDenoiser
from scorescope.foundation import UserError
from scorescope.papers.niedoba2025 import Reviewers, classical, one_class, sample_quality
from scorescope.papers.niedoba2025.classical import MEAN_IMAGE, NOISY, Errors, classical_errors, mean_image
from scorescope.papers.niedoba2025.one_class import FORWARD, PATHS, class_paths, distances_in_class
from scorescope.papers.niedoba2025.reviewers import _with_classical
from scorescope.papers.niedoba2025.sample_quality import QualityMeasure, classes_for_score
from scorescope.papers.niedoba2025.samples import open_cast
from scorescope.probes.features import PixelFeatures
from scorescope.probes.features_classes import FeatureClasses
from scorescope.report import run_study
from scorescope.study import open_run
from scorescope.study.results import Results

SETTINGS = ["samples=40", "class_inputs=4", "real_images=400"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Reviewers.configure("tiny")
    return run_study(Reviewers(), config, tmp_path_factory.mktemp("reviewers") / "run", cache=network_cache)


@pytest.fixture
def opened(tmp_path, network_cache):
    """A cast whose network is replaced by a Gaussian denoiser: it makes digits without training."""
    config = Reviewers.configure("tiny", SETTINGS)
    with open_run(tmp_path / "run", "test", {}, cache=network_cache) as workspace:
        cast = open_cast(config, workspace)
        gaussian = {cast.first.name: cast.denoisers["gaussian"]}
        yield dataclasses.replace(cast, denoisers=cast.denoisers | gaussian), workspace


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    assert {figure.key for figure in tiny.figures} == {
        "samples", "frechet", "coverage", "one-class", "classical", "classical-pictures",
    }  # fmt: skip
    assert {claim.verdict for claim in tiny.claims} == {"not tested at this size"}
    assert len(tiny.claims) == 3
    names = ["mlp", "optimal", "pspc-square", "gaussian", "wavelet"]
    assert list(tiny.tables["samples"].frame["samples of"]) == [*names, "held-out images"]
    assert len(tiny.tables["quality"].frame) == 2 * 6
    assert "bm3d: bm3d takes images" in tiny.methods["Left out"]
    assert "not FIDs" in tiny.figures[1].caption
    assert "FD" in tiny.tables["quality"].frame.columns
    assert tiny.tables["samples"].frame.set_index("samples of").loc["optimal", "copied (%)"] == 100


@pytest.mark.slow
def test_quality_ranks_held_out_images_before_noise(opened):
    cast, workspace = opened
    space = PixelFeatures()
    classes, said = classes_for_score(cast, space, workspace)
    assert "10 classes of the data" in said
    measure = QualityMeasure(cast, space, classes, 400, workspace)
    noise = torch.randn((40, 1, 8, 8), generator=torch.Generator().manual_seed(0)).numpy()
    training = cast.first.training.tensor(range(40)).numpy()
    found = {}
    for name, made in {"noise": noise, "training": training}.items():
        found[name] = {row["beside"]: row for row in measure.of(name, made)}
    found["held-out"] = {row["beside"]: row for row in measure.of_held_out()}
    for kind in ("training images", "held-out images"):
        bad, good = found["noise"][kind], found["held-out"][kind]
        assert bad["frechet"] > 2 * good["frechet"]
        assert bad["kernel"] > good["kernel"]
        assert bad["precision"] < 0.1 < good["precision"]
        assert bad["coverage"] < good["coverage"]
    assert found["training"]["training images"]["copied (%)"] == 100
    assert found["training"]["training images"]["nearest"] == pytest.approx(1, abs=1e-5)
    assert found["held-out"]["training images"]["copied (%)"] <= 10
    assert found["noise"]["training images"]["score"] < found["held-out"]["training images"]["score"]


def test_real_images_in_the_place_of_samples_are_not_measured_beside_themselves(opened):
    cast, workspace = opened
    real = sample_quality.real_images(cast, PixelFeatures(), 5000, workspace)
    assert len(real.vectors["training images"]) == cast.first.training.stored
    assert len(real.vectors["held-out images"]) == cast.comparison.held_out.stored - 40
    vectors = PixelFeatures()(torch.from_numpy(real.unseen)).numpy()
    distances = np.square(vectors[:, None] - real.vectors["held-out images"][None]).sum(2).min(1)
    assert (distances > 0).all()
    assert len(real.unseen) == 40


def test_lost_samples_are_counted_and_left_out(opened):
    cast, workspace = opened
    measure = QualityMeasure(cast, PixelFeatures(), None, 100, workspace)
    made = cast.first.training.tensor(range(40)).numpy().copy()
    made[5:8] = np.nan
    row = measure.of("some lost", made)[0]
    assert row["finite"] == 37
    assert np.isnan(row["score"])
    assert np.isfinite(row["frechet"])
    assert measure.of("all lost", np.full_like(made, np.nan)) == [
        {"samples of": "all lost", "finite": 0, "beside": kind} for kind in ("training images", "held-out images")
    ]


def test_paths_end_in_their_class(opened):
    cast, workspace = opened
    space = PixelFeatures()
    training = cast.first.training
    vectors = space(training.tensor()).numpy()
    classes = FeatureClasses(vectors, training.own_labels())
    paths = class_paths(cast, 0, 4, space, classes, workspace)
    assert 1 <= len(paths.rows) <= 4
    assert "classifier" in paths.said
    for row in paths.rows:
        *_, final = cast.trajectory(cast.first.name, range(row, row + 1), torch.device("cpu"))
        told = classes.classes[classes.log_probabilities(space(final.noisy).numpy()).argmax(1)]
        assert told == [0]
    found = distances_in_class(cast, 0, 4, paths, workspace)
    assert set(found) == {FORWARD, PATHS}
    assert found[PATHS]["optimal"].shape == (len(cast.sigmas), len(paths.rows))
    assert found[PATHS]["gaussian"].max() == 0  # it stands for the network here
    assert found[FORWARD]["optimal"].max() > 1e-3
    nobody = class_paths(cast, 1, 4, space, None, workspace)
    assert nobody.rows == []


def test_paths_of_a_conditional_network_are_all_of_its_class(opened):
    cast, workspace = opened
    cast.first.denoiser.class_label = 3
    assert class_paths(cast, 3, 5, PixelFeatures(), None, workspace).rows == [0, 1, 2, 3, 4]
    assert class_paths(cast, 2, 5, PixelFeatures(), None, workspace).rows == []


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "verdict"), [(0.5, "holds"), (1.5, "fails")])
def test_the_claim_within_one_class(opened, ratio, verdict):
    cast, _ = opened
    distances = {"optimal": np.ones((6, 20)), "pspc-square": np.full((6, 20), ratio)}
    results = Results(study="test", title="test")
    paths = one_class.ClassPaths(list(range(20)), "told")
    one_class.show_one_class(results, cast, 0, paths, {FORWARD: distances, PATHS: distances})
    assert (results.claims[0].verdict, results.claims[0].value) == (verdict, pytest.approx(ratio))


def test_classical_errors_against_their_definition(opened):
    cast, workspace = opened
    cast = _with_classical(cast, ("wavelet", "bm3d"))
    assert "wavelet" in cast.denoisers
    assert "bm3d" in cast.left_out
    found = classical_errors(cast, workspace)
    assert found.kind == "held-out"
    noise = found.errors[NOISY].mean(1)
    assert noise == pytest.approx(found.sigmas**2, rel=0.3)
    clean = cast.comparison.held_out.tensor(
        np.random.default_rng(0).permutation(cast.comparison.held_out.stored)[:4]
    ).double()
    mean = cast.first.training.tensor().double().mean(0)
    assert mean_image(cast.first.training) == pytest.approx(mean.numpy(), abs=1e-6)
    assert found.errors[MEAN_IMAGE][0] == pytest.approx((clean - mean).square().mean((1, 2, 3)).numpy(), rel=1e-4)
    assert found.failing("wavelet")[0] == max(found.sigmas)
    assert found.failing("gaussian") == []


def test_the_claim_on_bm3d(opened):
    cast, _ = opened
    sigmas = np.array([40.0, 1.0])
    pictures = {name: np.zeros((2, 1, 8, 8)) for name in (NOISY, "bm3d", MEAN_IMAGE)}
    for factor, verdict in ((3.0, "holds"), (0.5, "fails")):
        errors = {NOISY: np.ones((2, 9)), "bm3d": np.full((2, 9), factor), MEAN_IMAGE: np.ones((2, 9))}
        results = Results(study="test", title="test")
        classical.show_classical(results, cast, Errors("held-out", sigmas, errors, pictures))
        assert results.claims[0].verdict == verdict
        worse = "worse than the mean training image at 2 of 2" in results.introductions[classical.CLASSICAL]
        assert worse == (factor > 1)


def test_a_class_that_is_not_there_is_refused(tmp_path, network_cache):
    config = Reviewers.configure("tiny", ["image_class=11"])
    with (
        open_run(tmp_path / "run", "test", {}, cache=network_cache) as workspace,
        pytest.raises(UserError, match="has classes"),
    ):
        Reviewers().run(config, workspace)


def test_denoisers_that_know_no_images_are_named_when_left_out(opened, digits):
    cast, _ = opened
    assert isinstance(_with_classical(cast, ()).denoisers["gaussian"], GaussianDenoiser)
    with pytest.raises(UserError, match="did you mean"):
        _with_classical(cast, ("wavelets",))
