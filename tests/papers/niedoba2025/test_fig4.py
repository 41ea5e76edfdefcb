"""Figure 4: the tiny run, and claims on errors whose answer is known."""

import numpy as np
import pytest

from scorescope.lenses.patch_fits import PatchErrors
from scorescope.papers.niedoba2025 import Fig4, fig4
from scorescope.report import run_study
from scorescope.study.results import Results


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Fig4.configure("tiny", ["levels=3", "inputs=2"])
    return run_study(Fig4(), config, tmp_path_factory.mktemp("fig4") / "run", cache=network_cache)


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    assert {figure.key for figure in tiny.figures} == {"patches-ddpm", "patches-mlp", "schedules"}
    assert {claim.verdict for claim in tiny.claims} == {"not tested at this size"}
    patches, schedules = tiny.tables["patches"].frame, tiny.tables["schedules"].frame
    assert [name for name in patches.columns if name.startswith("side")] == ["side 3", "side 5", "side 7", "side 8"]
    optimal = patches[patches["against"] == "optimal, forward"]
    assert optimal["side 8"].max() < 1e-9  # the whole image is the optimal denoiser
    assert (optimal["side 3"] > 1e-9).any()
    assert set(schedules["side"]) <= {3, 5, 7, 8}
    assert set(schedules["λ"]) <= {0.3, 0.7, 1.0}
    network = patches[patches["against"] == "network, reverse"]
    for row in range(len(network)):
        errors = network.iloc[row][["side 3", "side 5", "side 7", "side 8"]].astype(float)
        assert schedules.iloc[row]["side"] == int(errors.idxmin().removeprefix("side "))
    fit = tiny.tables["fit"].frame
    assert fit[fit["denoiser"] == "optimal"]["explained"].tolist() == pytest.approx([0, 0])
    assert len(fit) == 2 * 5


SIGMAS = np.logspace(1, -2, 8)


def errors_with_best(places, sides, scale=1.0):
    """Errors (S, B, K) that are least at one place for every level."""
    rows = np.abs(np.arange(len(sides))[None] - np.asarray(places)[:, None]) * scale
    return np.repeat(rows[:, None], 3, 1).astype(float)


def verdicts(places, low=1e-4, few="", sigmas=SIGMAS):
    sides = [3, 5, 7, 9]
    to_optimal = np.full((len(sigmas), 3, 4), 0.3)
    to_optimal[-1] = low
    to_network = errors_with_best(places, sides)
    found = PatchErrors("net", sigmas, sides, to_optimal, to_network, to_network[:, :, :2], [0.5, 1.0], 0.5, {})
    results = Results(study="test", title="test")
    fig4.add_claims(results, [found], few)
    assert found.windows.sides == tuple(sides[place] for place in places)
    return [claim.verdict for claim in results.claims]


def test_claims_follow_the_errors():
    assert verdicts([3, 3, 3, 2, 2, 1, 0, 0]) == ["holds", "holds"]
    assert verdicts([0, 0, 1, 1, 2, 2, 3, 3], low=0.1) == ["fails", "fails"]
    assert verdicts([1] * 8)[1] == "fails"
    assert set(verdicts([3, 3, 3, 2, 2, 1, 0, 0], few="4 inputs")) == {"not tested at this size"}
    assert set(verdicts([3, 3, 2, 1], sigmas=np.logspace(1, -1, 4))) == {"not tested at this size"}
