"""Population moments against averages over many training draws, and against finer quadrature."""

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.variance import population
from scorescope.variance.features import bumps, fourier
from scorescope.variance.formulations import DENOISER, NOISE
from scorescope.variance.linear import LinearTraining
from scorescope.variance.point_sets import square, three
from scorescope.variance.population import PopulationMoments
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy

FULL = torch.tensor([[1.2, 0.3], [0.3, 0.7]], dtype=torch.float64)
CASES = {
    "line, bumps": (PointProxy(VariancePreserving(0.01), three()), bumps(1, 5, (0.01, 1.0)), DENOISER),
    "line, modes": (PointProxy(VariancePreserving(1e-3), three()), fourier(1, 4, (1e-3, 1.0)), NOISE),
    "plane, turned noise": (
        PointProxy(VariancePreserving(0.02, shape=FULL), square(0.3)),
        bumps(2, 3, (0.02, 1.0)),
        DENOISER,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_moments_against_averages_over_draws(case):
    proxy, features, form = CASES[case]
    training, count, last = LinearTraining(formulation=form), 40_000, proxy.dimension - 1
    moments = PopulationMoments(proxy, features, training)
    clean, t, x = proxy.draw_training(count, torch.Generator().manual_seed(0))
    weight, phi = training.weights(proxy.process, t, proxy.dimension)[:, None], features(x, t)
    target = training.target(proxy, form, clean, x, t)
    spread = proxy.target_covariance(form, x, t)[:, 0, last, None]
    pairs = [
        (moments.gram(), weight * phi, phi),
        (moments.moments(), weight * target, phi),
        (moments.weighted(moments.target_covariance)[0, :, last], weight**2 * spread * phi, phi),
    ]
    for found, left, right in pairs:
        mean = left.T @ right / count
        error = (((left**2).T @ right**2 / count - mean**2) / count).sqrt()
        scores = ((mean - found) / error)[error > 1e-6 * error.max()]
        assert float(scores.square().mean()) < 2.0
        assert float(scores.abs().max()) < 7


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_finer_nodes_change_nothing(case, monkeypatch):
    proxy, features, form = CASES[case]

    def all_of_them():
        moments = PopulationMoments(proxy, features, LinearTraining(formulation=form))
        return moments.gram(), moments.moments(), moments.weighted(moments.target_covariance)

    coarse = all_of_them()
    monkeypatch.setattr(population, "FINE", 0.3)
    monkeypatch.setattr(population, "ORDER", 8)
    for found, finer in zip(coarse, all_of_them(), strict=True):
        assert float((found - finer).norm() / finer.norm()) < 1e-4


def test_refusals():
    cube = PointProxy(VariancePreserving(0.01), torch.eye(3))
    with pytest.raises(UserError, match="1 or 2 dimensions"):
        PopulationMoments(cube, bumps(3, 2, (0.01, 1.0)), LinearTraining())
    with pytest.raises(UserError, match="2 coordinates"):
        PopulationMoments(PointProxy(VariancePreserving(0.01), three()), bumps(2, 2, (0.01, 1.0)), LinearTraining())
