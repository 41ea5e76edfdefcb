"""The proxy covariance of an image set against the closed form for the same images as points."""

import pytest
import torch
from tests.conftest import relative_error

from scorescope.denoisers import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.variance.image_proxy import ImageProxy
from scorescope.variance.processes import VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy


@pytest.mark.parametrize("process", [VariancePreserving(), VarianceExploding()], ids=lambda process: process.name)
def test_images_are_points_in_a_high_dimension(digits, process):
    images = digits.subset(range(60))
    points = images.tensor().double().reshape(60, -1)
    whole, flat = ImageProxy(process, OptimalDenoiser(images)), PointProxy(process, points)
    t = torch.tensor([0.15, 0.3, 0.35], dtype=torch.float64) * (1 if process.name == "vp" else 4)
    x = process.forward(points[:3], t, torch.Generator().manual_seed(0))
    shaped = x.reshape(3, 1, 8, 8)
    assert relative_error(whole.score(shaped, t).flatten(1), flat.score(x, t)) < 1e-5
    assert relative_error(whole.trace(shaped, t), flat.trace(x, t)) < 1e-5
    assert relative_error(whole.fraction(shaped, t), flat.fraction(x, t)) < 1e-5
    vectors = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = flat.products(x, t, vectors.reshape(2, 3, 64))
    assert relative_error(whole.products(shaped, t, vectors).flatten(2), wanted) < 1e-5
    values, directions = whole.leading(shaped, t, 2, torch.Generator().manual_seed(2))
    largest, along = flat.leading(x, t, 2)
    assert relative_error(values, largest) < 1e-4
    overlap = (directions[:, 0].flatten(1) * along[:, 0]).sum(-1).abs()
    assert float(overlap.min()) > 0.999


def test_refusals(digits):
    denoiser = OptimalDenoiser(digits.subset(range(5)))
    with pytest.raises(UserError, match="same in every pixel"):
        ImageProxy(VariancePreserving(shape=torch.ones(64)), denoiser)
    proxy = ImageProxy(VariancePreserving(0.0), denoiser)
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    with pytest.raises(UserError, match="singular"):
        proxy.score(x, torch.zeros(1, dtype=torch.float64))
    with pytest.raises(UserError, match="between 1 and 64"):
        proxy.leading(x, torch.ones(1, dtype=torch.float64), 65, torch.Generator())
