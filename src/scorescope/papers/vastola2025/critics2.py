"""Critics' question 2: does the variance of the training target cause the generalization?

The same network is trained with the same seeds on the noisy target and on the exact one (the optimal denoiser's output), on
images for N from tens to thousands, and on points of the line and the plane. What the target's variance causes is what goes
with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic

from scorescope.data import load_images
from scorescope.lenses.methods import measurement_methods
from scorescope.papers.vastola2025 import critics2_pages as pages
from scorescope.papers.vastola2025.targets_on_images import ImagesConfig, compare_on_images
from scorescope.papers.vastola2025.targets_on_linear import LinearConfig, compare_linear
from scorescope.papers.vastola2025.targets_on_points import PointsConfig, compare_on_points
from scorescope.posterior.processes import check_same_images
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace


class Critics2Config(pydantic.BaseModel):
    """Settings.

    Attributes:
        images: of the part on images.
        points: of the part on points, with networks.
        linear: of the part on points, with linear models.
        conclusive: whether the sizes are such that the claims can be judged; the smallest preset's are not.
        seed: of the resampling behind intervals.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    images: ImagesConfig = ImagesConfig()
    points: PointsConfig = PointsConfig()
    linear: LinearConfig = LinearConfig()
    conclusive: bool = True
    seed: int = pydantic.Field(0, ge=0)


@study
class Critics2(Study[Critics2Config]):
    """The noisy against the exact target."""

    name = "vastola2025/critics2"
    title = "Does the target's variance cause the generalization?"
    question = (
        "If a network is trained on the exact target, which has no variance, does it still deviate from memorization?"
    )
    paper = "Vastola 2025, arXiv 2504.12532; Bertrand et al. 2025, arXiv 2506.03719"
    Config = Critics2Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "images": {
                "data": "digits",
                "sizes": (10, 200),
                "width": 8,
                "seeds": 2,
                "training": {"steps": 30, "batch": 16},
                "measurement": {
                    "psnr_levels": 3,
                    "psnr_images": 16,
                    "samples": 8,
                    "sampler_h": 0.1,
                    "sampler_beta": 0.5,
                    "sigma_end": 0.3,
                    "deviation_levels": 3,
                    "deviation_inputs": 4,
                    "example_levels": 2,
                },
                "mechanisms": ("gaussian",),
            },
            "points": {
                "pools": (32, 0),
                "ensemble": {
                    "members": 3,
                    "width": 16,
                    "depth": 1,
                    "steps": 30,
                    "samples": 64,
                    "flow_steps": 6,
                    "levels": 3,
                },
            },
            "linear": {"pools": (64,), "models": 4, "per_axis": 8, "samples": 50, "levels": 3},
            "conclusive": False,
        },
        # Groups whose values differ from their own defaults stand here, so that setting one of them keeps the others.
        "small": {
            "images": {
                "training": {"steps": 1200},
                "measurement": {"samples": 32, "psnr_images": 256, "deviation_levels": 8},
            }
        },
        "paper": {
            "images": {
                "sizes": (10, 30, 100, 300, 1000, 3000, 10000),
                "width": 64,
                "seeds": 5,
                "training": {"steps": 50_000, "batch": 512, "learning_rate": 1e-3},
                "measurement": {"samples": 1000, "psnr_images": 1000, "deviation_inputs": 100, "deviation_levels": 20},
            },
            "points": {
                "sets": ("three on a line", "square", "L"),
                "pools": (64, 128, 256, 512, 1024, 4096, 0),
                "ensemble": {"members": 100, "width": 128, "depth": 3, "steps": 10_000, "samples": 1000},
            },
            "linear": {"pools": (64, 128, 256, 512, 1024), "models": 100, "samples": 10_000},
        },
    }

    def run(self, config: Critics2Config, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if there are fewer images than the largest size."""
        images = load_images(config.images.data)
        check_same_images(images.train)
        on_images = compare_on_images(config.images, images, workspace)  # first: it is what can be refused
        on_points = compare_linear(config.linear, workspace) + compare_on_points(config.points, workspace)
        results = Results(study=self.name, title=self.title)
        results.headline = pages.headline(on_images, on_points, config.seed, config.conclusive)
        pages.images(results, on_images, config.images.mechanisms)
        pages.points(results, on_points, config.points)
        pages.claims(results, on_images, on_points, config.seed, config.conclusive)
        results.methods |= {
            "Data": f"{images.train.name}, {images.train.stored} images of shape {images.train.image_shape}; the training"
            " images"
            f" of a small N are among those of a larger one (seed {config.images.split_seed}).",
            "Networks": f"Bias-free, blind UNet with {config.images.width} channels in its first block;"
            f" {config.images.seeds} seeds of each target. The two networks of a seed have the same initial weights and see the"
            " same noisy images in the same order; nothing but the target differs.",
            "Training": f"{config.images.training.steps} steps of {config.images.training.batch} images, Adam at"
            f" {config.images.training.learning_rate:g} falling along a cosine.",
            "Points": f"{config.points.ensemble.members} multilayer perceptrons ({config.points.ensemble.depth} blocks of"
            f" {config.points.ensemble.width} units) for each case, {config.points.ensemble.steps} Adam steps;"
            f" a sample is between the points if it is farther than {config.points.radius:g} from all of them.",
            "Linear models": f"{config.linear.models} fitted for each case, with {config.linear.per_axis} Gaussian bumps in x"
            " and as"
            " many in t on the line, half as many an axis in the plane; VP process, denoised point as output, ridge"
            f" {config.linear.ridge:g}, ε = {config.linear.epsilon:g}, {config.linear.steps} Euler steps.",
            "Intervals": "95 %: Student's over seeds on images (of log ratios for shares), bootstrap over members on points.",
            **measurement_methods(config.images.measurement),
        }
        return results
