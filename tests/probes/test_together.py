"""Products with the Jacobians at several images, made in one batch, are those that each would get alone."""

import itertools

import numpy as np
import pytest
import torch

from scorescope.denoisers import NetworkDenoiser
from scorescope.networks import architectures
from scorescope.probes.jacobian import Jacobian
from scorescope.probes.spectra import spectra
from scorescope.probes.spectrum_settings import SpectrumSettings
from scorescope.probes.together import JacobiansTogether

pytestmark = pytest.mark.slow

SHAPE = (1, 8, 8)
SIGMAS = [0.3, 0.8, 0.3]


@pytest.fixture(scope="module")
def network():
    """A DDPM++, whose layers of group normalization have no batched derivative, in float64."""
    torch.manual_seed(0)
    entry = architectures["ddpm++"]
    small = {"model_channels": 16, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": []}
    built = entry.build(**entry.arguments_for(SHAPE) | small).double().eval()
    for each in built.parameters():  # layers that begin at zero would leave nothing to differentiate
        torch.nn.init.normal_(each, std=0.1) if not each.any() else None
    return NetworkDenoiser(built, entry.preconditioning, SHAPE, (0.002, 80.0))


@pytest.fixture(scope="module")
def noisy():
    return torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_products_are_those_of_each_image(network, noisy):
    generator = torch.Generator().manual_seed(2)
    vectors = [torch.randn(count, *SHAPE, dtype=torch.float64, generator=generator) for count in (2, 1, 3)]

    def task(index, jacobian):  # some ask more often than others, and for something else
        products = [jacobian.columns(vectors[index])] if index != 1 else []
        return jacobian.denoised, *products, jacobian.rows(vectors[index])

    found = JacobiansTogether(network, noisy, SIGMAS, products_at_once=4).each(task)
    for index, (denoised, *products) in enumerate(found):
        alone = Jacobian(network, noisy[index], SIGMAS[index])
        expected = [alone.columns(vectors[index])] if index != 1 else []
        torch.testing.assert_close(denoised, alone.denoised)
        torch.testing.assert_close(products, [*expected, alone.rows(vectors[index])])


def test_who_fails_keeps_nobody_waiting(network, noisy):
    def task(index, jacobian):
        if index == 1:
            raise ValueError("this image")
        return jacobian.rows(noisy[:1])

    with pytest.raises(ValueError, match="this image"):
        JacobiansTogether(network, noisy, SIGMAS).each(task)
    with pytest.raises(RuntimeError, match="shape"):
        JacobiansTogether(network, noisy, SIGMAS).each(lambda index, jacobian: jacobian.rows(noisy[:1, :, :4]))


def test_spectra_together_are_spectra_alone(network):
    settings = SpectrumSettings(exact_up_to=0, eigenpairs=3, products=6, rotations=2, tolerance=1e-6)
    clean = torch.rand(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    alone = spectra(network, clean, [0.3, 0.8], settings, seed=0)
    together = spectra(network, clean, [0.3, 0.8], settings, seed=0, together=3)
    for one, other in zip(itertools.chain(*alone), itertools.chain(*together), strict=True):
        assert one.sigma == other.sigma
        np.testing.assert_allclose(other.eigenvalues, one.eigenvalues, atol=1e-6)
        np.testing.assert_allclose(other.pictures, one.pictures, atol=1e-4)
        assert other.trace.value == pytest.approx(one.trace.value, rel=1e-6)
        assert other.asymmetry.value == pytest.approx(one.asymmetry.value, rel=1e-5, abs=1e-8)
