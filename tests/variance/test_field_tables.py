"""The fast sampler against features evaluated at every point."""

import pytest
import torch

from scorescope.foundation import UserError
from scorescope.variance.effective import models_flow
from scorescope.variance.features import bumps, fourier
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.formulations import FORMULATIONS
from scorescope.variance.linear import LinearTraining, fit_linear
from scorescope.variance.point_sets import square, three
from scorescope.variance.processes import VarianceExploding, VariancePreserving
from scorescope.variance.proxy import PointProxy

FULL = torch.tensor([[1.2, 0.3], [0.3, 0.7]], dtype=torch.float64)


def fitted(points, family, *, shape=1.0, formulation="denoiser", per_axis=6):
    process = VariancePreserving(0.05, shape=shape)
    features = family(points.shape[1], per_axis, (0.05, 1.0))
    training = LinearTraining(300, 0.1, FORMULATIONS[formulation])
    return fit_linear(PointProxy(process, points), features, training, 3, torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("family", [bumps, fourier])
@pytest.mark.parametrize(("points", "shape"), [(three(), 1.0), (three(), 0.4), (square(0.2), FULL)])
def test_one_step_is_exact_to_the_tables_error(points, shape, family, formulation):
    models = fitted(points, family, shape=shape, formulation=formulation)
    starts = 1.5 * torch.randn(3, 500, points.shape[1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for times in models.process.times(10).unfold(0, 2, 1)[::3]:
        _, wanted = models_flow(models, starts, times)
        found = follow_flow(models, starts, times)
        moved = (wanted - starts).abs().max()
        assert float((found - wanted).abs().max()) < 3e-5 * float(moved)


def test_a_whole_run_ends_where_the_plain_one_does():
    models, times = fitted(three(), bumps), VariancePreserving(0.05).times(30)
    starts = torch.randn(3, 300, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    *_, wanted = models_flow(models, starts, times)
    found = follow_flow(models, starts, times)
    assert float((found - wanted).abs().max()) < 1e-3
    assert float((found - wanted).abs().median()) < 1e-5


def test_starts_for_all_models_alike_stay_as_they_are():
    models, times = fitted(square(), fourier), VariancePreserving(0.05).times(5)
    starts = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kept = starts.clone()
    found = follow_flow(models, starts, times)
    torch.testing.assert_close(found, follow_flow(models, starts.expand(3, 20, 2), times))
    assert bool((starts == kept).all())


def test_beyond_a_window_the_field_is_that_at_its_edge():
    models, times = fitted(three(), bumps), torch.tensor([0.2, 0.19], dtype=torch.float64)
    process = models.process
    outside = torch.tensor([[[4.0]], [[-7.0]], [[1.7]]], dtype=torch.float64)
    found = follow_flow(models, outside, times, window=(-1.5, 1.5))
    edge = outside.clamp(-1.5, 1.5)
    output = torch.stack([models.output(edge[m], times[:1])[m] for m in range(3)])
    score = models.formulation.to_score(process, output, outside, times[0].expand(3, 1))
    wanted = outside + (times[1] - times[0]) * process.drift(outside, times[0].expand(3, 1), score)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    far = follow_flow(models, 100 * outside, times)  # without a window bumps are zero out there
    zero = process.drift(100 * outside, times[0].expand(3, 1), -100 * outside / (1 - process.alpha(times[0]) ** 2))
    torch.testing.assert_close(far, 100 * outside - 0.01 * zero)


def test_refusals():
    models, times = fitted(three(), bumps), VariancePreserving(0.05).times(2)
    with pytest.raises(UserError, match="start at"):
        follow_flow(models, torch.zeros(2, 5, 1, dtype=torch.float64), times)
    with pytest.raises(UserError, match="start at"):
        follow_flow(models, torch.zeros(5, 2, dtype=torch.float64), times)
    cube = PointProxy(VarianceExploding(), torch.eye(3))
    deep = fit_linear(cube, bumps(3, 2, (0.002, 80.0)), LinearTraining(10), 1, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="1 or 2 dimensions"):
        follow_flow(deep, torch.zeros(5, 3, dtype=torch.float64), times)
