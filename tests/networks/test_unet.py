"""The bias-free U-Net against golden data and its defining properties."""

import pytest
import torch
from tests.conftest import relative_error

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import UNet
from scorescope.networks.bias_free import BiasFreeBatchNorm


@pytest.fixture(scope="module")
def published(golden):
    data = golden("kadkhodaie_unet.npz")
    network = UNet(channels=1, width=8, blocks=2)
    network.load_state_dict({key[6:]: torch.from_numpy(data[key]) for key in data.files if key.startswith("state/")})
    return data, network.eval()


def test_output_matches_golden(published):
    data, network = published
    with torch.no_grad():
        assert relative_error(network(torch.from_numpy(data["noisy"])), data["residual"]) < 1e-5


def test_denoiser_matches_golden_on_images_from_zero_to_one(published):
    data, network = published
    noisy = torch.from_numpy(data["noisy"])
    denoiser = NetworkDenoiser(network, "blind-residual", (1, 24, 24), (0.0, 2.0))
    with torch.no_grad():
        assert relative_error((denoiser(2 * noisy - 1) + 1) / 2, data["denoised"]) < 1e-5


def test_network_is_homogeneous_and_equals_its_jacobian_times_its_input(published):
    _, network = published
    network = network.double()
    noisy = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    output = network(noisy)
    assert relative_error(network(3.7 * noisy).detach(), 3.7 * output.detach()) < 1e-12
    _, product = torch.autograd.functional.jvp(network, noisy, noisy)
    assert relative_error(product.detach(), output.detach()) < 1e-12


def test_paper_network_has_its_published_size():
    assert sum(parameter.numel() for parameter in UNet().parameters()) == 7_659_264


def test_norm_divides_by_the_standard_deviation_only():
    norm = BiasFreeBatchNorm(3).double().train()
    x = 2.0 + 3.0 * torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = x / x.var((0, 2, 3), unbiased=False, keepdim=True).add(1e-5).sqrt()
    assert relative_error(norm(x).detach(), expected) < 1e-12
    assert relative_error(norm.running_sd, 0.9 + 0.1 * (x / expected).mean((0, 2, 3), keepdim=True)) < 1e-6


def test_written_out_gradient_of_the_norm_is_right():
    norm = BiasFreeBatchNorm(4).double().train()
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3
    assert torch.autograd.gradcheck(norm, x.requires_grad_())


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(UserError, match="divisible by 8"):
        UNet(blocks=3)(torch.zeros(1, 1, 28, 28))
