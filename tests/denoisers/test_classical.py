"""Classical denoisers: the wavelet threshold against its definition, both on real photographs."""

import numpy as np
import pytest
import pywt
import torch

from scorescope.data import ImageSet, load_images
from scorescope.denoisers import BM3DDenoiser, WaveletDenoiser, denoisers
from scorescope.foundation import UserError


@pytest.fixture(scope="module")
def photographs():
    return load_images("natural-patches").train


def noisy_of(images, sigma, count=3):
    clean = images.tensor(range(count)).double()
    return clean, clean + sigma * torch.randn(
        clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )


def bayes_shrink(noisy, sigma, wavelet):
    """Written out: each detail subband is soft-thresholded at σ² over the estimated deviation of the clean one."""
    levels = max(pywt.dwtn_max_level(noisy.shape, wavelet) - 3, 1)
    coarse, *details = pywt.wavedec2(noisy, wavelet, level=levels)
    shrunk = [coarse]
    for bands in details:
        kept = []
        for band in bands:
            deviation = np.sqrt(max((band**2).mean() - sigma**2, np.finfo(band.dtype).eps))
            kept.append(np.sign(band) * np.maximum(np.abs(band) - sigma**2 / deviation, 0))
        shrunk.append(tuple(kept))
    return pywt.waverec2(shrunk, wavelet)[: noisy.shape[0], : noisy.shape[1]]


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_wavelet_shrinkage_is_bayes_shrink(photographs, sigma):
    _, noisy = noisy_of(photographs, sigma)
    found = WaveletDenoiser(photographs)(noisy, sigma)
    for image, denoised in zip(noisy.numpy(), found.numpy(), strict=True):
        for channel, estimate in zip(image, denoised, strict=True):
            np.testing.assert_allclose(estimate, bayes_shrink(channel, sigma, "db2"), atol=1e-6 * max(1, sigma))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wavelet", "bm3d"])
def test_takes_noise_away_where_it_is_made_for(photographs, name):
    if name == "bm3d":
        pytest.importorskip("bm3d")
    clean, noisy = noisy_of(photographs, 0.2, 2)
    denoised = denoisers[name].build(photographs)(noisy, 0.2)
    assert (denoised - clean).square().mean() < 0.7 * (noisy - clean).square().mean()
    for sigma in (0.002, 80.0):
        _, extreme = noisy_of(photographs, sigma, 1)
        assert torch.isfinite(denoisers[name].build(photographs)(extreme, sigma)).all()


def test_what_cannot_be_built():
    small = ImageSet(np.zeros((2, 1, 4, 4), np.uint8))
    with pytest.raises(UserError, match="not an orthogonal wavelet"):
        WaveletDenoiser(small, "bior2.2")
    pytest.importorskip("bm3d")
    with pytest.raises(UserError, match="at least 16×16 pixels"):
        BM3DDenoiser(small)
