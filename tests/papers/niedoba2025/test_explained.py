"""What a report on one's own model gains, and the figures of several networks together."""

import numpy as np
import pytest

from scorescope.denoisers import GaussianDenoiser, OptimalDenoiser
from scorescope.lenses.measurements import MeasurementConfig, Subject
from scorescope.papers.niedoba2025 import Fig2, FigD, fig_d
from scorescope.papers.niedoba2025.against import Against
from scorescope.papers.niedoba2025.compared import open_comparison
from scorescope.papers.niedoba2025.explained import add_locality, comparison_of
from scorescope.report import run_study
from scorescope.study import open_run
from scorescope.study.results import Results

CONFIG = MeasurementConfig(deviation_levels=3, deviation_inputs=2)


@pytest.fixture(scope="module")
def subject(tmp_path_factory, network_cache):
    with open_run(tmp_path_factory.mktemp("explained") / "run", "test", {}, cache=network_cache) as workspace:
        opened = open_comparison(Fig2.configure("tiny", ["levels=2"]), workspace)
    one = opened.networks[1]
    training = one.training.subset(range(300))
    optimal = OptimalDenoiser(training)
    return Subject({"network": one.denoiser}, {"network": training}, opened.held_out, optimal, {})


def test_a_report_gains_where_the_model_looks_and_what_explains_it(subject, tmp_path, network_cache):
    results = Results(study="test", title="test")
    with open_run(tmp_path / "run", "test", {}, cache=network_cache) as workspace:
        add_locality(results, subject, CONFIG, workspace)
    keys = {figure.key for figure in results.figures}
    assert keys >= {"concentration", "heatmaps-mlp", "best-side", "explained-mlp", "examples-mlp"}
    frame = results.tables["mechanisms"].frame
    standard = {"pspc-flex", "pca-locality", "stacked", "gaussian", "equivariant-local-score", "wavelet"}
    assert standard <= set(frame["denoiser"])
    assert set(frame["inputs"]) == {
        "noisy training images",
        "noisy held-out images",
        "states of the network's own sampling",
    }
    assert "heatmaps/KEY" in results.methods["Heatmaps"]
    assert "bm3d" in results.methods["Not compared, mlp"]


def test_the_subject_is_compared_with_its_own_training_images(subject):
    comparison = comparison_of(subject, CONFIG)
    (one,) = comparison.networks
    assert one.training is subject.training["network"]
    assert one.optimal is subject.optimal
    assert comparison.sigmas == pytest.approx(subject.sigmas(3))
    assert one.within(comparison.sigmas) == [0, 1, 2]
    other = Subject(subject.networks, subject.training, None, GaussianDenoiser(one.training), {})
    assert comparison_of(other, CONFIG).networks[0].optimal.images is one.training


def against(network, shares, kind="train"):
    rows = {"optimal": np.full((3, 4), 0.1)}
    rows |= {name: np.full((3, 4), 0.1 * (1 - share)) for name, share in shares.items()}
    return Against(network, kind, np.array([2.0, 1.0, 0.5]), rows, rows, None, [], {})


def test_the_order_of_denoisers_is_compared_between_networks():
    shares = {"gaussian": 0.1, "pspc-square": 0.3, "pspc-flex": 0.5, "pca-locality": 0.4}
    same = {name: share / 2 for name, share in shares.items()}
    other = {name: -share for name, share in shares.items()}
    for second, verdict in [(same, "holds"), (other, "fails")]:
        results = Results(study="test", title="test")
        fig_d._claim(results, [against("a", shares), against("b", second | {"a": 0.9})], "")
        assert results.claims[0].verdict == verdict
    results = Results(study="test", title="test")
    fig_d._claim(results, [against("a", shares)], "")
    assert results.claims[0].verdict == "not tested at this size"


@pytest.mark.slow
def test_the_tiny_run_of_several_networks_has_everything(tmp_path, network_cache):
    results = run_study(FigD(), FigD.configure("tiny"), tmp_path / "run", cache=network_cache)
    keys = {figure.key for figure in results.figures}
    assert keys >= {"order-train", "order-held-out", "order-reverse", "concentration", "schedules"}
    assert keys >= {f"{what}-{network}" for what in ("patches", "explained", "heatmaps") for network in ("ddpm", "mlp")}
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert len(results.claims) == 1 + 1 + 2 + 5
