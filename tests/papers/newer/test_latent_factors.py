"""Agreement and recovery: numbers with known answers, and the tiny run."""

import math

import numpy as np
import pytest
import torch

from scorescope.papers.newer import LatentFactors
from scorescope.papers.newer.latent_factors import LatentFactorsConfig, _copies, _images
from scorescope.papers.newer.latent_factors_page import Found, _claims
from scorescope.papers.newer.recovery import Numbers, beyond_chance, doublings_between, first_reach, recovered
from scorescope.report import run_study
from scorescope.study.pairs import choose_pair
from scorescope.study.results import Results


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


def found(agreement, recovery, floor=0.6):
    """Samples of four N whose q and Q have these means."""
    random = np.random.default_rng(0)
    numbers = [
        Numbers(
            size,
            {},
            {name: np.full(80, 0.9) for name in "AB"},
            {},
            q + 0.1 * random.standard_normal(80),
            Q + 0.1 * random.standard_normal(160),
        )
        for size, q, Q in zip([20, 100, 500, 2500], agreement, recovery, strict=True)
    ]
    return Found("disks", numbers, {}, np.zeros((2, 5)), floor, 1.0)


@pytest.mark.parametrize(
    ("case", "verdicts"),
    [
        (found([0.1, 0.6, 0.8, 0.9], [0.0, 0.05, 0.1, 0.8]), ["holds", "holds", "holds"]),
        (found([0.0, 0.1, 0.2, 0.9], [0.1, 0.6, 0.7, 0.8]), ["fails", "fails", "fails"]),
        (
            found([0.2, 0.7, 0.7, 0.7], [0.2, 0.2, 0.2, 0.2]),
            ["not tested at this size", "holds", "not tested at this size"],
        ),
        (found([0.1, 0.6, 0.8, 0.9], [0.0, 0.0, 0.0, 0.0], floor=0.9999), ["not tested at this size"] * 3),
    ],
)
def test_verdicts(case, verdicts):
    """The last: a family that a Gaussian model's samples belong to, of which low Q says nothing."""
    results = Results(study="any", title="any")
    _claims(results, case)
    assert [claim.verdict for claim in results.claims] == verdicts


@pytest.mark.slow
def test_copies_are_not_counted_where_unseen_images_are_as_good_as_training_images():
    """Twenty sinusoids have nearly all phases, and similarity knows no amplitude; disks differ in more."""
    for family, counted in (("sinusoids", False), ("disks", True)):
        config = LatentFactorsConfig(family=family, sizes=(20,), unseen=400)
        pool, unseen, _ = _images(config)
        pair = choose_pair(pool, 20, 0)
        samples = {name: images.tensor()[:12] for name, images in pair.training.items()}
        copies = _copies(pair, unseen, samples, config)
        assert bool(copies) is counted
    assert all(one.above.all() for one in copies.values())
    without = Numbers(20, {}, {}, {}, np.zeros(12), np.zeros(24))
    assert math.isnan(without.mean("m").value)
    assert without.without_copies() is None


@pytest.mark.slow
def test_the_tiny_run_has_everything(tmp_path):
    found = run_study(LatentFactors(), LatentFactors.configure("tiny"), tmp_path / "run", cache=tmp_path / "cache")
    assert [figure.key for figure in found.figures] == ["numbers", "explained", "samples", "factors"]
    assert found.tables["numbers"].frame["N"].tolist() == [4, 40]
    assert len(found.tables["factors"].frame) == 2 * 5
    assert {claim.verdict for claim in found.claims} == {"not tested at this size"}
