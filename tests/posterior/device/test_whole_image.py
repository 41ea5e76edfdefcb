"""The whole-image posterior on a device against its definition in float64 and against the processor's engine."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import relative_error
from tests.posterior import oracles
from tests.posterior.device.cases import BUDGETS, SIGMAS, between, clean, engine, image_of, levels, question, random_set

from scorescope.data.images import ImageSet
from scorescope.posterior import integer_product
from scorescope.posterior.device import attention, two_passes
from scorescope.posterior.device import whole_image as module
from scorescope.posterior.device.digits import to_fixed_point
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.whole_image import WholeImagePosterior


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("flips", [False, True])
def test_mixed_sigmas_match_the_definition(budget, flips, device):
    images = random_set(0, 200, flips=flips)
    noisy = between(images, SIGMAS)
    mean = engine(images, device, budget).whole_image.mean(*question(noisy, SIGMAS, device))
    expected = [oracles.optimal(*each, sigma) for *each, sigma in zip(noisy, [clean(images)] * 6, SIGMAS, strict=True)]
    np.testing.assert_allclose(image_of(mean, images), expected, atol=2e-6)


@pytest.mark.parametrize("budget", BUDGETS)
def test_sums_match_those_of_the_processor(budget, device):
    images = random_set(2, 333, flips=True)
    noisy = between(images, SIGMAS)
    posterior, reference = engine(images, device, budget).whole_image, WholeImagePosterior(images)
    values, spread = question(noisy, SIGMAS, device)
    found = posterior.sums(values, spread, top=4)
    expected = reference.sums(levels(noisy), spread.cpu().numpy(), top=4)
    for name, tolerance in {"mean": 1e-3, "log_normalizer": 1e-6, "entropy": 2e-5}.items():
        np.testing.assert_allclose(getattr(found, name).cpu(), getattr(expected, name), rtol=1e-6, atol=tolerance)
    np.testing.assert_allclose(found.covariance_trace.cpu(), expected.covariance_trace, rtol=1e-5, atol=1)
    np.testing.assert_array_equal(found.top_indices.cpu(), expected.top_indices)
    # The processor rounds noisy images to 2⁻²⁴ of their largest value, the device to that of what nearest bytes leave.
    np.testing.assert_allclose(found.top_logits.cpu(), expected.top_logits, rtol=1e-7, atol=1e-5)
    evidence = posterior.log_evidence(found, spread).cpu()
    np.testing.assert_allclose(evidence, reference.log_evidence(expected, spread.cpu().numpy()), rtol=1e-7, atol=1e-5)


@pytest.mark.parametrize("budget", [*BUDGETS, None])
def test_covariance_products_match_the_definition(budget, device, monkeypatch):
    if budget is None:  # the kernels of matrix units, under Triton's interpreter where there are none
        pytest.importorskip("triton")
        monkeypatch.setattr(attention, "runs_on", lambda place: True)
        for name, value in {"_IMAGES": (32, 16), "_KEPT": (32, 32), "_PROGRAMS": 12}.items():
            monkeypatch.setattr(two_passes, name, value)
    images = random_set(3, 150)
    sigmas = (0.3, 1.0, 5.0, 80.0)
    noisy, known = between(images, sigmas), levels(clean(images))
    vectors = np.random.default_rng(0).standard_normal((4, 3, known.shape[1]))
    values, spread = question(noisy, sigmas, device)
    on_device = torch.from_numpy(vectors).to(device)
    found = engine(images, device, budget).whole_image.covariance_products(values, spread, on_device).cpu().numpy()
    for row, sigma in enumerate(sigmas):
        weights = oracles.posterior_weights(noisy[row], clean(images), sigma)
        deviations = known - weights @ known
        covariance = (deviations * weights[:, None]).T @ deviations
        np.testing.assert_allclose(found[row], vectors[row] @ covariance, rtol=1e-5, atol=1e-5 * covariance.max())


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    sigma=st.floats(0.002, 80),
    batch=st.integers(1, 4),
)
def test_sets_of_any_size_and_shape(seed, count, shape, sigma, batch):
    images = random_set(seed, count, shape)
    sigmas = [sigma] * batch
    noisy = between(images, sigmas, seed)
    mean = engine(images, "cpu").whole_image.mean(*question(noisy, sigmas, "cpu"))
    expected = WholeImagePosterior(images).mean(levels(noisy), np.full(batch, sigma * LEVELS_PER_UNIT))
    np.testing.assert_allclose(mean, expected, atol=3e-6)


def test_fewer_images_than_asked_to_name(device):
    images = random_set(0, 2)
    sums = engine(images, device).whole_image.sums(*question(clean(images)[:1], [1.0], device), top=5)
    assert sorted(sums.top_indices[0].tolist()) == [-1, -1, -1, 0, 1]
    assert sums.top_indices[0, 0] == 0


def test_many_tiny_weights_beside_a_large_one_are_kept(device):
    # One image of weight 1 and 60,000 that together have weight 0.01: each is below the resolution of a weight.
    black, white = np.zeros((1, 1, 1, 1), np.uint8), np.full((60_000, 1, 1, 1), 255, np.uint8)
    images = ImageSet(np.concatenate([black, white]))
    noisy = 127.5 - LEVELS_PER_UNIT**2 * np.log(60_000 / 0.01) / 255 - 128
    values = torch.full((1, 1), noisy, dtype=torch.float64, device=device)
    mean = engine(images, device).whole_image.mean(values, torch.full_like(values[0], LEVELS_PER_UNIT))
    assert float(mean) == pytest.approx(-1 + 2 * 0.01 / 1.01, abs=1e-6)


def test_fixed_point_keeps_the_sum_of_any_first_so_many(device):
    weights = torch.rand(3, 500, generator=torch.Generator().manual_seed(0)).to(device) * 1e-6
    weights[1, 100] = 1.0
    running = to_fixed_point(weights).cumsum(1).double() / module.WEIGHT_ONE
    assert float((running - weights.double().cumsum(1)).abs().max()) <= 1.001 * 2.0**-22
    assert int(to_fixed_point(torch.ones(1, 1, device=device))) == module.WEIGHT_ONE


def test_batches_larger_than_the_limit_are_split(monkeypatch, device):
    images = random_set(5, 40)
    sigmas = np.geomspace(0.01, 50, 9)
    asked = question(between(images, sigmas), sigmas, device)
    whole = engine(images, device).whole_image.mean(*asked)
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    torch.testing.assert_close(engine(images, device).whole_image.mean(*asked), whole, rtol=1e-12, atol=1e-12)


def test_a_device_without_byte_products_gives_the_same(monkeypatch, device):
    images = random_set(6, 100)
    asked = question(between(images, SIGMAS), SIGMAS, device)
    exact = engine(images, device).whole_image.mean(*asked)
    monkeypatch.setattr(integer_product, "_byte_product_is_exact", lambda device: False)
    assert torch.equal(engine(images, device).whole_image.mean(*asked), exact)


def test_permuting_the_training_set_changes_nothing(device):
    images = random_set(7, 130)
    shuffled = images.subset(np.random.default_rng(0).permutation(130))
    asked = question(between(images, SIGMAS), SIGMAS, device)
    one, other = (engine(each, device).whole_image.mean(*asked).cpu() for each in (images, shuffled))
    assert relative_error(one, other) < 2e-6
