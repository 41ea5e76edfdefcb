"""Does agreement of two networks show that they learned the factors that images were made from?

Maillard & Goldt (arXiv 2605.21402): as the number of training images N grows, memorization m falls, two networks trained on
disjoint sets converge to one another (q), and the latent factors of the data are recovered (Q); q rises continuously, Q jumps
apart from it, so that agreement does not show that factors were learned. Measured here on images whose factors can be read off
exactly (`probes.latent_factors`), with pairs of small networks for several N, all as numbers from 0 to 1:

- m, the share of samples that are copies of training images, by the audit's calibrated count;
- q, the cosine similarity of the two networks' samples from the same noise beyond that of samples from other noise;
- Q, over samples: how much of what a Gaussian model of the images leaves unexplained by the nearest member of the family is
  explained in the sample, and 0 for a sample that lies as near to a training image as a copy: a copy has factors, but those of
  the training set. Beside it, whether the factors of the samples are distributed as those of the data.

Sinusoids of one frequency fill a plane, so a Gaussian model's samples are sinusoids as well, and Q asks for nothing: it is not
defined for a family whose members such samples are, and what remains is the distribution of the factors. Nor are copies told
from other members where a third or more of the unseen images are as good as equal to one of N training images.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.data.images import to_uint8
from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses.audit.counting import Copies, CopyCounter
from scorescope.lenses.audit.unseen import SeenImagesError
from scorescope.lenses.drawing import draw_samples, like
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import mean_intensity
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings
from scorescope.papers.newer.latent_factors_page import SOURCE, Found, fill
from scorescope.papers.newer.recovery import Floats, Numbers, beyond_chance, recovered
from scorescope.probes.latent_factors import FAMILIES
from scorescope.study.base import Study, study
from scorescope.study.pairs import NETWORKS, Pair, Sizes, choose_pair, train_pair
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig
from scorescope.training.objective import Objective
from scorescope.training.usual import OBJECTIVES

REFERENCE, SEEN = 2000, 96


class LatentFactorsConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        family: of the images.
        side: of the images, pixels.
        sizes: numbers of training images of each network, increasing.
        width: of the networks, if their architecture has one; None for what fits the images.
        network: their architecture and how each is trained, the same for all sizes.
        measurement: how samples are drawn, and how many.
        unseen: images that no network was trained on, which calibrate the count of copies.
        seed: of the images, the subsets and the noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    family: Literal["disks", "sinusoids", "c-alpha"] = "disks"
    side: int = pydantic.Field(8, ge=8)
    sizes: Sizes = (5, 20, 100, 2500)
    width: pydantic.PositiveInt | None = 192
    network: NetworkSettings = NetworkSettings(
        architecture="mlp",
        training=TrainingConfig(
            steps=8000, batch=64, learning_rate=2e-3, ema_decay=0.995, objective=Objective(**OBJECTIVES["edm"])
        ),
    )
    measurement: MeasurementConfig = MeasurementConfig(samples=96)
    unseen: int = pydantic.Field(4000, ge=10)
    seed: int = pydantic.Field(0, ge=0)


@study
class LatentFactors(Study[LatentFactorsConfig]):
    """Recovery of known latent factors beside the agreement of two networks."""

    name = "newer/latent-factors"
    title = "Agreement and the factors behind it"
    question = "When two networks agree, have they learned the factors that the images were made from?"
    paper = SOURCE
    Config = LatentFactorsConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "sizes": (4, 40),
            "width": 32,
            "network": {"training": {"steps": 100, "batch": 16}},
            "measurement": {"samples": 8, "flow_steps": 6},
            "unseen": 60,
        },
        "small": {},
        "paper": {
            "side": 32,
            "sizes": (10, 30, 100, 300, 1000, 3000, 10_000, 30_000),
            "width": None,
            "network": {
                "architecture": "ddpm++-no-attention",
                "arguments": {"model_channels": 64},
                "training": {"steps": 100_000, "batch": 128},
            },
            "measurement": {"samples": 2000},
            "unseen": 20_000,
        },
    }

    def run(self, config: LatentFactorsConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        pool, unseen, reference = _images(config)
        gaussian = like(pool, config.measurement.samples, torch.Generator().manual_seed(config.seed))
        floor = float(workspace.computed("Gaussian", lambda: _fitted(gaussian, config))["explained"].mean())
        seen = pool.tensor(range(min(SEEN, pool.stored)))
        ceiling = float(workspace.computed("training images", lambda: _fitted(seen, config))["explained"].mean())
        numbers, samples = [], {}
        for size in config.sizes:
            measured, drawn = _measure(size, pool, unseen, floor, config, workspace)
            numbers.append(measured)
            samples[size] = drawn
        results = Results(study=self.name, title=self.title)
        fill(results, Found(config.family, numbers, samples, reference, floor, ceiling))
        results.methods |= _methods(config, pool, floor)
        return results


def _images(config: LatentFactorsConfig) -> tuple[ImageSet, ImageSet, Floats]:
    """Images to train on, unseen ones, and the factors of as many more as distributions are compared with."""
    family = FAMILIES[config.family]
    generator = torch.Generator().manual_seed(config.seed)
    count = 2 * config.sizes[-1]
    factors = family.draw(count + config.unseen + REFERENCE, config.side, generator)
    pixels = to_uint8(family.render(factors[: count + config.unseen], config.side))
    pool, unseen = (ImageSet(part, name=config.family) for part in (pixels[:count], pixels[count:]))
    return pool, unseen, factors[count + config.unseen :].double().numpy()


def _measure(
    size: int, pool: ImageSet, unseen: ImageSet, floor: float, config: LatentFactorsConfig, workspace: Workspace
) -> tuple[Numbers, dict[str, Tensor]]:
    pair = choose_pair(pool, size, config.seed)
    how = config.network
    networks = train_pair(
        pair, config.width, how.training, workspace, architecture=how.architecture, arguments=how.arguments
    )
    explained, factors, samples = {}, {}, {}
    for name in NETWORKS:
        sampling = functools.partial(_samples, networks[name], pool, config)
        samples[name] = torch.from_numpy(workspace.computed(f"N={size}/samples/{name}", sampling))
        fitting = functools.partial(_fitted, samples[name], config)
        fitted = workspace.computed(f"N={size}/factors/{name}", fitting)
        explained[name], factors[name] = fitted["explained"], fitted["factors"]
    copies = _copies(pair, unseen, samples, config)
    nothing = np.zeros(config.measurement.samples, dtype=bool)
    above = {name: copies[name].above if copies else nothing for name in NETWORKS}
    recovery = np.concatenate([recovered(explained[name], floor, above[name]) for name in NETWORKS])
    agreement = beyond_chance(*(samples[name] for name in NETWORKS))
    return Numbers(size, copies, explained, factors, agreement, recovery), samples


def _copies(
    pair: Pair, unseen: ImageSet, samples: Mapping[str, Tensor], config: LatentFactorsConfig
) -> dict[str, Copies]:
    """The copies among each network's samples; nothing where unseen images are themselves as good as training images.

    A few sinusoids of one frequency have all phases nearly, and similarity knows no amplitude.
    """
    try:
        return {name: CopyCounter(pair.training[name], unseen, config.seed).count(samples[name]) for name in NETWORKS}
    except SeenImagesError:
        return {}


def _samples(network: NetworkDenoiser, pool: ImageSet, config: LatentFactorsConfig) -> npt.NDArray[np.float32]:
    """From the same noise for every network, around the mean intensity of all images, (n, 1, side, side)."""
    centre = mean_intensity(pool, config.measurement.seed)
    drawn = draw_samples(network, config.measurement.samples, centre, config.measurement)
    return np.asarray(drawn.images.clamp(-1, 1).numpy())


def _fitted(images: Tensor, config: LatentFactorsConfig) -> dict[str, Floats]:
    found = FAMILIES[config.family].fitted(images)
    return {"explained": found.explained, "factors": found.factors}


def _methods(config: LatentFactorsConfig, pool: ImageSet, floor: float) -> dict[str, str]:
    family = FAMILIES[config.family]
    wide = "" if config.width is None else f"Width {config.width}, "
    return {
        "Images": f"{config.family}, {config.side}×{config.side}: {', '.join(family.names)}; {pool.stored:,} to train on, in"
        f" two halves without a common image, the images of a small N among those of a larger one; {config.unseen:,} unseen.",
        "Networks": f"{wide}{config.network.said} Network A has an even seed, B the next.",
        "Sampling": f"{config.measurement.samples} samples of each network from the same noise, cut to [−1, 1]: by Heun's"
        f" method on {config.measurement.flow_steps} EDM levels, or by the blind ascent for networks that are not told σ.",
        "m": "The audit's count in pixels: samples nearer to the training set than 99 % of unseen images are, less what chance"
        " puts there, over both networks. Not defined where a third of the unseen images or more are as good as equal to a"
        " training image.",
        "q": "(s − s̄) / (1 − s̄): s the cosine similarity of two samples from the same noise, each less its own mean, s̄ that of"
        " samples from different noise.",
        "Q": f"1 − (1 − e) / (1 − {floor:.3f}), from 0 to 1: e is the share of a sample's variance that the nearest member of"
        f" the family explains, {floor:.3f} the same of samples of a Gaussian with the images' mean and covariance; 0 for"
        " samples above the count's level.",
        "Intervals": "95 %, bootstrap over samples; they do not say how far another training run would change a number.",
        "Seed": f"{config.seed} for images, subsets and networks.",
    }
