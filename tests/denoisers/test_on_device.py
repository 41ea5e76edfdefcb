"""Denoisers that weigh training images give on a device what they give on the processor.

The device's engine runs on tensors in memory too: here it is made to take them, and on a CUDA device where there is one.
"""

import pytest
import torch

from scorescope.denoisers import (
    ClosedFormDenoiser,
    NetworkDenoiser,
    OptimalDenoiser,
    SquarePatchDenoiser,
    denoisers,
    optimal,
    patch_square,
)
from scorescope.denoisers import training_set as module
from scorescope.networks import UNet

SIGMAS = torch.tensor([0.002, 0.1, 0.4, 1.0, 5.0, 80.0])
NAMES = (
    "optimal",
    "closed-form",
    "pspc-square",
    "local-score",
    "equivariant-local-score",
    "border-local-score",
    "pspc-flex",
    "pca-locality",
)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is present")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=cuda)])
def there(request, monkeypatch):
    """Call it to go to the device: from then on its engine is used."""

    def go():
        for each in (module, optimal, patch_square):
            monkeypatch.setattr(each, "has_device_engine", lambda device: True)
        return torch.device(request.param)

    return go


@pytest.fixture(scope="module")
def few(digits):
    return digits.subset(range(0, 1797, 60)).with_flips()


def noisy_images(few, sigmas):
    noise = torch.randn(len(sigmas), 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return few.tensor(range(len(sigmas))) + sigmas[:, None, None, None] * noise


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_same_at_mixed_sigmas(name, temperature, few, there):
    noisy = noisy_images(few, SIGMAS)
    expected = denoisers[name].build(few, temperature=temperature)(noisy, SIGMAS)
    device = there()
    found = denoisers[name].build(few, temperature=temperature)(noisy.to(device), SIGMAS.to(device))
    assert found.device.type == device.type
    assert found.dtype == noisy.dtype
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=2e-5)


def test_classes_and_the_split_of_large_batches(digits, there, monkeypatch):
    ones = digits.of_class(1)
    noisy = noisy_images(digits, SIGMAS)
    expected = OptimalDenoiser(ones)(noisy, SIGMAS)
    device = there()
    monkeypatch.setattr(module, "MOST_AT_ONCE", 4)
    found = OptimalDenoiser(ones)(noisy.to(device), SIGMAS.to(device)).cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_denoisers_of_one_set_share_its_bytes_on_the_device(few, there):
    device = there()
    one, other = OptimalDenoiser(few), ClosedFormDenoiser(few)
    assert one.engine_on(device) is other.engine_on(device)


@pytest.mark.slow
def test_descriptions_and_gradients(few, there):
    sigmas = SIGMAS[2:]
    noisy = noisy_images(few, sigmas)
    expected = OptimalDenoiser(few).describe(noisy, sigmas, top=3)
    windows = SquarePatchDenoiser(few, 3).describe(noisy, 0.7, top=3)
    vectors = torch.randn(2, *noisy.shape, generator=torch.Generator().manual_seed(1))
    products = OptimalDenoiser(few).jacobian_products(noisy, sigmas, vectors)
    device = there()
    on_device = noisy.to(device).requires_grad_()
    found = OptimalDenoiser(few).describe(on_device, sigmas.to(device), top=3)
    for name in ("mean", "probabilities", "effective_number", "log_evidence", "covariance_trace"):
        torch.testing.assert_close(getattr(found, name).cpu(), getattr(expected, name), rtol=1e-4, atol=1e-4)
    patches = SquarePatchDenoiser(few, 3).describe(noisy.to(device), 0.7, top=3)
    for name in ("probabilities", "effective_number", "log_evidence"):
        torch.testing.assert_close(getattr(patches, name).cpu(), getattr(windows, name), rtol=1e-3, atol=1e-3)
    denoiser = OptimalDenoiser(few)
    moved = denoiser.jacobian_products(on_device, sigmas.to(device), vectors.to(device)).cpu()
    torch.testing.assert_close(moved, products, rtol=1e-4, atol=1e-5)
    [gradient] = torch.autograd.grad(denoiser(on_device, sigmas.to(device)), on_device, vectors[0].to(device))
    torch.testing.assert_close(gradient.cpu(), products[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=cuda)])
def test_a_network_takes_images_from_anywhere_and_gives_them_back_there(place):
    network = NetworkDenoiser(UNet(1, 4, 1), "blind-residual", (1, 8, 8), (0.0, 2.0)).to(place)
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        here, there = network(noisy), network(noisy.to(place))
    assert here.device == noisy.device
    assert there.device.type == place
    torch.testing.assert_close(here, there.cpu())
