"""The theory page: its measurements on a network whose Jacobian is known, and a run with real networks."""

import numpy as np
import pytest
from torch import Tensor, nn

from scorescope import report
from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses.subject import Trained
from scorescope.papers.kadkhodaie2024.theory import Theory, TheoryConfig, measure_theory, standard_errors_off


class Half(nn.Module):
    """Takes half of what it sees for noise: on [-1, 1] it denoises y to (y − 1) / 2."""

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy / 2


@pytest.fixture(scope="module")
def found(digits):
    training = {"A": digits.subset(range(100)), "B": digits.subset(range(100, 200))}
    networks = {name: NetworkDenoiser(Half(), "blind-residual", (1, 8, 8), (0.0, 2.0), name=name) for name in training}
    config = TheoryConfig(data="digits", sizes=(100,), levels=3, images=80, draws=1)
    return measure_theory(Trained(networks, training, digits.subset(range(1000, 1300))), config)


def test_a_known_jacobian_has_its_trace(found):
    assert found["test/A/trace"] == pytest.approx(np.full((3, 80), 32.0), rel=1e-5)
    assert (found["test/between"] == 0).all()
    assert int(found["dimension"]) == 64


def test_stein_s_estimate_and_the_error_differ_by_chance_alone(found):
    for name in ("A", "optimal", "gaussian"):
        assert standard_errors_off(found, f"test/{name}/sure", f"test/{name}/mse").max() < 4


def test_the_optimal_denoiser_s_error_is_its_trace(found):
    scale = found["sigma"] ** 2 / 64
    assert standard_errors_off(found, "train/optimal/mse", "train/optimal/trace", scale).max() < 4
    # On images that it does not hold, it is not the optimal denoiser of anything: the identity fails.
    assert standard_errors_off(found, "test/optimal/mse", "test/optimal/trace", scale).max() > 4


def test_excess_error_is_the_distance_to_the_optimal_denoiser(found):
    found = {**found, "excess": found["train/A/mse"] - found["train/optimal/mse"]}
    assert standard_errors_off(found, "excess", "train/A/to optimal").max() < 4


def test_differences_are_counted_in_standard_errors():
    random = np.random.default_rng(0)
    one = random.normal(size=(200, 50))
    off = standard_errors_off({"one": one, "two": np.zeros((200, 50))}, "one", "two")
    assert off.shape == (200,)
    assert (off > 2).mean() == pytest.approx(0.05, abs=0.04)
    shifted = standard_errors_off({"one": one + 1, "two": np.zeros((200, 50))}, "one", "two")
    assert np.median(shifted) == pytest.approx(np.sqrt(50), rel=0.15)


@pytest.mark.slow
def test_the_page_has_its_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "cache"))
    settings = ["sizes=4,40", "training.steps=40", "levels=3", "images=8", "draws=1"]
    results = report.run_study(Theory(), Theory.configure("tiny", settings), tmp_path / "run")
    assert [exhibit.key for exhibit in results.figures] == ["stein", "optimal", "dimension", "bound"]
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert (results.tables["bound"].frame["between networks"] > 0).all()
    assert len(results.tables["dimension"].frame) == 2 * 3
