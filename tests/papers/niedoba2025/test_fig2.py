"""Figure 2: the tiny run against its definition, and claims on curves whose answer is known."""

import numpy as np
import pytest
import torch

from scorescope.lenses.inputs import TRAIN, forward
from scorescope.papers.niedoba2025 import Fig2, fig2
from scorescope.papers.niedoba2025.compared import open_comparison
from scorescope.report import run_study
from scorescope.study import open_run
from scorescope.study.results import Results


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Fig2.configure("tiny", ["levels=6"])
    return config, run_study(Fig2(), config, tmp_path_factory.mktemp("fig2") / "run", cache=network_cache)


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    _, results = tiny
    assert {figure.key for figure in results.figures} == {"gap", "agreement", "examples"}
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert len(results.claims) == 4
    assert "ddpm++" in results.headline
    assert "lie outside" in results.introductions[fig2.DEVIATION]
    assert len(results.tables["gap"].frame) == 2 * 2 * 6


def test_the_gap_is_the_distance_to_the_posterior_mean(tiny, tmp_path, network_cache):
    config, results = tiny
    frame = results.tables["gap"].frame
    with open_run(tmp_path / "run", "test", {}, cache=network_cache) as workspace:
        comparison = open_comparison(config, workspace)
    one = comparison.networks[0]
    inputs = forward(comparison, one, TRAIN)
    clean = one.training.tensor().double().flatten(1)
    for level in (2, 4):
        sigma, noisy = inputs.sigmas[level], inputs.at(level)
        weights = torch.softmax(-torch.cdist(noisy.double().flatten(1), clean).square() / (2 * sigma**2), 1)
        with torch.no_grad():
            gap = (one.denoiser(noisy, sigma).double().flatten(1) - weights @ clean).square().mean()
        row = frame[(frame["network"] == one.name) & (frame["inputs"] == "noisy training images")].iloc[level]
        assert row["σ"] == pytest.approx(sigma)
        assert row["gap"] == pytest.approx(float(gap), rel=1e-4)
        assert row["low"] <= row["gap"] <= row["high"]


class Stub:
    """As much of a network, and of a comparison, as the claims look at."""

    def __init__(self, *names, reach=(0.001, 200.0), few=""):
        self.sigmas = [float(level) for level in np.logspace(2, -2, 40)]
        self.networks = [self] if not names else [Stub.named(name, reach) for name in names]
        self.few = few

    @classmethod
    def named(cls, name, reach):
        one = cls()
        one.name, one.reach = name, reach
        return one

    def within(self, sigmas):
        return [k for k, sigma in enumerate(sigmas) if self.reach[0] <= sigma <= self.reach[1]]

    def too_few(self):
        return self.few


def claims(curves, cosine=0.9, **settings):
    comparison = Stub(*curves, **settings)
    gap = {TRAIN: {name: np.repeat(curve[:, None], 2, 1) for name, curve in curves.items()}}
    pairs = {TRAIN: {"a and b": np.full((40, 2), cosine)}} if len(curves) > 1 else {TRAIN: {}}
    results = Results(study="test", title="test")
    found = fig2.Gaps(np.array(comparison.sigmas), gap, pairs, pairs, np.zeros((1, 1, 1, 1, 1)), [0])
    fig2._claims(results, comparison, found)
    return [claim.verdict for claim in results.claims]


def bump(centre, width=0.5):
    return 0.1 * np.exp(-((np.log10(np.logspace(2, -2, 40)) - np.log10(centre)) ** 2) / width**2)


def test_claims_follow_the_curves():
    assert claims({"a": bump(2), "b": bump(2.5)}) == ["holds", "holds", "holds", "holds"]
    assert claims({"a": bump(2), "b": bump(0.02)}, cosine=0.1) == ["fails", "fails", "fails", "fails"]
    assert claims({"a": bump(2)}) == ["holds", "holds", *["not tested at this size"] * 2]


def test_claims_are_not_decided_where_the_networks_were_not_trained():
    verdicts = claims({"a": bump(2), "b": bump(2)}, reach=(0.0, 2.0))
    assert verdicts == ["not tested at this size", "not tested at this size", "holds", "holds"]
    assert set(claims({"a": bump(2), "b": bump(2)}, few="4 inputs")) == {"not tested at this size"}
