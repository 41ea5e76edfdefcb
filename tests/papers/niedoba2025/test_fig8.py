"""Figure 8: both denoisers on both trajectories, against denoisers whose difference is known, and the tiny run."""

import numpy as np
import pytest
import torch

from scorescope.foundation import UserError
from scorescope.papers.niedoba2025 import Fig8, fig8
from scorescope.papers.niedoba2025.fig8 import Fig8Config, Pair, pair_of
from scorescope.papers.niedoba2025.samples import open_cast
from scorescope.report import run_study
from scorescope.study import open_run
from scorescope.study.results import Results


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Fig8.configure("tiny")
    return config, run_study(Fig8(), config, tmp_path_factory.mktemp("fig8") / "run", cache=network_cache)


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    config, results = tiny
    assert {figure.key for figure in results.figures} == {"trajectories-pspc-square", "differences", "likeness"}
    assert {claim.verdict for claim in results.claims} == {"not tested at this size"}
    assert len(results.claims) == 3
    assert len(results.tables["differences"].frame) == config.levels + 1
    sheet = results.figures[0].layout
    assert len(sheet.row_labels) == 4
    assert sheet.column_labels[-1] == "sample"


@pytest.mark.slow
def test_every_output_belongs_to_its_state(tiny, tmp_path, network_cache):
    config, results = tiny
    with open_run(tmp_path / "run", "test", {}, cache=network_cache) as workspace:
        cast = open_cast(config, workspace)
        pair = pair_of(cast, "pspc-square", workspace)
        denoisers = {"network": cast.first.denoiser, "mechanism": cast.denoisers["pspc-square"]}
        assert pair.states["network"].shape == (len(cast.sigmas) + 1, 4, 1, 8, 8)
        assert pair.states["network"][0] == pytest.approx(pair.states["mechanism"][0])  # the same noise
        for key, made in pair.outputs.items():
            trajectory, denoiser = key.split("/")
            for level, sigma in enumerate(cast.sigmas):
                with torch.no_grad():
                    expected = denoisers[denoiser](torch.from_numpy(pair.states[trajectory][level]), sigma)
                assert made[level] == pytest.approx(expected.numpy(), abs=1e-5)
        samples = pair.states["network"][-1]
        assert samples == pytest.approx(pair.outputs["network/network"][-1], abs=1e-5)  # Euler's last step
    frame = results.tables["differences"].frame
    expected = np.square(pair.outputs["network/network"].astype(np.float64) - pair.outputs["network/mechanism"])
    assert frame["on the network's"][3] == pytest.approx(expected[3].mean(), rel=1e-4)
    assert frame["each on its own"].iloc[-1] == pytest.approx(pair.of_samples().mean(), rel=1e-4)


def pair_with(differences, own):
    """A network and a denoiser whose outputs differ by given amounts on the same input, and on their own."""
    random = np.random.default_rng(0)
    count = len(differences)
    base = random.normal(size=(count, 3, 1, 4, 4))
    away, apart = (np.sqrt(np.array(values))[:, None, None, None, None] for values in (differences, own))
    signs = np.where(random.random(base.shape) < 0.5, -1.0, 1.0)
    outputs = {
        "network/network": base,
        "network/mechanism": base + away * signs,
        "mechanism/mechanism": base + apart * signs,
        "mechanism/network": base + apart * signs + away * signs,
    }
    states = {"network": np.zeros((count + 1, 3, 1, 4, 4)), "mechanism": np.zeros((count + 1, 3, 1, 4, 4))}
    states["mechanism"][-1] = np.sqrt(own[-1])
    return Pair(np.logspace(1, -2, count), outputs, states)


class Stub:
    """As much of a cast as the claims look at."""

    config = Fig8Config(samples=32)


def judged(**pairs):
    results = Results(study="test", title="test")
    fig8._claims(results, Stub(), pairs)
    return results.claims


BUMP = [0.0, 0.0, 0.01, 0.05, 0.1, 0.05, 0.01, 0.0, 0.0]
STEPS = [0.0, 0.0, 0.0, 0.2, 0.6, 0.9, 1.0, 1.0, 1.0]


def test_measures_of_known_pairs():
    pair = pair_with(BUMP, STEPS)
    assert pair.same_input("network").mean(1) == pytest.approx(BUMP)
    assert pair.same_input("mechanism").mean(1) == pytest.approx(BUMP)
    assert pair.own_input().mean(1) == pytest.approx(STEPS)
    assert pair.of_samples() == pytest.approx([1.0] * 3)
    assert pair.peak() == 4
    assert pair.arisen_in_the_middle() == pytest.approx(1.0)
    assert pair.likeness()[0] == pytest.approx(1)
    assert pair.likeness()[4].max() < 1


def test_claims_on_known_pairs():
    assert [claim.verdict for claim in judged(one=pair_with(BUMP, STEPS))] == ["holds"] * 3
    late = judged(one=pair_with(BUMP, STEPS), other=pair_with([0.0] * 8 + [0.1], [0.0] * 8 + [1.0]))
    assert [claim.verdict for claim in late] == ["holds", "fails", "fails"]
    assert late[1].value == 1
    unlike = judged(one=pair_with([30.0] * 9, STEPS))
    assert unlike[0].verdict == "fails"


def test_lost_trajectories_are_left_out():
    pair = pair_with(BUMP, STEPS)
    for made in pair.outputs.values():
        made[5:, 1] = np.nan
    pair.states["mechanism"][-1, 1] = np.nan
    assert pair.peak() == 4
    assert [claim.verdict for claim in judged(one=pair)] == ["holds"] * 3


def test_the_optimal_denoiser_alone_is_refused(tmp_path):
    with open_run(tmp_path / "run", "test", {}) as workspace, pytest.raises(UserError, match="name denoisers"):
        Fig8().run(Fig8.configure("tiny", ["mechanisms.names=optimal"]), workspace)
