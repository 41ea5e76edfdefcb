"""Every registered denoiser answers where it was asked, in the type it was asked in, with the same estimate."""

import numpy as np
import pytest
import torch
from tests.denoisers.elsewhere import ELSEWHERE, elsewhere

from scorescope.data.images import ImageSet
from scorescope.denoisers import denoisers

SHAPE = (1, 16, 16)
SIGMAS = torch.tensor([0.0625, 4.0])


@pytest.fixture(scope="module")
def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (9, *SHAPE)).astype(np.uint8))


@pytest.fixture(scope="module", params=list(denoisers))
def denoiser(request, images):
    if request.param == "bm3d":
        pytest.importorskip("bm3d")
    return denoisers[request.param].build(images)


@pytest.fixture(scope="module")
def noisy(images):
    """Values that every type can hold."""
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    return (images.tensor(range(2)) + SIGMAS[:, None, None, None] * noise).bfloat16().float()


@pytest.fixture(scope="module")
def expected(denoiser, noisy):
    """What is answered in memory."""
    found = denoiser(noisy, SIGMAS)
    assert found.device == noisy.device
    assert found.dtype == noisy.dtype
    return found


def test_a_device_keeps_to_itself():
    with elsewhere() as device:
        there = torch.ones(2, 3).to(device)
        assert (there + 1).device == torch.zeros(1, device=device).device == torch.tensor([1.0], device=device).device
        with pytest.raises(RuntimeError, match="one device"):
            there + torch.ones(2, 3)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_output_is_where_and_what_the_input_is(denoiser, noisy, expected, dtype):
    if denoiser.name == "bm3d" and dtype != torch.float32:
        pytest.skip("slow, and in one room with the wavelets")
    with elsewhere() as device:
        found = denoiser(noisy.to(device, dtype), SIGMAS.to(device))
        assert found.device == ELSEWHERE
        assert found.dtype == dtype
        # A mixture of denoisers mixes what they round.
        rounding = 3e-2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found.cpu(), expected.to(dtype), rtol=rounding, atol=rounding)
