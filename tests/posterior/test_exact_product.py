"""Every way to multiply integers with bytes gives the same integers, and the posterior the same bits whichever runs."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.posterior.test_whole_image import levels, random_set

from scorescope.posterior import product_race, word_product
from scorescope.posterior.exact_product import byte_times_byte, times_columns, times_rows, to_whole
from scorescope.posterior.product_race import fastest_way, race, races
from scorescope.posterior.product_ways import BYTE_BITS, BYTES, WAYS, WHOLE_BITS
from scorescope.posterior.whole_image import WholeImagePosterior

LARGEST = 127 * (256**2 + 256 + 1)
EXACT = [pytest.param(way, id=way.name) for way in WAYS if way.exact()]


def extreme(rng, values, shape, dtype):
    """Mostly the numbers whose sums are largest."""
    return rng.choice(values, shape).astype(dtype)


def check(way, rows, terms, others, seed, bits):
    rng = np.random.default_rng(seed)
    largest = LARGEST if bits == WHOLE_BITS else 127
    whole = extreme(rng, [-largest, largest, -1, 0, largest // 3], (rows, terms), np.int32)
    lying = extreme(rng, [-128, 127, 1], (others, terms), np.int8)
    standing = np.ascontiguousarray(lying.T)
    digits, expected = way.digits(whole, bits), whole.astype(np.int64) @ lying.T.astype(np.int64)
    assert len(digits) == way.places(bits)
    np.testing.assert_array_equal(way.together(way.rows(digits, lying)), expected)
    np.testing.assert_array_equal(way.together(way.columns(digits, standing)), expected)


@pytest.mark.parametrize("way", EXACT)
@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 9),
    terms=st.integers(1, 700),
    others=st.integers(1, 70),
    seed=st.integers(0, 1000),
    bits=st.sampled_from([WHOLE_BITS, BYTE_BITS]),
)
def test_products_are_exact(way, rows, terms, others, seed, bits):
    check(way, rows, terms, others, seed, bits)


@pytest.mark.parametrize("way", EXACT)
@pytest.mark.parametrize("terms", [word_product.MOST_TERMS, word_product.MOST_TERMS + 1, 20_001])
def test_more_terms_than_a_sum_of_32_bits_holds(way, terms):
    check(way, 2, terms, 5, 0, WHOLE_BITS)


@pytest.mark.parametrize("way", EXACT)
def test_several_blocks_and_panels(way):
    check(way, 6, 600, 400, 1, WHOLE_BITS)


def test_rows_of_a_larger_matrix():
    rng = np.random.default_rng(0)
    words, matrix = (
        rng.integers(-2048, 2048, (4, 50)).astype(np.int16),
        rng.integers(-128, 128, (9, 80)).astype(np.int8),
    )
    expected = words.astype(np.int64) @ matrix[:, 20:70].T.astype(np.int64)
    np.testing.assert_array_equal(word_product.word_rows(words, matrix[:, 20:70]), expected)


@pytest.mark.parametrize("largest", [1e-30, 1.0, 1e6])
def test_whole_numbers_hold_a_row_to_24_bits(largest):
    rows = np.random.default_rng(0).uniform(-largest, largest, (4, 50))
    rows[0, 0], rows[1, 0] = largest, -largest
    whole, scale = to_whole(rows)
    assert np.abs(whole * scale[:, None] - rows).max() <= 6.1e-8 * largest
    assert np.abs(whole).max() == LARGEST


def test_whole_numbers_of_zero():
    whole, scale = to_whole(np.zeros((1, 3)))
    assert not whole.any()
    assert np.isfinite(scale).all()


def test_the_way_that_is_chosen_is_exact_and_asked_for_once():
    assert fastest_way("rows", 1, WHOLE_BITS) is race("rows", True, WHOLE_BITS).winner
    assert race("rows", True, WHOLE_BITS) is race("rows", True, WHOLE_BITS)
    for found in races():
        assert found.winner.exact()
        assert found.winner.name in found.seconds
        assert found.winner.name in str(found)
    rng = np.random.default_rng(2)
    whole = rng.integers(-LARGEST, LARGEST, (6, 40)).astype(np.int32)
    a, b = (rng.integers(-128, 128, (40, 40)).astype(np.int8) for _ in range(2))
    np.testing.assert_array_equal(times_rows(whole, a), whole.astype(np.int64) @ a.T.astype(np.int64))
    np.testing.assert_array_equal(times_columns(whole, a), whole.astype(np.int64) @ a.astype(np.int64))
    np.testing.assert_array_equal(byte_times_byte(a, b), a.astype(np.int64) @ b.astype(np.int64))


def test_byte_products_that_round_are_never_chosen(monkeypatch):
    rounding = dataclasses.replace(BYTES, exact=lambda: False)
    monkeypatch.setattr(product_race, "BYTES", rounding)
    monkeypatch.setattr(product_race, "WAYS", (rounding, *WAYS[1:]))
    found = race.__wrapped__("columns", True, BYTE_BITS)
    assert found.winner in WAYS[1:]
    assert BYTES.name not in found.seconds


@pytest.mark.slow
def test_the_posterior_is_the_same_to_the_last_bit(monkeypatch):
    images = random_set(5, 150)
    noisy = np.random.default_rng(6).standard_normal((3, 2, 3, 5))
    spread, vectors = np.array([3.0, 40.0, 4000.0]), np.random.default_rng(7).standard_normal((3, 2, 30))
    found = []
    for way in [way for way in WAYS if way.exact()]:
        for module in ("exact_product", "whole_image"):
            monkeypatch.setattr(f"scorescope.posterior.{module}.fastest_way", lambda *_, way=way: way)
        posterior = WholeImagePosterior(images)
        sums = posterior.sums(levels(noisy), spread, top=3)
        found.append((sums, posterior.covariance_products(levels(noisy), spread, vectors)))
    first, products = found[0]
    for sums, others in found[1:]:
        for name in ("largest", "weight", "weighted_image", "weighted_logit", "top_indices"):
            np.testing.assert_array_equal(getattr(sums, name), getattr(first, name))
        np.testing.assert_array_equal(others, products)
