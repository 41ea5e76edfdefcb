"""The audit's statistics against brute force and on simulated cases whose answer is known."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scorescope.probes.audit import copies, leakage, membership, search
from scorescope.probes.audit.agreement import agreement
from scorescope.probes.audit.verdict import Evidence, rule
from scorescope.probes.proportions import Interval, mixture, newcombe, wilson

DRAWS = 200
FEATURES = 12


def unit(random: np.random.Generator, count: int, features: int = FEATURES) -> np.ndarray:
    """Directions of blobs: some images are alike, as in data sets."""
    return search.directions(
        random.standard_normal((count, features)) + 2 * np.eye(features)[random.integers(0, 4, count)]
    )


def side_of(queries: np.ndarray, training: np.ndarray, control: np.ndarray, k: int = 5) -> leakage.Sides:
    return leakage.sides(
        queries,
        (lambda: search.blocks_of(training), len(training)),
        (lambda: search.blocks_of(control), len(control)),
        k=k,
    )


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 5), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_search_is_the_brute_force(count: int, size: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    queries, vectors = unit(random, count), unit(random, size)
    threshold = random.uniform(-1, 1, count)
    found = search.search(queries, search.blocks_of(vectors), k=k, threshold=threshold)
    products = queries.astype(np.float64) @ vectors.astype(np.float64).T
    ordered = -np.sort(-products, axis=1)[:, :k]
    np.testing.assert_allclose(found.similarity[:, : ordered.shape[1]], ordered, atol=2e-6)
    there = found.index[:, : ordered.shape[1]]
    np.testing.assert_allclose(np.take_along_axis(products, there, 1), ordered, atol=2e-6)
    assert (found.index[:, size:] == -1).all()
    np.testing.assert_array_equal(found.above, (products > threshold[:, None] + search.TIE).sum(1))


def test_search_in_blocks_passes_over_the_own_group(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    vectors = unit(random, 60)
    monkeypatch.setattr(search, "AT_ONCE", 7)
    monkeypatch.setattr(search, "QUERIES", 11)
    own = search.gathered([[3, 9], [10, 20, 30]], 60)
    found = search.search(vectors, search.blocks_of(vectors), k=2, own=own)
    products = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    for row in range(60):
        products[row, [place for place in own[row] if place >= 0]] = -9
    np.testing.assert_array_equal(found.index[:, 0], products.argmax(1))


def test_constant_images_are_like_each_other_only() -> None:
    vectors = search.directions(np.array([[0.0, 0, 0], [0, 0, 0], [1, -1, 0]]))
    np.testing.assert_allclose(vectors @ vectors.T, [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-6)


@given(st.integers(0, 6), st.integers(1, 7))
def test_chance_of_none_is_counted_over_all_parts(marked: int, drawn: int) -> None:
    total = 7
    parts = list(itertools.combinations(range(total), drawn))
    expected = np.mean([all(place >= marked for place in part) for part in parts])
    assert leakage.none_of([marked], total, drawn)[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("few", "many", "swap"), [(4, 9, False), (4, 9, True), (5, 5, False)])
def test_thinning_is_the_mean_over_all_parts(few: int, many: int, swap: bool) -> None:
    random = np.random.default_rng(2)
    small, large, queries = unit(random, few), unit(random, many), unit(random, 20)
    near = queries @ small.T
    far = queries @ large.T
    wins = [near.max(1) > far[:, list(part)].max(1) for part in itertools.combinations(range(many), few)]
    expected = np.mean(wins, axis=0)
    found = side_of(queries, large, small) if swap else side_of(queries, small, large)
    np.testing.assert_allclose(found.nearer, 1 - expected if swap else expected, atol=1e-6)


def test_equal_sets_tie() -> None:
    vectors = unit(np.random.default_rng(3), 30)
    assert side_of(vectors[:10], vectors, vectors).nearer == pytest.approx(np.full(10, 0.5))


@pytest.mark.parametrize(("share", "size"), [(0.0, 20), (0.3, 20), (0.3, 200), (1.0, 20)])
def test_leakage_covers(share: float, size: int) -> None:
    """Samples that are copies with a known chance: leakage is that chance of being nearer for sure."""
    random = np.random.default_rng(4)
    covered = 0
    for _ in range(40):
        training, control = unit(random, size), unit(random, size)
        samples, unseen = unit(random, 120), unit(random, 150)
        copied = random.random(120) < share
        samples[copied] = training[random.integers(0, size, copied.sum())]
        truth = unit(random, 800)
        base = side_of(truth, training, control).nearer.mean()
        expected = min(2 * share * (1 - base), 1.0)
        found = leakage.leakage(side_of(samples, training, control), side_of(unseen, training, control), copied)
        covered += found.leakage.low - 1e-9 <= expected <= found.leakage.high + 1e-9
    assert covered >= 34  # 38 is 95 %; at that rate fewer than 34 have a chance of 1 %


def test_clean_samples_are_said_to_leak_no_more_often_than_stated() -> None:
    """T, C and unseen images drawn anew each time: which of them chance drew is in the interval."""
    random = np.random.default_rng(14)
    draws, above, below = 300, 0, 0
    for _ in range(draws):
        training, control, both = unit(random, 60), unit(random, 60), unit(random, 128 + 400)
        found = leakage.leakage(side_of(both[:128], training, control), side_of(both[128:], training, control)).leakage
        above += found.low > 0
        below += found.high < 0
    assert max(above, below) <= 0.025 * draws + 2.33 * math.sqrt(0.025 * draws)
    assert above + below > 0


def test_crowded_samples_that_copy_nothing_raise_no_alarm() -> None:
    """A model that makes five images, none of them trained on, is nearer to T or to C by chance."""
    random = np.random.default_rng(5)
    alarms = plain = 0
    for _ in range(100):
        training, control, unseen = unit(random, 100), unit(random, 100), unit(random, 200)
        samples = search.directions(unit(random, 5)[random.integers(0, 5, 200), :FEATURES])
        found = leakage.leakage(side_of(samples, training, control), side_of(unseen, training, control))
        alarms += found.leakage.low > 0
        plain += newcombe(found.samples, 200, found.unseen, 200).low > 0
    assert alarms <= 8
    assert plain >= 15  # what the plain interval does


def test_conformal_p_values_are_uniform_and_the_list_keeps_its_rate() -> None:
    random = np.random.default_rng(6)
    p = np.concatenate([copies.conformal(random.normal(size=50), random.normal(size=199)) for _ in range(DRAWS)])
    for level in (0.01, 0.05, 0.3):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level / len(p)) * 3
    assert p.min() == pytest.approx(1 / 200)
    alarms = 0
    for _ in range(DRAWS):
        q = copies.q_values(copies.conformal(random.normal(size=128), random.normal(size=400)))
        alarms += bool((q <= 0.05).any())
    assert alarms <= 0.05 * DRAWS + 3 * math.sqrt(DRAWS * 0.05)


def test_p_values_by_hand() -> None:
    np.testing.assert_allclose(copies.conformal([2.0, 0.0, 5.0], [1.0, 2.0, 3.0]), [3 / 4, 1.0, 1 / 4])
    assert copies.calibration_needed(0.05) == 19
    assert copies.calibration_needed(0.05, 10) == 199


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=20))
def test_q_values_are_benjamini_and_hochberg(p: list[float]) -> None:
    expected = stats.false_discovery_control(p, method="bh")
    np.testing.assert_allclose(copies.q_values(p), expected, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_copied_share_covers(share: float) -> None:
    """Exact: in 1,000 draws fewer than 934 have a chance of 1 % at the stated rate."""
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(1000):
        samples = random.normal(size=150)
        samples[random.random(150) < share] = 30.0
        interval = copies.copied_share(samples, random.normal(size=300)).share
        covered += interval.low - 1e-9 <= share <= interval.high + 1e-9
    assert covered >= 934


@pytest.mark.parametrize(("samples", "calibration"), [(128, 2000), (128, 400), (1000, 1000)])
def test_clean_samples_are_said_to_hold_copies_no_more_often_than_stated(samples: int, calibration: int) -> None:
    """Few lie above the level by chance, and there Newcombe's lower end is too high."""
    random = np.random.default_rng(12)
    draws, alarms, plain = 1000, 0, 0
    for _ in range(draws):
        mine, others = random.normal(size=samples), random.normal(size=calibration)
        found = copies.copied_share(mine, others)
        alarms += found.share.low > 0
        plain += newcombe(float((mine > found.level).mean()), samples, found.chance, calibration + 1).low > 0
    assert alarms <= 0.025 * draws + 2.33 * math.sqrt(0.025 * draws)
    if (samples, calibration) == (128, 2000):
        assert plain > 0.03 * draws


