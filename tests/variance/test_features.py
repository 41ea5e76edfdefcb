"""Features: values against formulas written out, products in the promised order, ranges."""

import math

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.variance.features import Bumps, FourierModes, ProductFeatures, bumps, fourier


def test_bumps_are_normal_densities_half_a_spacing_wide():
    functions = Bumps(4, -1.5, 1.5)
    assert functions.width == 0.5
    values = functions(torch.tensor([0.3], dtype=torch.float64))[0]
    wanted = [math.exp(-((0.3 - c) ** 2) / 0.5) / math.sqrt(2 * math.pi * 0.25) for c in (-1.5, -0.5, 0.5, 1.5)]
    torch.testing.assert_close(values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)
    assert bool((functions(torch.tensor([20.0], dtype=torch.float64)) == 0).all())


def test_fourier_modes_lowest_first_with_one_more_cosine():
    z = torch.tensor([0.4], dtype=torch.float64)
    turn = 2 * math.pi * 0.4 / 3
    wanted = [1, math.cos(turn), math.cos(2 * turn), math.sin(turn)]
    torch.testing.assert_close(FourierModes(4, -1.5, 1.5)(z)[0], torch.tensor(wanted, dtype=torch.float64))
    assert FourierModes(5, -1.5, 1.5)(z).shape == (1, 5)
    assert FourierModes(1, 0.0, 1.0)(z).tolist() == [[1.0]]


@pytest.mark.parametrize("family", [bumps, fourier])
def test_products_run_fastest_over_time(family):
    features = family(2, 3, (0.01, 1.0))
    x, t = torch.tensor([[0.1, -0.7]], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    one, other, time = features.spatial[0](x[:, 0])[0], features.spatial[1](x[:, 1])[0], features.temporal(t)[0]
    values = features(x, t)[0]
    assert features.count == 27
    for a in range(3):
        for b in range(3):
            for c in range(3):
                assert float(values[9 * a + 3 * b + c]) == pytest.approx(float(one[a] * other[b] * time[c]), rel=1e-12)


@pytest.mark.parametrize("functions", [Bumps(16, -1.5, 1.5), FourierModes(16, -1.5, 1.5), FourierModes(10, 0.0, 1.0)])
def test_support_and_scale_are_what_tables_rely_on(functions):
    low, high, repeats = functions.support
    if repeats:
        inside = torch.linspace(low, high, 7, dtype=torch.float64)
        torch.testing.assert_close(functions(inside), functions(inside + (high - low)))
    else:
        assert float(functions(torch.tensor([low - 1e-9, high + 1e-9], dtype=torch.float64)).max()) == 0
    z = torch.linspace(functions.low, functions.high, 20001, dtype=torch.float64)
    values, h = functions(z), float(z[1] - z[0])
    slope = (values[2:] - values[:-2]).abs().max() / (2 * h)
    assert float(slope) <= 1.0001 * float(values.abs().max()) / functions.scale


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Bumps(0, 0.0, 1.0), "at least one function"),
        (lambda: Bumps(1, 0.0, 1.0), "needs a width"),
        (lambda: Bumps(3, 0.0, 1.0, width=0.0), "must be positive"),
        (lambda: FourierModes(3, 1.0, 1.0), "on a range"),
        (lambda: ProductFeatures([], Bumps(3, 0.0, 1.0)), "at least one coordinate"),
    ],
)
def test_refusals(build, words):
    with pytest.raises(UserError, match=words):
        build()
