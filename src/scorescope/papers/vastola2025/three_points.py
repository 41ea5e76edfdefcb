"""Three points on the line: what linear models learn of them in one condition, by fits and by the effective process."""

from __future__ import annotations

from typing import Any

import pydantic
import torch
from torch import Tensor

from scorescope.variance.effective import probability_flow
from scorescope.variance.features import FAMILIES, ProductFeatures
from scorescope.variance.field_tables import follow_flow
from scorescope.variance.learned_density import Density, Grid, compare
from scorescope.variance.linear import LinearModels, LinearTraining, fit_linear
from scorescope.variance.linear_kernel import fitted_kernel, noise_kernel
from scorescope.variance.point_sets import three
from scorescope.variance.processes import VariancePreserving
from scorescope.variance.proxy import PointProxy
from scorescope.variance.v_kernel import NoVariance

NEAR = 0.2  # distance from a data point up to which a sample counts as near it
MOST_EXACT = 40_000  # samples of the exact score
PLACES = 1000  # training draws at which variances are compared


class Figure2Config(pydantic.BaseModel):
    """Settings of figure 2.

    Attributes:
        epsilons: ε, where the flow stops.
        samples: P, training draws of a model.
        models: how many are fitted in each condition; as many fields of the effective process are drawn.
        points: samples of each model.
        steps: of the flow, Euler's method.
        per_axis: features of x, and of t.
        family: ``gaussian`` or ``fourier``.
        ridge: η.
        cells: of the grid from −1.5 to 1.5.
        seed: of everything.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    epsilons: tuple[float, ...] = (1e-4, 1e-3, 1e-2)
    samples: tuple[pydantic.PositiveInt, ...] = (64, 128, 256, 512, 1024)
    models: int = pydantic.Field(100, ge=4)
    points: int = pydantic.Field(20_000, ge=1)
    steps: int = pydantic.Field(30, ge=1)
    per_axis: int = pydantic.Field(16, ge=2)
    family: str = "gaussian"
    ridge: float = pydantic.Field(0.1, ge=0)
    cells: int = pydantic.Field(200, ge=10)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("epsilons")
    @classmethod
    def _within(cls, epsilons: tuple[float, ...]) -> tuple[float, ...]:
        if not epsilons or not all(0 < value < 1 for value in epsilons):
            raise ValueError("every ε must lie between 0 and 1")
        return tuple(sorted(epsilons))

    @pydantic.field_validator("samples")
    @classmethod
    def _sorted(cls, samples: tuple[int, ...]) -> tuple[int, ...]:
        if not samples:
            raise ValueError("at least one P is needed")
        return tuple(sorted(samples))

    @pydantic.field_validator("family")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FAMILIES:
            raise ValueError(f"the families are {', '.join(FAMILIES)}")
        return name

    @property
    def feature_count(self) -> int:
        """F."""
        return self.per_axis**2


def scene(config: Figure2Config, epsilon: float, samples: int) -> tuple[PointProxy, ProductFeatures, LinearTraining]:
    """Data and process, features, and training of one condition."""
    proxy = PointProxy(VariancePreserving(epsilon), three())
    features = FAMILIES[config.family](1, config.per_axis, (epsilon, 1.0))
    return proxy, features, LinearTraining(samples, config.ridge)


def measure(config: Figure2Config, epsilon: float, samples: int) -> dict[str, Any]:
    """Everything about one condition, as arrays and numbers."""
    proxy, features, training = scene(config, epsilon, samples)
    process, grid = proxy.process, Grid(-1.5, 1.5, config.cells)
    place = config.epsilons.index(epsilon) * len(config.samples) + config.samples.index(samples)
    generator = torch.Generator().manual_seed(1000 * config.seed + place)
    times = process.times(config.steps)
    models = fit_linear(proxy, features, training, config.models, generator)
    formula, moments = noise_kernel(proxy, features, training), fitted_kernel(models)

    def density(of: LinearModels) -> Density:
        starts = process.start(len(of) * config.points, 1, generator).reshape(len(of), config.points, 1)
        return Density.of(follow_flow(of, starts, times), grid)

    fitted = density(models)
    effective = density(formula.sample_models(config.models, generator))
    gaussian = density(moments.sample_models(config.models, generator))
    exact = _exact(proxy, times, min(MOST_EXACT, config.models * config.points), grid, generator)
    gaps = _gap_cells(proxy, grid)
    by_formula, of_fitted = (compare(fitted, other, generator) for other in (effective, gaussian))
    divergence = compare(fitted, effective, generator, measure="kl")
    _, t, x = proxy.draw_training(PLACES, generator)
    between = moments.trace(x, t)
    # Beyond the reach of the features every model is zero, and there is nothing to compare.
    ratio = (formula.trace(x, t) / between)[between > 0]
    per_model = fitted.shares[:, gaps].sum(1)
    return {
        "fitted": fitted.average.numpy(),
        "low": fitted.quantile(0.25).numpy(),
        "high": fitted.quantile(0.75).numpy(),
        "effective": effective.average.numpy(),
        "gaussian": gaussian.average.numpy(),
        "exact": exact.average.numpy(),
        "gap": float(per_model.mean()),
        "gap error": float(per_model.std() / len(per_model) ** 0.5),
        "gap exact": float(exact.shares[:, gaps].sum()),
        "gap effective": float(effective.shares[:, gaps].sum(1).mean()),
        "inside": fitted.inside,
        "tv": [by_formula.value, by_formula.low, by_formula.high, by_formula.floor],
        "tv gaussian": [of_fitted.value, of_fitted.low, of_fitted.high, of_fitted.floor],
        "kl": [divergence.value, divergence.low, divergence.high, divergence.floor],
        "ratio": [float(ratio.quantile(share)) for share in (0.25, 0.5, 0.75)],
    }


def _exact(proxy: PointProxy, times: Tensor, count: int, grid: Grid, generator: torch.Generator) -> Density:
    """What the exact score gives with the same steps."""
    *_, end = probability_flow(NoVariance(proxy), proxy.process.start(count, 1, generator), times)
    return Density.of(end[None], grid)


def _gap_cells(proxy: PointProxy, grid: Grid) -> Tensor:
    """Cells between the outermost data points that are not near any, bool (cells + 1,)."""
    centres, data = grid.centres, proxy.points[:, 0]
    away = (centres[:, None] - data).abs().amin(1) > NEAR
    between = (centres > data.min()) & (centres < data.max())
    return torch.cat([away & between, torch.zeros(1, dtype=torch.bool)])
