"""Figure 9: similarities against their definition, claims on samples whose answer is known, and the tiny run."""

import itertools

import numpy as np
import pytest

from scorescope.papers.niedoba2025 import Fig9, fig9
from scorescope.papers.niedoba2025.fig9 import Fig9Config, similarities
from scorescope.report import run_study
from scorescope.study.results import Results


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, network_cache):
    config = Fig9.configure("tiny", ["features=pixels"])
    return run_study(Fig9(), config, tmp_path_factory.mktemp("fig9") / "run", cache=network_cache)


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    assert {figure.key for figure in tiny.figures} == {"matrix", "to-networks", "samples"}
    assert {claim.verdict for claim in tiny.claims} == {"not tested at this size"}
    assert len(tiny.claims) == 5
    names = ["ddpm++", "mlp", "optimal", "pspc-flex", "gaussian"]
    assert tiny.figures[2].layout.row_labels == tuple(names)
    assert [tuple(pair) for pair in tiny.tables["pairs"].frame[["denoiser", "and"]].to_numpy()] == list(
        itertools.combinations(names, 2)
    )
    assert "pixels" in tiny.methods["Features"]


def test_the_matrix_holds_what_the_tables_hold(tiny):
    frame = tiny.tables["pairs"].frame
    first = frame.iloc[0]
    assert first["similarity"] == pytest.approx(tiny.arrays["cosine ddpm++ and mlp"].mean())
    assert first["low"] <= first["similarity"] <= first["high"]
    to_networks = tiny.tables["to-networks"].frame.set_index("denoiser")
    means = frame[frame["and"] == "gaussian"].set_index("denoiser")["similarity"]
    assert to_networks.loc["gaussian", "similarity"] == pytest.approx(means[["ddpm++", "mlp"]].mean())
    assert to_networks.loc["mlp", "similarity"] == pytest.approx(first["similarity"])
    assert to_networks.loc["pspc-flex", "in the paper (SSCD)"] == 0.55


def test_similarities_against_loops():
    random = np.random.default_rng(0)
    vectors = {name: random.normal(size=(9, 5)).astype(np.float32) for name in "abc"}
    vectors["b"][4] = np.nan
    found = similarities(vectors)

    def cosine(x, y):
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    for first, second in itertools.combinations("abc", 2):
        a, b = vectors[first].astype(np.float64), vectors[second].astype(np.float64)
        known = [i for i in range(9) if np.isfinite(a[i]).all() and np.isfinite(b[i]).all()]
        assert found.mean(first, second) == pytest.approx(np.mean([cosine(a[i], b[i]) for i in known]), abs=1e-6)
        others = [cosine(a[i], b[j]) for i in known for j in known if i != j]
        assert found.chance[first, second] == pytest.approx(np.mean(others), abs=1e-6)
    assert found.mean("b", "a") == found.mean("a", "b")
    assert found.mean("a", "a") == 1
    assert np.isnan(found.of("a", "b")[4])


class Stub:
    """As much of a cast as the claims look at."""

    def __init__(self, networks, free, samples=64):
        self.networks, self.training_free = networks, free
        self.denoisers = dict.fromkeys([*networks, *free])
        self.config = Fig9Config(samples=samples)


def judged(likeness, networks, space="embedded", samples=64):
    """Claims on samples that are alike as `likeness` says: name -> share of the networks' common vector."""
    random = np.random.default_rng(1)
    common = random.normal(size=(50, 400))
    vectors = {}
    for name, share in likeness.items():
        own = random.normal(size=(50, 400))
        vectors[name] = (share * common + np.sqrt(1 - share**2) * own).astype(np.float32)
    free = [name for name in likeness if name not in networks]
    results = Results(study="test", title="test")
    fig9._claims(results, Stub(networks, free, samples), similarities(vectors), space)
    return results.claims


PAPERS = {"A": 0.95, "B": 0.9, "optimal": 0.36, "pspc-flex": 0.6, "gaussian": 0.36, "closed-form": 0.25}


def test_samples_as_the_papers_hold_every_claim():
    assert [claim.verdict for claim in judged(PAPERS, ["A", "B"], "SSCD")] == ["holds"] * 5


def test_samples_in_another_order_fail_them():
    claims = judged({**PAPERS, "gaussian": 0.98}, ["A", "B"], "SSCD")
    assert [claim.verdict for claim in claims] == ["holds", "fails", "holds", "fails", "holds"]
    few = judged({**PAPERS, "pspc-flex": 0.1}, ["A", "B"], "SSCD")
    assert [claim.verdict for claim in few] == ["fails", "fails", "fails", "holds", "fails"]


def test_numbers_of_sscd_are_not_judged_in_other_features():
    number = judged(PAPERS, ["A", "B"])[-1]
    assert number.verdict == "not tested at this size"
    assert "features are embedded" in number.note


def test_what_is_not_there_is_not_judged():
    one = judged({key: value for key, value in PAPERS.items() if key not in ("B", "closed-form")}, ["A"])
    assert [claim.verdict for claim in one][2:4] == ["not tested at this size"] * 2
    assert "it takes two networks" in one[3].note
    assert {claim.verdict for claim in judged(PAPERS, ["A", "B"], samples=8)} == {"not tested at this size"}
