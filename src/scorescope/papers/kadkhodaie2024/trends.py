"""Do the numbers that small networks miss grow towards theory? Slopes and asymmetry over size and training (figures 3 and 4).

At preset small, PSNR slopes on C^α images stay below ``α/(α+1)`` (figure 4) and the Jacobian on photographs is far from
symmetric, while that of every posterior mean is symmetric (figure 3). That may be because the networks are small and
trained for minutes, or not. So the same architecture is trained here in three sizes, each measured at three lengths of its
training (see `snapshots`), and a rule that was fixed before anything was measured says whether a number grows towards theory:
its distance to theory shrinks with each doubling of the steps, or of the parameters, and the 95 % interval of that change lies
wholly on the side of shrinking (see `scorescope.probes.trends`). Where it would go with more of either is not said: nothing is
extrapolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pydantic
import torch

from scorescope.data import DataSplit, load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses.subject import chosen
from scorescope.papers.kadkhodaie2024.c_alpha import IMAGES_ENOUGH, SIDE_ENOUGH
from scorescope.papers.kadkhodaie2024.class_networks import SHORT_RUN, NetworkSettings
from scorescope.papers.kadkhodaie2024.psnr_levels import FittedLevels
from scorescope.papers.kadkhodaie2024.snapshots import check_schedule, snapshots
from scorescope.papers.kadkhodaie2024.trends_page import PHOTOGRAPHS, Quantity, fill
from scorescope.probes.asymmetry import estimated_asymmetry
from scorescope.probes.errors import denoising_psnr, forward_inputs
from scorescope.probes.intervals import mean_over_images
from scorescope.probes.jacobian import jacobian_at
from scorescope.probes.slopes import fit_slope, optimal_slope
from scorescope.probes.trends import FEWEST
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig
from scorescope.training.objective import Objective

Floats = npt.NDArray[np.float64]
Cells = Sequence[Sequence[Mapping[str, Floats]]]
TRAINED_ENOUGH, FACTOR, JACOBIANS_ENOUGH = 1000, 4, 4


class TrendsConfig(FittedLevels):
    """Settings; see `FittedLevels` as well.

    Attributes:
        alphas: regularities of the C^α images, one class each.
        size: side in pixels, of the photographs as well.
        images: training images of each class.
        widths: channels of the UNet's first layer, increasing: its sizes.
        lengths: steps of training at which it is measured, increasing.
        training: the same for all networks; its ``steps`` are the lengths.
        test_images: images that slopes are averaged over.
        jacobian_sigma: noise level of the Jacobians.
        jacobian_images: test images that their asymmetry is averaged over.
        products: products with each Jacobian and as many with its transpose, for the estimate.
        seed: of noise, choices, signs and resampling.
    """

    alphas: tuple[pydantic.PositiveFloat, ...] = pydantic.Field((2.0, 3.0, 5.0), min_length=1)
    size: int = pydantic.Field(32, ge=8)
    images: int = pydantic.Field(10_000, ge=1)
    widths: tuple[pydantic.PositiveInt, ...] = pydantic.Field((8, 16, 32), min_length=FEWEST)
    lengths: tuple[pydantic.PositiveInt, ...] = pydantic.Field((400, 800, 1600), min_length=FEWEST)
    training: TrainingConfig = TrainingConfig(
        batch=16, schedule="inverse-sqrt", decay_from=400, ema="power", objective=Objective(**SHORT_RUN)
    )
    levels: int = pydantic.Field(7, ge=3)
    psnr_range: tuple[float, float] = (10.0, 30.0)
    fit_range: tuple[float, float] = (10.0, 30.0)
    test_images: int = pydantic.Field(100, ge=2)
    jacobian_sigma: float = pydantic.Field(0.5, gt=0)
    jacobian_images: int = pydantic.Field(8, ge=2)
    products: int = pydantic.Field(30, ge=2)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.model_validator(mode="after")
    def _fitting(self) -> Self:
        for name in ("alphas", "widths", "lengths"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must increase: found {values}")
        if self.training.steps not in (TrainingConfig().steps, self.lengths[-1]):
            raise ValueError("how long networks are trained is set by lengths, not by training.steps")
        check_schedule(self.training)
        return self

    @property
    def too_small(self) -> str:
        """Why these settings decide nothing; empty if they do."""
        if self.lengths[-1] < max(TRAINED_ENOUGH, FACTOR * self.lengths[0]) or self.widths[-1] < 2 * self.widths[0]:
            return (
                f"it takes {TRAINED_ENOUGH} steps or more, and {FACTOR} times as many steps and parameters at the end as at"
                " the beginning"
            )
        if self.test_images < IMAGES_ENOUGH or self.size < SIDE_ENOUGH or self.jacobian_images < JACOBIANS_ENOUGH:
            return (
                f"it takes {IMAGES_ENOUGH} images of {SIDE_ENOUGH}×{SIDE_ENOUGH} pixels to tell, and Jacobians at"
                f" {JACOBIANS_ENOUGH}"
            )
        return ""

    @property
    def classes(self) -> dict[str, float | None]:
        """Class of images -> its regularity; none for photographs."""
        return {**{f"α = {alpha:g}": alpha for alpha in self.alphas}, PHOTOGRAPHS: None}

    def load(self, alpha: float | None) -> DataSplit:
        """The images of a class."""
        how: dict[str, Any] = {
            "size": self.size,
            "n": self.images,
            "test_n": max(self.test_images, self.jacobian_images),
        }
        return load_images("natural-patches", **how) if alpha is None else load_images("c-alpha", alpha=alpha, **how)

    def network(self, width: int) -> NetworkSettings:
        """A size of the network."""
        training = self.training.model_copy(update={"steps": self.lengths[-1]})
        return NetworkSettings(arguments={"width": width}, training=training)


@study
class Trends(Study[TrendsConfig]):
    """Slopes and asymmetry over size and training."""

    name = "kadkhodaie2024/trends"
    title = "Towards theory, with size and training?"
    question = "Do PSNR slopes and the asymmetry of Jacobians come nearer to theory in larger networks that are trained longer?"
    paper = "Kadkhodaie et al. 2024, figures 3 and 4"
    Config = TrendsConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "alphas": (2.0,),
            "size": 8,
            "images": 40,
            "widths": (2, 3, 4),
            "lengths": (4, 8, 16),
            "training": {"batch": 4},
            "levels": 3,
            "test_images": 4,
            "jacobian_images": 2,
            "products": 4,
        },
        "small": {},
        "full": {"widths": (16, 32, 64), "lengths": (2000, 4000, 8000), "training": {"decay_from": 2000}},
        "paper": {
            "alphas": (1.0, 2.0, 3.0, 5.0),
            "size": 80,
            "images": 100_000,
            "widths": (16, 32, 64),
            "lengths": (50_000, 100_000, 200_000),
            "training": {"batch": 512, "learning_rate": 1e-3, "decay_from": 50_000},
            "levels": 21,
            "test_images": 1000,
        },
    }

    def run(self, config: TrendsConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        images = {name: config.load(alpha) for name, alpha in config.classes.items()}
        cells: dict[str, list[list[dict[str, Floats]]]] = {name: [] for name in images}
        parameters = []
        for width in config.widths:
            training = {name: one.train for name, one in images.items()}
            networks = snapshots(training, config.network(width), config.lengths, workspace)
            for name, own in networks.items():
                cells[name].append(
                    [
                        _measured(f"{name} {width} {steps}", network, images[name], config, workspace)
                        for steps, network in zip(config.lengths, own, strict=True)
                    ]
                )
            parameters.append(sum(value.numel() for value in next(iter(networks.values()))[0].network.parameters()))
        slopes = [_slopes(name, alpha, cells[name], config) for name, alpha in config.classes.items() if alpha]
        skew = [_asymmetry(name, own, config) for name, own in cells.items()]
        results = Results(study=self.name, title=self.title)
        fill(results, slopes, skew, parameters, config)
        results.methods |= _methods(config)
        return results


def _measured(
    key: str, network: NetworkDenoiser, images: DataSplit, config: TrendsConfig, workspace: Workspace
) -> dict[str, Floats]:
    """PSNRs (S, B) and asymmetries (B',) of one network."""
    assert images.test is not None
    test = images.test

    def asymmetries() -> Floats:
        clean = chosen(test, config.jacobian_images, config.seed + 1)
        (noisy,) = forward_inputs(clean, [config.jacobian_sigma], config.seed)
        found = []
        for image in noisy.to(workspace.device):
            jacobian = jacobian_at(network, image, config.jacobian_sigma)
            signs = torch.Generator().manual_seed(config.seed)
            found.append(estimated_asymmetry(jacobian, config.products, signs).value)
        return np.array(found)

    def measured() -> dict[str, Floats]:
        clean = chosen(test, config.test_images, config.seed).to(workspace.device)
        return {
            "psnr": denoising_psnr(network, clean, config.sigmas, config.seed),
            "asymmetry": asymmetries(),
        }

    found: dict[str, Floats] = workspace.computed(key, measured)
    return found


def _slopes(name: str, alpha: float, cells: Cells, config: TrendsConfig) -> Quantity:
    fitted = [
        [
            fit_slope(config.input_psnr, one["psnr"], *config.fit_range, torch.Generator().manual_seed(config.seed))
            for one in row
        ]
        for row in cells
    ]
    optimal = optimal_slope(alpha)
    return Quantity(
        f"slope, {name}",
        f"The PSNR slope at {name} grows towards the optimal α/(α+1) = {optimal:.2f}",
        "figure 4",
        optimal,
        np.array([[one.value for one in row] for row in fitted]),
        np.array([[one.interval[0] for one in row] for row in fitted]),
        np.array([[one.interval[1] for one in row] for row in fitted]),
        _psnr(cells, config),
    )


def _asymmetry(name: str, cells: Cells, config: TrendsConfig) -> Quantity:
    means = [mean_over_images([one["asymmetry"] for one in row]) for row in cells]
    return Quantity(
        f"asymmetry, {name}",
        "The Jacobian's asymmetry on photographs falls towards that of a posterior mean, 0",
        "figure 3",
        0.0,
        np.stack([one.value for one in means]),
        np.stack([one.low for one in means]),
        np.stack([one.high for one in means]),
        _psnr(cells, config),
    )


def _psnr(cells: Cells, config: TrendsConfig) -> Floats:
    within = (config.input_psnr >= config.fit_range[0]) & (config.input_psnr <= config.fit_range[1])
    return np.array([[one["psnr"][within].mean() for one in row] for row in cells])


def _methods(config: TrendsConfig) -> dict[str, str]:
    return {
        "Data": f"C^α images, and photographs (natural-patches), of {config.size}×{config.size} pixels: {config.images} to"
        " train on for each class, others to measure on.",
        "Networks": f"{config.network(config.widths[-1]).said} Widths {', '.join(map(str, config.widths))}; measured after"
        f" {', '.join(map(str, config.lengths))} steps of one run, whose learning rate and averaging do not depend on how long"
        " it will be: each is what a run of that length would have given.",
        "Slope": f"Least squares of output on input PSNR over {config.fit_range[0]:g} to {config.fit_range[1]:g} dB.",
        "Asymmetry": f"Estimated from {config.products} products with the Jacobian and as many with its transpose, at"
        f" σ = {config.jacobian_sigma:g}.",
        "Rule": "Of the distance to theory, from either side. With training: least-squares slope over log2 steps of each"
        " network, mean over the networks of a class. With size: least-squares slope over log2 parameters of the networks'"
        " means over steps. A network counts once, not once a snapshot. The scatter of networks about their class's trend is"
        " estimated from all classes together, intervals are Student's. A number grows towards theory with training, or with"
        " size, if the 95 % interval of that trend lies wholly on theory's side of zero; where there is no trend, one of the"
        " two does so by chance in one case of twenty. Nothing is extrapolated.",
        "Seed": f"{config.seed} for noise, choices, signs and resampling; one training run a network.",
    }
