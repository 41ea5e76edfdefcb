"""Jacobians and heatmaps against plain differentiation, value by value."""

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser, OptimalDenoiser, SquarePatchDenoiser
from scorescope.foundation import UserError
from scorescope.networks import UNet
from scorescope.probes.jacobian import Jacobian
from scorescope.probes.sensitivity import all_pixels, sensitivity, sides_holding

SHAPE = (2, 4, 8)
DIMENSION = 64


def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (40, *SHAPE)).astype(np.uint8))


def network():
    torch.manual_seed(0)
    return NetworkDenoiser(UNet(2, 8, 2), "blind-residual", SHAPE, (0.0, 2.0)).double()


DENOISERS = {
    "gaussian": lambda: GaussianDenoiser(images()),
    "optimal": lambda: OptimalDenoiser(images()),
    "network": network,
}
each = pytest.mark.parametrize("name", list(DENOISERS))


def noisy_image(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_backward_a_value(denoiser, noisy, sigma):
    y = noisy.clone().requires_grad_()
    output = denoiser(y[None], sigma).reshape(-1)
    return torch.stack([torch.autograd.grad(value, y, retain_graph=True)[0].reshape(-1) for value in output])


@each
def test_rows_columns_and_matrix_are_the_derivatives(name):
    denoiser, noisy = DENOISERS[name](), noisy_image()
    expected = one_backward_a_value(denoiser, noisy, 0.7)
    jacobian = Jacobian(denoiser, noisy, 0.7, products_at_once=10)
    units = torch.eye(DIMENSION, dtype=torch.float64).reshape(-1, *SHAPE)
    close = {"rtol": 1e-5, "atol": 1e-6 * float(expected.abs().max())}
    torch.testing.assert_close(jacobian.matrix(), expected, **close)
    torch.testing.assert_close(jacobian.rows(units).reshape(-1, DIMENSION), expected, **close)
    torch.testing.assert_close(jacobian.columns(units).reshape(-1, DIMENSION).T, expected, **close)
    torch.testing.assert_close(jacobian.denoised, denoiser(noisy[None], 0.7)[0].detach())


@each
def test_heatmaps_are_sums_of_absolute_derivatives(name):
    denoiser, noisy = DENOISERS[name](), torch.stack([noisy_image(1), noisy_image(2)])
    derivatives = torch.stack([one_backward_a_value(denoiser, image, 0.7) for image in noisy]).abs().mean(0)
    expected = derivatives.reshape(2, 32, 2, 32).sum((0, 2)).reshape(32, 4, 8).float()
    close = {"rtol": 1e-4, "atol": 1e-5 * float(expected.max())}
    torch.testing.assert_close(sensitivity(denoiser, noisy, 0.7, products_at_once=9), expected, **close)
    few = sensitivity(denoiser, noisy, 0.7, [(3, 0), (1, 7)])
    torch.testing.assert_close(few, expected[[24, 15]], **close)


def test_sides_that_hold_a_share():
    heatmap = np.zeros((1, 7, 7))
    heatmap[0, 3, 3], heatmap[0, 3, 5], heatmap[0, 0, 0] = 5, 3, 2
    assert sides_holding(heatmap, [(3, 3)], [0.5, 0.51, 0.8, 0.81, 1.0]).tolist() == [[1, 5, 5, 7, 7]]


def test_at_the_border_only_what_is_inside_counts():
    flat = np.ones((2, 5, 5))
    assert sides_holding(flat, [(0, 0), (2, 2)], [1.0, 9 / 25]).tolist() == [[9, 5], [5, 3]]


def test_a_heatmap_of_zeros_has_side_one():
    assert sides_holding(np.zeros((1, 3, 3)), [(1, 1)], [0.5, 1.0]).tolist() == [[1, 1]]


def test_pixels_in_row_order():
    assert all_pixels(2, 3) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_what_cannot_be_measured():
    noisy = torch.zeros(1, *SHAPE)
    with pytest.raises(UserError, match="not differentiable"):
        sensitivity(SquarePatchDenoiser(images(), 3), noisy, 1.0)
    with pytest.raises(UserError, match=r"pixel \(4, 0\) is outside images of 4×8"):
        sensitivity(network(), noisy, 1.0, [(4, 0)])
    with pytest.raises(UserError, match="there are none"):
        sensitivity(network(), noisy[:0], 1.0)
    with pytest.raises(UserError, match="share"):
        sides_holding(np.ones((1, 3, 3)), [(1, 1)], [0.0])
    with pytest.raises(UserError, match="not negative"):
        sides_holding(-np.ones((1, 3, 3)), [(1, 1)], [0.5])
