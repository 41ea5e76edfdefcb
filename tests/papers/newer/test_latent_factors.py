"""Agreement and recovery: numbers with known answers, and the tiny run."""

import math

import numpy as np
import pytest
import torch

from scorescope.papers.newer import LatentFactors
from scorescope.papers.newer.latent_factors import beyond_chance, doublings_between, first_reach, recovered
from scorescope.report import run_study


def test_where_one_half_is_reached():
    assert first_reach([10, 100, 1000], [0.0, 0.25, 0.75]) == pytest.approx(math.log(100) + math.log(10) / 2)
    assert math.isnan(first_reach([10, 100], [0.6, 0.7]))
    assert math.isnan(first_reach([10, 100], [0.1, 0.2]))


def test_doublings_between_two_rises():
    random = np.random.default_rng(0)
    sizes = [10, 40, 160, 640]
    early = [(random.random(400) < share).astype(float) for share in (0.0, 0.1, 0.9, 1.0)]
    late = [(random.random(400) < share).astype(float) for share in (0.0, 0.0, 0.1, 0.9)]
    found, known = doublings_between(sizes, early, late)
    assert known == 1
    assert found.low < 2 < found.high  # one step of a factor of 4
    assert found.high - found.low < 0.5
    never, _ = doublings_between(sizes, early, [np.zeros(400)] * 4)
    assert math.isnan(never.value)


def test_recovery_counts_members_that_are_no_copies():
    found = recovered([1.0, 1.0, 0.8, 0.5, 0.2], 0.6, [False, True, False, False, False])
    assert found == pytest.approx([1, 0, 0.5, 0, 0])


def test_agreement_beyond_chance():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn((60, 1, 5, 5), generator=generator)
    shared = torch.randn((1, 1, 5, 5), generator=generator)
    assert beyond_chance(first, first) == pytest.approx(np.ones(60), abs=1e-5)
    assert beyond_chance(first + 2 * shared, first + 2 * shared) == pytest.approx(np.ones(60), abs=1e-5)
    other = torch.randn((60, 1, 5, 5), generator=generator)
    assert (
        abs(beyond_chance(first + 2 * shared, other + 2 * shared).mean()) < 0.15
    )  # what all images share does not count


@pytest.mark.slow
def test_the_tiny_run_has_everything(tmp_path):
    found = run_study(LatentFactors(), LatentFactors.configure("tiny"), tmp_path / "run", cache=tmp_path / "cache")
    assert [figure.key for figure in found.figures] == ["numbers", "explained", "samples", "factors"]
    assert found.tables["numbers"].frame["N"].tolist() == [4, 40]
    assert len(found.tables["factors"].frame) == 2 * 5
    assert {claim.verdict for claim in found.claims} == {"not tested at this size"}