@pytest.mark.parametrize(
    ("found", "count", "above", "below"),
    [(0, 30, 3, 298), (5, 128, 20, 1981), (70, 128, 20, 1981), (3, 20, 1, 40), (20, 20, 1, 4), (9, 12, 2, 3)],
)
def test_mixture_is_exact(found: int, count: int, above: int, below: int) -> None:
    """Against the sum over how many are copies, and how many of the others lie above the level by chance."""

    def at_least(many: int, share: float) -> float:
        total = stats.binom.pmf(count, count, share) * (count >= many)
        for copied in range(count):
            by_chance = stats.betabinom.sf(many - copied - 1, count - copied, above, below) if many > copied else 1.0
            total += stats.binom.pmf(copied, count, share) * by_chance
        return float(total)

    interval = mixture(found, count, above, below)
    if interval.low > 0:
        assert at_least(found, interval.low) == pytest.approx(0.025, abs=1e-4)
    else:
        assert at_least(found, 0.0) >= 0.025
    if interval.high < 1:
        assert at_least(found + 1, interval.high) == pytest.approx(0.975, abs=1e-4)
    else:
        assert found == count
    assert interval.low <= interval.value <= interval.high


def test_verdicts_on_clean_samples_keep_their_rate() -> None:
    """Statistics and sides of samples and of unseen images alike; four intervals, two of which are of that kind, and lists."""
    random = np.random.default_rng(13)
    draws, words = 1000, {"intervals": 0, "any": 0}
    for _ in range(draws):
        t, h = random.normal(size=128), random.normal(size=2000)
        nearer = newcombe(random.binomial(128, 0.53) / 128, 128, random.binomial(2000, 0.53) / 2000, 2000).scaled(2)
        share, local = copies.copied_share(t, h).share, copies.copied_share(random.normal(size=128), h).share
        listed = int((copies.q_values(copies.conformal(t, h)) <= 0.05).sum())
        for name, count in (("intervals", 0), ("any", listed)):
            ruling = rule(Evidence(share, nearer, Interval(0.0, -0.2, 0.2), local, (count, 0)))
            words[name] += ruling.state in ("in transition", "memorizes")
    assert words["intervals"] <= 0.05 * draws + 2.33 * math.sqrt(0.05 * draws)
    assert words["any"] <= 0.10 * draws + 2.33 * math.sqrt(0.10 * draws)
    assert words["intervals"] > 0


