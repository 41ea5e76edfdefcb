"""What the optimal denoiser tells beside its output: weights, evidence, covariance, derivatives, against float64."""

import math

import numpy as np
import pytest
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import OptimalDenoiser
from scorescope.foundation import UserError

SHAPE = (2, 3, 4)
DIMENSION = math.prod(SHAPE)
SIGMAS = (0.002, 0.1, 0.7, 4.0, 80.0)


def images(count=40, seed=0):
    return ImageSet(np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.uint8))


def between(pixels, sigma, batch=3, seed=1):
    """Noisy images near the middle of pairs of training images, where weights are shared."""
    clean = torch.from_numpy(oracles.values(pixels))
    noise = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (clean[:batch] + clean[1 : batch + 1]) / 2 + sigma * noise


def weights_of(noisy, pixels, sigma, temperature=1.0):
    clean = oracles.values(pixels)
    return np.stack([oracles.posterior_weights(y.numpy(), clean, sigma * math.sqrt(temperature)) for y in noisy])


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_description_matches_the_definition(sigma, temperature):
    training = images()
    clean = oracles.values(training.pixels).reshape(len(training), -1)
    noisy = between(training.pixels, sigma)
    found = OptimalDenoiser(training, temperature=temperature).describe(noisy, sigma, top=5)
    weights = weights_of(noisy, training.pixels, sigma, temperature)
    spread = sigma * math.sqrt(temperature)
    for row in range(len(noisy)):
        w = weights[row]
        np.testing.assert_allclose(found.probabilities[row], np.sort(w)[::-1][:5], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(w[found.indices[row]], found.probabilities[row], rtol=1e-5, atol=1e-9)
        entropy = -(w[w > 0] * np.log(w[w > 0])).sum()
        assert found.effective_number[row] == pytest.approx(math.exp(entropy), rel=1e-5)
        distances = ((noisy[row].numpy().reshape(-1) - clean) ** 2).sum(1)
        exponents = -distances / (2 * spread**2)
        evidence = np.log(np.exp(exponents - exponents.max()).mean()) + exponents.max()
        evidence -= DIMENSION / 2 * math.log(2 * math.pi * spread**2)
        assert found.log_evidence[row] == pytest.approx(evidence, rel=1e-6, abs=1e-4)
        trace = w @ (clean**2).sum(1) - ((w @ clean) ** 2).sum()
        assert found.covariance_trace[row] == pytest.approx(trace, rel=1e-5, abs=1e-5)
        np.testing.assert_allclose(found.mean[row].reshape(-1), w @ clean, atol=1e-6)


def test_fewer_training_images_than_asked_for():
    found = OptimalDenoiser(images(2)).describe(torch.zeros(1, *SHAPE), 1.0, top=4)
    assert found.indices[0, 2:].tolist() == [-1, -1]
    assert found.probabilities[0, 2:].tolist() == [0.0, 0.0]
    assert float(found.probabilities.sum()) == pytest.approx(1.0, abs=1e-6)


def test_one_training_image_leaves_nothing_uncertain():
    found = OptimalDenoiser(images(1)).describe(torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)), 0.5)
    assert found.effective_number.tolist() == [1.0, 1.0]
    assert found.covariance_trace.tolist() == [0.0, 0.0]


def exact_jacobian(noisy, pixels, sigma):
    clean = torch.from_numpy(oracles.values(pixels)).reshape(len(pixels), -1)

    def mean(y):
        return torch.softmax(-((y - clean) ** 2).sum(1) / (2 * sigma**2), 0) @ clean

    return torch.func.jacrev(mean)(noisy.reshape(-1))


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0, 80.0])
def test_jacobian_products_match_differentiation(sigma):
    training = images()
    noisy = between(training.pixels, sigma)
    vectors = torch.randn(4, *noisy.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    products = OptimalDenoiser(training).jacobian_products(noisy, sigma, vectors)
    for row in range(len(noisy)):
        expected = vectors[:, row].reshape(4, -1) @ exact_jacobian(noisy[row], training.pixels, sigma)
        scale = float(expected.abs().max())
        torch.testing.assert_close(products[:, row].reshape(4, -1), expected, rtol=1e-4, atol=1e-5 * max(scale, 1e-6))


def test_autograd_batched_products_and_forward_mode_agree():
    training = images()
    noisy = between(training.pixels, 0.5)
    denoiser = OptimalDenoiser(training)

    def denoise(y):
        return denoiser.denoise(y, torch.full((3,), 0.5))

    _, pull_back = torch.func.vjp(denoise, noisy)
    probes = torch.eye(DIMENSION, dtype=torch.float64).reshape(DIMENSION, 1, *SHAPE).expand(-1, len(noisy), -1, -1, -1)
    (rows,) = torch.func.vmap(pull_back)(probes)
    for row in range(len(noisy)):
        jacobian = rows[:, row].reshape(DIMENSION, DIMENSION)
        expected = exact_jacobian(noisy[row], training.pixels, 0.5)
        torch.testing.assert_close(jacobian, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(jacobian, jacobian.T, rtol=0, atol=1e-6)
    vector = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    _, tangent = torch.func.jvp(denoise, (noisy,), (vector,))
    torch.testing.assert_close(tangent, denoiser.jacobian_products(noisy, 0.5, vector))
    followed = noisy.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((denoiser(followed, 0.5) * vector).sum(), followed)
    torch.testing.assert_close(gradient, tangent)


def test_trace_of_the_jacobian_is_the_covariance_over_variance():
    training = images()
    noisy = between(training.pixels, 0.4)
    denoiser = OptimalDenoiser(training)
    probes = torch.eye(DIMENSION, dtype=torch.float64).reshape(DIMENSION, 1, *SHAPE).expand(-1, len(noisy), -1, -1, -1)
    columns = denoiser.jacobian_products(noisy, 0.4, probes).reshape(DIMENSION, len(noisy), DIMENSION)
    trace = torch.einsum("ibi->b", columns)
    # The trace from one pass is a difference of second moments, whose weights have 22 bits.
    torch.testing.assert_close(trace, denoiser.describe(noisy, 0.4).covariance_trace / 0.4**2, rtol=1e-5, atol=1e-4)


def test_many_chunks_and_rows(monkeypatch):
    training = images(700)
    noisy = between(training.pixels, 1.0, batch=20)
    vectors = torch.randn(9, *noisy.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    whole = OptimalDenoiser(training).jacobian_products(noisy, 1.0, vectors)
    monkeypatch.setattr("scorescope.posterior.whole_image.CHUNK_BYTES", 1)
    monkeypatch.setattr("scorescope.posterior.whole_image.MOST_ROWS", 16)
    pieces = OptimalDenoiser(training).jacobian_products(noisy, 1.0, vectors)
    torch.testing.assert_close(pieces, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


def test_what_cannot_be_asked():
    denoiser = OptimalDenoiser(images(3))
    noisy = torch.zeros(1, *SHAPE)
    with pytest.raises(UserError, match="at least 1, found 0"):
        denoiser.describe(noisy, 1.0, top=0)
    with pytest.raises(UserError, match=r"found \(2, 2, 3, 4\)"):
        denoiser.jacobian_products(noisy, 1.0, torch.zeros(2, *SHAPE))
    with pytest.raises(UserError, match="with respect to sigma"):
        denoiser(noisy, torch.ones(1, requires_grad=True)).sum().backward()
