"""Critics' question 2: does the variance of the training target cause the generalization?

The same network is trained with the same seeds on the noisy target and on the exact one (the optimal denoiser's output), on
images for N from tens to thousands, and on points of the line and the plane. What the target's variance causes is what goes
with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pydantic

from scorescope.data import load_images
from scorescope.lenses.audit.unseen import apart
from scorescope.lenses.methods import measurement_methods
from scorescope.lenses.settings import PAPER
from scorescope.papers.vastola2025.estimates import (
    Estimate,
    mean_over_runs,
    removed_share,
    removed_share_of_means,
)
from scorescope.papers.vastola2025.targets_on_images import (
    ImagesConfig,
    SizeFound,
    compare_on_images,
    deviation_share,
    show_images,
)
from scorescope.papers.vastola2025.targets_on_linear import LinearConfig, compare_linear
from scorescope.papers.vastola2025.targets_on_points import (
    PointsConfig,
    PointsFound,
    compare_on_points,
    show_points,
)
from scorescope.posterior.processes import check_same_images
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

# Written down before any result was looked at.
MOST, LITTLE = 0.5, 0.1
SAME_PSNR = 0.3


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
                "measurement": PAPER,
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
        images, notes = apart(load_images(config.images.data))
        check_same_images(images.train)
        on_images = compare_on_images(config.images, images, workspace)  # first: it is what can be refused
        on_points = compare_linear(config.linear, workspace) + compare_on_points(config.points, workspace)
        results = Results(study=self.name, title=self.title)
        results.add_notes(notes)
        results.headline = headline(on_images, on_points, config.seed, config.conclusive)
        show_images(results, on_images, config.images.mechanisms)
        show_points(results, on_points, config.points)
        claims(results, on_images, on_points, config.seed, config.conclusive)
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


def claims(
    results: Results, on_images: Sequence[SizeFound], on_points: Sequence[PointsFound], seed: int, conclusive: bool
) -> None:
    """The claims of both sides, each with a rule that was written down first."""
    note = "" if conclusive else "networks this small, trained this briefly, decide nothing"

    def add(sentence: str, source: str, quantity: str, found: Estimate, rule: Rule, unit: str = "") -> None:
        value = found.value if conclusive else None
        results.claims.append(
            Claim(sentence, source, quantity, value, rule, unit, found.interval if conclusive else None, note=note)
        )

    largest = on_images[-1]
    caused = "The variance of the noisy target is what makes a network deviate from memorization."
    most = Rule(at_least=MOST, because="a cause of most of it; 1 would be all")
    for one in on_images:
        add(
            caused,
            "vastola2025, abstract and section 3; critics' question 2",
            f"share of the deviation that is gone with the exact target, forward inputs, images, N = {one.size}",
            deviation_share(one, "forward"),
            most,
        )
    for case in on_points:
        add(
            caused,
            "vastola2025, abstract and section 3; critics' question 2",
            f"share of the deviation that is gone with the exact target, {case.label}",
            removed_share(case.to_optimal["noisy"].mean(1), case.to_optimal["closed-form"].mean(1)),
            most,
        )
        add(
            "The variance of the noisy target is what puts samples between the training points.",
            "vastola2025, figures 2 and 3; critics' question 2",
            f"share of the samples between the points that is gone with the exact target, {case.label}",
            removed_share_of_means(case.between["noisy"], case.between["closed-form"], np.random.default_rng(seed)),
            most,
        )
    add(
        "On images it does not matter whether the target is noisy or exact: networks generalize equally well.",
        "Bertrand et al. 2025, arXiv 2506.03719",
        f"held-out PSNR with the noisy target minus that with the exact one, N = {largest.size}",
        mean_over_runs(largest.held_out_psnr("noisy") - largest.held_out_psnr("closed-form")),
        Rule(at_least=-SAME_PSNR, at_most=SAME_PSNR, because="the curves are one to the eye"),
        "dB",
    )
    add(
        "On images the exact target leaves the deviation from memorization as it is.",
        "Bertrand et al. 2025, arXiv 2506.03719",
        f"share of the deviation that is gone with the exact target, forward inputs, N = {largest.size}",
        deviation_share(largest, "forward"),
        Rule(at_least=-LITTLE, at_most=LITTLE, because="a tenth either way"),
    )


def headline(on_images: Sequence[SizeFound], on_points: Sequence[PointsFound], seed: int, conclusive: bool) -> str:
    """The answer in two sentences: on images at the largest N, on points where the target's variance is largest."""
    if not conclusive:
        return "Networks this small, trained this briefly, decide nothing: choose the preset small or paper."
    largest = on_images[-1]
    share = deviation_share(largest, "forward")
    words = []
    for model in dict.fromkeys(one.model for one in on_points):
        case = min((one for one in on_points if one.model == model), key=lambda one: one.pool or math.inf)
        there = removed_share(case.to_optimal["noisy"].mean(1), case.to_optimal["closed-form"].mean(1))
        between = removed_share_of_means(
            case.between["noisy"], case.between["closed-form"], np.random.default_rng(seed)
        )
        words.append(
            f"{there.words()} of the deviation and {between.words()} of the samples between the points for the {case.label}"
        )
    return (
        f"On images (N = {largest.size}) the exact target takes away {share.words()} of the deviation from memorization: the"
        f" target's variance {verdict(share)}. On points it takes away {'; '.join(words)}."
    )


def verdict(share: Estimate) -> str:
    """What an interval of a share says by the rule: most of it, not at all, or neither."""
    if share.interval is None:
        return "cannot be judged by one run"
    if share.low >= MOST:
        return "causes most"
    if share.high <= LITTLE:
        return "causes next to nothing"
    if share.low > 0:
        return "causes a part"
    return "causes a part, or nothing: the interval holds both"