def test_statistics_by_hand() -> None:
    training = np.array([[0.9, 0.8, 0.5], [1.0, 0.2, 0.0]])
    expected = np.log(np.array([0.2, 0.0]) + copies.SMALLEST)
    np.testing.assert_allclose(copies.statistic("similarity", training, None), -expected)
    margin = copies.statistic("margin", training, np.array([0.9, 0.5]))
    np.testing.assert_allclose(margin, [0.0, np.log(1 + copies.SMALLEST) - expected[1]], atol=1e-9)
    ratio = copies.statistic("ratio", training, None)
    np.testing.assert_allclose(ratio[0], np.log((0.4 + 1.0) / 2 + copies.SMALLEST) - expected[0])
    with pytest.raises(ValueError, match="control"):
        copies.statistic("margin", training, None)
    with pytest.raises(ValueError, match="two training images"):
        copies.statistic("ratio", training[:, :1], None)


def test_wilson_and_newcombe_are_the_published_examples() -> None:
    """Newcombe 1998, table II, method 10: 56/70 − 48/80, and 10/10 − 0/10."""
    found = newcombe(56 / 70, 70, 48 / 80, 80)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    found = newcombe(1.0, 10, 0.0, 10)
    assert (round(found.low, 4), found.high) == (0.6075, 1.0)
    assert round(wilson(0.0, 20).high, 4) == 0.1611


def test_area_under_curve_is_the_brute_force_and_covers() -> None:
    random = np.random.default_rng(8)
    seen, unseen = random.integers(0, 5, 40), random.integers(0, 4, 30)
    wins = (seen[:, None] > unseen).mean() + 0.5 * (seen[:, None] == unseen).mean()
    assert membership.area_under_curve(seen, unseen).value == pytest.approx(wins)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    covered = sum(
        found.low <= truth <= found.high
        for found in (
            membership.area_under_curve(random.normal(1, 1, 60), random.normal(0, 1, 50)) for _ in range(DRAWS)
        )
    )
    assert covered >= 0.95 * DRAWS - 3 * math.sqrt(DRAWS * 0.05)


