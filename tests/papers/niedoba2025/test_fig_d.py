"""The figures of several networks together: do they agree on what explains them?"""

import numpy as np
import pytest

from scorescope.lenses.against import Against
from scorescope.papers.niedoba2025 import FigD, fig_d
from scorescope.report import run_study
from scorescope.study.results import Results


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
