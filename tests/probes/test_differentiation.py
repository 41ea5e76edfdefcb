"""Derivatives of networks whose layers lack batched or forward differentiation, against differences in float64."""

import pytest
import torch
from torch import nn

from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import preconditioning_from
from scorescope.networks.readers.diffusers_folder import DiffusersUNet
from scorescope.probes.differentiation import Derivative, directional_derivatives
from scorescope.probes.jacobian import Jacobian
from scorescope.probes.sensitivity import sensitivity
from scorescope.probes.sure import divergence

SHAPE, SIGMA = (2, 4, 4), 0.7


def differences(denoise, image, step=1e-5):
    """The whole matrix, (d, d), by central differences; float64 leaves about 1e-9."""
    units = step * torch.eye(image.numel(), dtype=image.dtype).reshape(-1, *image.shape[1:])
    with torch.no_grad():
        return ((denoise(image + units) - denoise(image - units)).flatten(1) / (2 * step)).T


def image(seed=0):
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def denoiser():
    """A UNet of diffusers with attention at both levels and in the middle; fused attention, GroupNorm, reshapes."""
    diffusers = pytest.importorskip("diffusers", reason="the optional package diffusers is not installed")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=4,
        in_channels=2,
        out_channels=2,
        block_out_channels=(4, 8),
        down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
    )
    with torch.no_grad():
        for weights in unet.parameters():
            weights.add_(0.1 * torch.randn(weights.shape))  # attention that looks at something
    preconditioning = preconditioning_from("epsilon", {"time": {"kind": "table"}})
    return NetworkDenoiser(DiffusersUNet(unet, 0), preconditioning, SHAPE, (0.01, 100.0)).double()


@pytest.fixture(scope="module")
def expected(denoiser):
    return differences(lambda y: denoiser(y, SIGMA), image())


def test_rows_columns_and_matrix_of_a_unet_with_attention(denoiser, expected):
    jacobian = Jacobian(denoiser, image()[0], SIGMA, products_at_once=20)
    units = torch.eye(32, dtype=torch.float64).reshape(-1, *SHAPE)
    close = {"rtol": 0, "atol": 1e-8 * float(expected.abs().max())}
    torch.testing.assert_close(jacobian.matrix(), expected, **close)
    torch.testing.assert_close(jacobian.rows(units).flatten(1), expected, **close)
    torch.testing.assert_close(jacobian.columns(units).flatten(1).T, expected, **close)
    torch.testing.assert_close(jacobian.symmetric(units[:3]).flatten(1), ((expected + expected.T) / 2)[:3], **close)
    torch.testing.assert_close(jacobian.denoised, denoiser(image(), SIGMA)[0])


def test_more_vectors_than_copies_and_then_fewer(denoiser, expected):
    jacobian = Jacobian(denoiser, image()[0], SIGMA)
    vectors = torch.randn(35, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for count in (35, 2):
        flat = vectors[:count].flatten(1)
        torch.testing.assert_close(jacobian.rows(vectors[:count]).flatten(1), flat @ expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(jacobian.columns(vectors[:count]).flatten(1), flat @ expected.T, rtol=0, atol=1e-6)


def test_divergence_of_a_unet_with_attention(denoiser, expected):
    draws = torch.Generator().manual_seed(1)
    found = divergence(denoiser, torch.cat([image(), image(5)]), SIGMA, draws, draws=2)
    again = torch.Generator().manual_seed(1)
    signs = [2.0 * torch.randint(0, 2, (2, *SHAPE), generator=again) - 1 for _ in range(2)]
    vectors = torch.stack([one[0].flatten() for one in signs]).double()
    assert float(found[0]) == pytest.approx(float(((vectors @ expected.T) * vectors).sum(1).mean()), rel=1e-7)


def test_heatmaps_of_a_unet_with_attention(denoiser, expected):
    found = sensitivity(denoiser, image(), SIGMA)
    wanted = expected.abs().reshape(2, 16, 2, 16).sum((0, 2)).reshape(16, 4, 4)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


class _Cube(torch.autograd.Function):
    """y³, whose derivative is written for plain backward passes alone, as layers of other projects have it."""

    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return y**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class _CubeOnce(_Cube):
    """The same, not differentiable twice."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


def mixed(cube):
    mixing = nn.Conv2d(2, 2, 3, padding=1, bias=False).double().requires_grad_(False)
    return lambda y: mixing(cube.apply(y)) + y.sin()


@pytest.mark.parametrize("cube", [_Cube, _CubeOnce])
def test_a_layer_that_only_has_a_backward_pass(cube):
    torch.manual_seed(0)
    denoise = mixed(cube)
    expected = differences(denoise, image())
    derivative = Derivative(denoise, image())
    units = torch.eye(32, dtype=torch.float64).reshape(-1, *SHAPE)
    torch.testing.assert_close(derivative.value[None], denoise(image()))
    torch.testing.assert_close(derivative.rows(units).flatten(1), expected, rtol=0, atol=1e-7)
    if cube is _Cube:
        torch.testing.assert_close(derivative.columns(units).flatten(1).T, expected, rtol=0, atol=1e-7)
        batch = torch.cat([image(), image(2)])
        found = directional_derivatives(denoise, batch, units[:2])
        torch.testing.assert_close(found[0].flatten(), expected[:, 0], rtol=0, atol=1e-7)
        torch.testing.assert_close(found[1].flatten(), differences(denoise, batch[1:])[:, 1], rtol=0, atol=1e-7)
    else:
        for product in (derivative.columns, lambda v: directional_derivatives(denoise, image(), v[:1])):
            with pytest.raises(UserError, match="cannot differentiate one of its layers .*finite differences"):
                product(units)
