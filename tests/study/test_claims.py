"""Claims: the verdict follows from the number and the rule, and nothing else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scorescope.study import Claim, Rule

NUMBERS = st.floats(-1e6, 1e6)


def claim(value, rule, **more):
    return Claim("It grows.", "paper, figure 1", "growth", value, rule, **more)


@given(value=NUMBERS, bound=NUMBERS)
def test_open_and_closed_bounds_differ_only_at_the_bound(value, bound):
    assert Rule(at_least=bound).holds(value) == (value >= bound)
    assert Rule(above=bound).holds(value) == (value > bound)
    assert Rule(at_most=bound).holds(value) == (value <= bound)
    assert Rule(below=bound).holds(value) == (value < bound)


@given(value=NUMBERS, low=NUMBERS, high=NUMBERS)
def test_a_rule_of_two_bounds_needs_both(value, low, high):
    both = Rule(at_least=low, below=high)
    assert both.holds(value) == (Rule(at_least=low).holds(value) and Rule(below=high).holds(value))


@pytest.mark.parametrize(("value", "verdict"), [(0.3, "holds"), (0.31, "fails"), (-5.0, "holds")])
def test_the_verdict_is_computed(value, verdict):
    assert claim(value, Rule(at_most=0.3)).verdict == verdict


def test_the_verdict_cannot_be_given():
    with pytest.raises(TypeError, match="verdict"):
        Claim("It grows.", "paper", "growth", 1.0, Rule(above=0), verdict="holds")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_tested_and_says_so(value):
    judged = claim(value, Rule(above=0))
    assert (judged.verdict, judged.value) == ("not tested at this size", None)
    assert str(value) in judged.note


def test_a_missing_number_needs_a_reason():
    with pytest.raises(ValueError, match="why it was not tested"):
        claim(None, Rule(above=0))
    assert claim(None, Rule(above=0), note="too small").verdict == "not tested at this size"


def test_a_close_call_is_one_whose_uncertainty_holds_the_other_verdict():
    assert claim(0.25, Rule(at_most=0.3), interval=(0.2, 0.4)).close
    assert not claim(0.25, Rule(at_most=0.3), interval=(0.2, 0.29)).close
    assert not claim(0.25, Rule(at_most=0.3)).close


def test_rules_in_words():
    rule = Rule(at_least=0.4, at_most=0.6, because="0.1 around the paper's value")
    assert rule.words("dB") == "at least 0.4 dB and at most 0.6 dB (0.1 around the paper's value)"
    assert Rule(above=0).words() == "above 0"


@pytest.mark.parametrize("bounds", [{}, {"above": math.nan}, {"below": math.inf}])
def test_a_rule_that_decides_nothing_is_refused(bounds):
    with pytest.raises(ValueError, match="bound"):
        Rule(**bounds)


def test_an_interval_is_ordered():
    with pytest.raises(ValueError, match="low, high"):
        claim(1.0, Rule(above=0), interval=(2.0, 1.0))


def test_a_stored_claim_comes_back_and_a_forged_verdict_does_not():
    before = claim(0.5, Rule(at_least=0.4, because="half"), unit="dB", interval=(0.3, 0.6), note="few images")
    record = before.to_json()
    assert Claim.from_json(record) == before
    assert Claim.from_json(record | {"verdict": "fails"}).verdict == "holds"
