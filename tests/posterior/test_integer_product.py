"""Products of bytes by PyTorch are exact, with a byte product and without."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorescope.posterior import integer_product as module
from scorescope.posterior.integer_product import integer_product_on


def product(a, b):
    return integer_product_on(torch.from_numpy(a), torch.from_numpy(b)).numpy()


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 20), terms=st.integers(1, 2500), columns=st.integers(1, 20), seed=st.integers(0, 1000))
def test_products_are_exact(rows, terms, columns, seed):
    rng = np.random.default_rng(seed)
    a = rng.choice([-128, -127, 0, 5, 127], (rows, terms)).astype(np.int8)
    b = rng.choice([-128, 127], (columns, terms)).astype(np.int8)
    np.testing.assert_array_equal(product(a, b.T), a.astype(np.int64) @ b.T.astype(np.int64))


def test_a_machine_without_byte_products_gets_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((5, 3000), (3000, 7)))
    monkeypatch.setattr(module, "_byte_product_is_exact", lambda device: False)
    np.testing.assert_array_equal(product(a, b), a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("exact", [True, False])
def test_sums_too_long_for_32_bits(exact, monkeypatch):
    a = np.full((1, 2**18), -128, dtype=np.int8)
    monkeypatch.setattr(module, "_byte_product_is_exact", lambda device: exact)
    assert product(a, a.T)[0, 0] == 2**32


@pytest.mark.parametrize("terms", [9, 27, 64])
def test_matrices_that_lie_in_memory_in_any_way(terms):
    generator = torch.Generator().manual_seed(terms)

    def drawn(*shape):
        return torch.randint(-128, 128, shape, dtype=torch.int8, generator=generator)

    by_columns, apart = drawn(terms, 12).T, drawn(12, 2 * terms)[:, :terms]
    overlapping = drawn(terms + 3 * 16).unfold(0, terms, 3)
    firsts = [drawn(12, terms), by_columns, apart, overlapping]
    seconds = [drawn(terms, 16), drawn(16, terms).T, overlapping.T, drawn(16, 2 * terms)[:, :terms].T]
    for a in firsts:
        for b in seconds:
            assert torch.equal(integer_product_on(a, b).long(), a.long() @ b.long())
