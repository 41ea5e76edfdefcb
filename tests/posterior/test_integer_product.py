"""Byte products are exact, and digits hold 24 bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorescope.posterior import integer_product as module
from scorescope.posterior.integer_product import from_digits, integer_product, to_digits


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 20), terms=st.integers(1, 2500), columns=st.integers(1, 20), seed=st.integers(0, 1000))
def test_products_are_exact(rows, terms, columns, seed):
    rng = np.random.default_rng(seed)
    a = rng.choice([-128, -127, 0, 5, 127], (rows, terms)).astype(np.int8)
    b = rng.choice([-128, 127], (columns, terms)).astype(np.int8)
    np.testing.assert_array_equal(integer_product(a, b.T), a.astype(np.int64) @ b.T.astype(np.int64))


def test_a_machine_without_byte_products_gets_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((5, 3000), (3000, 7)))
    expected = integer_product(a, b)
    monkeypatch.setattr(module, "_byte_product_is_exact", lambda device: False)
    np.testing.assert_array_equal(integer_product(a, b), expected)


def test_sums_too_long_for_32_bits():
    a = np.full((1, 2**18), -128, dtype=np.int8)
    assert integer_product(a, a.T)[0, 0] == 2**32


@pytest.mark.parametrize("largest", [1e-30, 1.0, 1e6])
def test_digits_hold_a_row_to_24_bits(largest):
    rows = np.random.default_rng(0).uniform(-largest, largest, (4, 50))
    rows[0, 0], rows[1, 0] = largest, -largest
    digits, scale = to_digits(rows)
    assert np.abs(from_digits(digits.astype(np.int32)) * scale[:, None] - rows).max() <= 6.1e-8 * largest


def test_digits_of_zero():
    digits, scale = to_digits(np.zeros((1, 3)))
    assert not digits.any()
    assert np.isfinite(scale).all()
