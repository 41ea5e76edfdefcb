"""The explicit Jacobian of a bias-free U-Net against automatic differentiation, whole, by products, and in windows."""

import pytest
import torch
from tests.conftest import relative_error

from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import BFCNN, UNet
from scorescope.networks.bias_free import BiasFreeBatchNorm
from scorescope.probes.jacobian import Jacobian, jacobian_at
from scorescope.probes.linear_unet import LinearUNet, is_linear_unet
from scorescope.probes.local_features import Local, Window, convolved, downsampled, pooled, unpooled, upsampled


def denoiser(shape, width=2, blocks=2):
    """Random weights, and normalizations that differ a channel and change signs."""
    torch.manual_seed(0)
    network = UNet(shape[0], width, blocks)
    for module in network.modules():
        if isinstance(module, BiasFreeBatchNorm):
            module.gammas.data.normal_()
            module.running_sd.uniform_(0.2, 2)
    return NetworkDenoiser(network, "blind-residual", shape, (0.0, 2.0)).double()


def noisy_image(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "blocks"),
    [((1, 16, 16), 1), ((1, 16, 24), 2), ((2, 8, 12), 2), ((1, 16, 40), 3), ((3, 8, 8), 3)],
)
def test_matrix_and_products_are_those_of_automatic_differentiation(shape, blocks):
    one, noisy = denoiser(shape, blocks=blocks), noisy_image(shape)
    expected = Jacobian(one, noisy, None)
    found = LinearUNet(one, noisy, products_at_once=7)
    assert relative_error(found.denoised, one(noisy[None])[0].detach()) == 0
    assert relative_error(found.matrix(), expected.matrix()) < 1e-12
    vectors = torch.randn(10, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert relative_error(found.rows(vectors), expected.rows(vectors)) < 1e-12
    assert relative_error(found.columns(vectors), expected.columns(vectors)) < 1e-12


def test_a_network_without_biases_is_its_jacobian_times_its_input():
    shape = (1, 24, 24)
    one, noisy = denoiser(shape, blocks=3), noisy_image(shape)
    jacobian = LinearUNet(one, noisy)
    on_unit_scale = (noisy + 1) / 2
    denoised = jacobian.columns(2 * on_unit_scale[None])[0] - 1
    assert relative_error(denoised, jacobian.denoised) < 1e-12


def test_it_is_taken_where_it_applies():
    unet = denoiser((1, 8, 8))
    assert is_linear_unet(unet)
    assert isinstance(jacobian_at(unet, noisy_image((1, 8, 8)), 0.3), LinearUNet)
    bf_cnn = NetworkDenoiser(BFCNN(1, 4, 3), "blind-residual", (1, 8, 8), (0.0, 2.0)).double()
    assert not is_linear_unet(bf_cnn)
    assert isinstance(jacobian_at(bf_cnn, noisy_image((1, 8, 8)), 0.3), Jacobian)
    with pytest.raises(UserError, match="takes images"):
        jacobian_at(unet, noisy_image((1, 8, 16)), 0.3)


@pytest.mark.parametrize("window", [Window(0, 2, 3, 7), Window(2, 7, 5, 8), Window(0, 8, 0, 8), Window(3, 4, 0, 8)])
def test_operations_on_windows_are_those_on_whole_grids(window):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, *window.size, generator=generator, dtype=torch.float64)
    local, grid = Local(values, window), Window(0, 8, 0, 8)
    whole = local.on(grid).values
    three = torch.randn(5, 3, 3, 3, generator=generator, dtype=torch.float64)
    two = torch.randn(5, 3, 2, 2, generator=generator, dtype=torch.float64)
    pairs = [
        (convolved(local, three, 8, 8).on(grid), torch.nn.functional.conv2d(whole, three, padding=1)),
        (pooled(local).on(Window(0, 4, 0, 4)), torch.nn.functional.avg_pool2d(whole, 2)),
        (unpooled(local).on(Window(0, 16, 0, 16)), whole.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4),
        (downsampled(local, two).on(Window(0, 4, 0, 4)), torch.nn.functional.conv2d(whole, two, stride=2)),
        (
            upsampled(local, two.transpose(0, 1)).on(Window(0, 16, 0, 16)),
            torch.nn.functional.conv_transpose2d(whole, two.transpose(0, 1), stride=2),
        ),
    ]
    for found, expected in pairs:
        torch.testing.assert_close(found.values, expected)
    assert local.plus(local).values.equal(2 * values)