def test_membership_p_value_keeps_its_rate_and_finds() -> None:
    random = np.random.default_rng(9)
    found = [membership.membership(random.normal(size=80), random.normal(size=80)) for _ in range(DRAWS)]
    assert sum(one.p_value <= 0.05 for one in found) <= 0.05 * DRAWS + 3 * math.sqrt(DRAWS * 0.05)
    inside = [one.true_positives.low <= 0.01 <= one.true_positives.high for one in found]
    assert np.mean(inside) >= 0.9
    assert membership.membership(random.normal(2, 1, 80), random.normal(size=80)).p_value < 1e-6
    apart = membership.membership([3.0, 4.0], [1.0, 2.0])
    assert apart.auc.value == 1.0
    assert apart.auc.low < 0.5  # two images of each say little


def test_gap_is_welch() -> None:
    random = np.random.default_rng(10)
    seen, unseen = random.normal(3, 1, 20), random.normal(0, 4, 50)
    theirs = stats.ttest_ind(seen, unseen, equal_var=False).confidence_interval()
    found = membership.gap(seen, unseen)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert membership.gap([1.0], [0.0]).high == math.inf


def test_agreement_tells_the_same_from_other_noise() -> None:
    random = np.random.default_rng(11)
    first = unit(random, 60)
    near = search.directions(first[:, :FEATURES] + 0.1 * random.standard_normal((60, FEATURES)))
    found = agreement(first, near)
    assert found.beyond.low > 0.3
    products = first.astype(float) @ near.astype(float).T
    assert found.same_noise.value == pytest.approx(np.diag(products).mean())
    off = products[~np.eye(60, dtype=bool)].mean()
    assert found.other_noise.value == pytest.approx(off)
    nothing = [agreement(unit(random, 40), unit(random, 40)).beyond for _ in range(DRAWS)]
    assert sum(one.low <= 0 <= one.high for one in nothing) >= 0.91 * DRAWS


def test_samples_for_half_widths_of_the_audit() -> None:
    assert leakage.samples_for(0.1) == pytest.approx(769, abs=1)
    assert leakage.samples_for(0.2) == pytest.approx(193, abs=1)
    assert leakage.samples_for(0.1, 300) is None
    assert leakage.samples_for(0.1, 10**6) == pytest.approx(385, abs=2)


def test_training_images_of_one_colour_leave_other_samples_undecided():
    clean = {"copied": Interval(0.0, 0.0, 0.02), "leakage": Interval(0.0, -0.05, 0.05)}
    assert rule(Evidence(**clean)).state == "generalizes"
    assert rule(Evidence(**clean, flat=True)).state == "undecided"
    assert rule(Evidence(Interval(1.0, 0.9, 1.0), Interval(1.0, 0.8, 1.0), flat=True)).state == "memorizes"


def test_a_lower_end_that_rounds_to_nothing_is_said_to_be_above_it() -> None:
    said = rule(Evidence(Interval(0.03, 0.0002, 0.08), Interval(0.3, 0.05, 0.5))).because
    assert said.startswith("more than 0 % of the samples are copies")
    assert "leakage is at least 5 %" in said


def test_where_the_gap_alone_is_uncertain_it_is_what_is_named() -> None:
    narrow, wide = Interval(0.0, 0.0, 0.02), Interval(0.05, -0.08, 0.19)
    evidence = Evidence(narrow, wide, Interval(0.2, 0.03, 0.37), samples=128, calibration=2000)
    ruling = rule(evidence, allow_wider=True)
    assert ruling.state == "undecided"
    assert ruling.samples_needed is None
    assert "the PSNR gap may be 0.37 dB" in ruling.because
    assert ruling.alarm_words == "–"
    clean = dataclasses.replace(evidence, gap=Interval(0.1, 0.0, 0.2))
    decided = rule(clean, allow_wider=True)
    assert (decided.state, decided.alarm_words) == ("generalizes", "2.5 %")
    assert rule(clean, allow_wider=True, looks=2).alarm_words == "5 %"
