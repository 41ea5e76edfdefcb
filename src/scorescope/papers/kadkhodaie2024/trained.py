"""The networks of the transition: pairs on disjoint subsets of N images for growing N, at one resolution or several.

Near-duplicates are removed before the subsets are dealt, as the paper does (cosine similarity of images less their own mean
above 0.95, on images averaged to about 20 pixels), or the two subsets would share images in all but name. What is left is
split into two halves, and the subsets of every N are the beginnings of these. Networks, and the list of images that are left,
are kept in the cache that all runs share: every figure that asks for the same network gets the same one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic

from scorescope.data import ImageSet, IndexList, find_near_duplicates, load_images, train_test_split
from scorescope.data.duplicates import find_common
from scorescope.data.resolution import at_side
from scorescope.foundation import UserError
from scorescope.foundation.processes import by_first
from scorescope.lenses.audit.unseen import apart, sentences
from scorescope.lenses.methods import training_method
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Trained
from scorescope.posterior.processes import check_same_images
from scorescope.study.pairs import NETWORKS, Pair, Sizes, check_sizes, choose_pair, train_pair
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig

PAPER = "Kadkhodaie, Guth, Simoncelli, Mallat, ICLR 2024, https://arxiv.org/abs/2310.02557"
DUPLICATE_SIDE = 20  # pixels: enough to tell two photographs apart, a sixteenth of the work at 80
HELD_OUT_MOST = 1000
# What a preset must have for a claim about growing N to mean anything.
ENOUGH_SIZES, ENOUGH_IMAGES, ENOUGH_STEPS = 3, 1000, 1000


class SubsetConfig(pydantic.BaseModel):
    """Which images the two networks of every N are given.

    Attributes:
        data: a store, or the name of a built-in data set.
        sizes: numbers of training images, increasing.
        near_duplicates: cosine similarity above which an image is left out as a repeat of another; None to leave none out.
        seed: of the subsets.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    sizes: Sizes = (1, 10, 100, 1000, 10000)
    near_duplicates: float | None = pydantic.Field(0.95, gt=-1, lt=1)
    seed: int = pydantic.Field(0, ge=0)


class TrainedConfig(SubsetConfig):
    """Which networks, and how much is measured on them.

    Attributes:
        architecture: ``unet`` or ``bf-cnn``, the two of the paper.
        width: channels of its (first) layers.
        training: how each network is trained; the two networks of a pair differ in their seed as well.
        measurement: how much is measured.
    """

    architecture: Literal["unet", "bf-cnn"] = "unet"
    width: int = pydantic.Field(16, ge=1)
    training: TrainingConfig = TrainingConfig(steps=3000)
    measurement: MeasurementConfig = MeasurementConfig(samples=128)

    @property
    def untested(self) -> str:
        """Why claims about growing N cannot be tested with these settings; empty if they can."""
        if (
            len(self.sizes) < ENOUGH_SIZES
            or self.sizes[-1] < ENOUGH_IMAGES
            or self.sizes[-1] < 100 * self.sizes[0]
            or self.training.steps < ENOUGH_STEPS
        ):
            return (
                f"it takes {ENOUGH_SIZES} sizes up to {ENOUGH_IMAGES} images or more, over a factor of 100, and"
                f" {ENOUGH_STEPS} training steps"
            )
        return ""


# Settings of the presets, for the studies of all figures that use these networks.
TINY: dict[str, Any] = {
    "data": "digits",
    "sizes": (4, 40, 400),
    "width": 8,
    "training": {"steps": 100, "batch": 16},
    "measurement": {"psnr_levels": 4, "psnr_images": 24, "samples": 8, "sampler_beta": 0.5, "sigma_end": 0.3},
}
PUBLISHED: dict[str, Any] = {
    "sizes": (1, 10, 100, 1000, 10000),
    "width": 64,
    "training": {"steps": 200_000, "batch": 512, "learning_rate": 1e-3},
    "measurement": {"samples": 1000, "psnr_images": 1000, "psnr_levels": 15},
}


@dataclass(frozen=True)
class Material:
    """What subsets are dealt from.

    Attributes:
        images: training images without near-duplicates.
        held_out: images that no network is trained on.
        whole: all training images, near-duplicates among them.
        methods: heading -> text: where they come from.
    """

    images: ImageSet
    held_out: ImageSet
    whole: ImageSet
    methods: dict[str, str]


def open_material(config: SubsetConfig, workspace: Workspace) -> Material:
    """The images of a study, checked to be enough.

    A data set without test images gives up a tenth of its own, at most 1,000, chosen by the seed.

    Raises:
        UserError: no such data; too few images, before or after near-duplicates are removed.
    """
    data, notes = apart(load_images(config.data))
    check_same_images(data.train)
    whole, held_out = data.train, data.test
    said = ""
    if held_out is None:
        if whole.stored < 2:
            raise UserError(f"{whole.name} has one image: there must be one to train on and one to hold out")
        train, test = train_test_split(whole.stored, max(1, min(HELD_OUT_MOST, whole.stored // 10)), seed=config.seed)
        twins = np.unique(find_common(whole.subset(test), whole.subset(train)).second)
        whole, held_out = whole.subset(np.delete(train, twins)), whole.subset(test)
        said = ", taken from the same images, which have no test part,"
    check_sizes(config.sizes, whole)
    images, removed = whole, "None were removed."
    if config.near_duplicates is not None:
        images = without_near_duplicates(whole, config.near_duplicates, workspace.cache)
        removed = (
            f"{whole.stored - images.stored} of {whole.stored} images were left out, each with a cosine similarity above"
            f" {config.near_duplicates:g} to one that was kept (each image less its own mean, averaged to about"
            f" {DUPLICATE_SIDE} pixels a side)."
        )
        _check_left(config, images, whole)
    methods = {
        "Data": f"{whole.name}, {whole.stored} images of shape {whole.image_shape}; held out{said} {held_out.stored}.",
        "Near-duplicates": removed,
        "Subsets": f"Two disjoint, nested subsets for each N, drawn with seed {config.seed}.",
    }
    if notes:
        methods["Held-out images"] = sentences(notes)
    return Material(images, held_out, whole, methods)


def training_methods(config: TrainedConfig) -> dict[str, str]:
    """How the networks were made, for the foot of a page."""
    return {
        "Networks": f"Bias-free, blind {config.architecture} of width {config.width}, on images in [0, 1].",
        "Training": training_method(config.training)
        + " The number of steps is the same for every N, so small sets are seen more often.",
    }


def subset_pair(material: Material, size: int, config: SubsetConfig, side: int | None = None) -> Pair:
    """The training images of the two networks of one N, averaged to `side` pixels if that is given.

    Raises:
        UserError: the same image is in both subsets, which can only be where near-duplicates were not removed.
    """
    pair = choose_pair(material.images, size, config.seed)
    _check_disjoint(pair)
    if side is not None:
        pair = Pair({name: at_side(images, side) for name, images in pair.training.items()}, pair.selections)
    return pair


def trained_pair(
    material: Material, size: int, config: TrainedConfig, workspace: Workspace, side: int | None = None
) -> Trained:
    """The networks of one N, trained now or taken from the cache, with what they were trained on and held-out images.

    Args:
        material: what subsets are dealt from.
        size: N.
        config: the study's settings.
        workspace: of the run.
        side: to which all images are averaged; None to leave them as they are.
    """
    pair = subset_pair(material, size, config, side)
    into = "networks" if side is None else f"networks/{side}x{side}"
    networks = train_pair(pair, config.width, config.training, workspace, architecture=config.architecture, into=into)
    held_out = material.held_out if side is None else at_side(material.held_out, side)
    return Trained(networks, pair.training, held_out)


def without_near_duplicates(images: ImageSet, threshold: float, cache: Path) -> ImageSet:
    """The images that are left when repeats are removed; the list of them is kept in the cache.

    Args:
        images: square ones are compared at about 20 pixels a side, others as they are.
        threshold: cosine similarity, each image less its own mean.
        cache: folder that all runs share.
    """
    side = comparison_side(images)
    key = f"{images.fingerprint()} own {threshold!r} {side}"
    path = cache / "near-duplicates" / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.json"

    def find() -> list[int]:
        if not path.exists():
            found = find_near_duplicates(at_side(images, side) if side else images, threshold, centre="own")
            made_by = f"images without near-duplicates: cosine similarity up to {threshold:g}"
            IndexList.of(images, found.kept, made_by).save(path)
        return list(IndexList.load(path).indices)

    return images.subset(np.array(by_first(find), dtype=np.int64))


def comparison_side(images: ImageSet) -> int | None:
    """The side in pixels, 20 to 39, at which images are compared with each other; None for images that are not square."""
    _, height, width = images.image_shape
    return height // max(1, height // DUPLICATE_SIDE) if height == width else None


def _check_left(config: SubsetConfig, images: ImageSet, whole: ImageSet) -> None:
    most = images.stored // len(NETWORKS)
    if config.sizes[-1] > most:
        raise UserError(
            f"N = {config.sizes[-1]} asked for: of the {whole.stored} images of {whole.name} {images.stored} are left when"
            f" near-duplicates above {config.near_duplicates:g} are removed, {most} for each network; set sizes to smaller"
            " ones, or near_duplicates higher"
        )


def _check_disjoint(pair: Pair) -> None:
    """That no image of one network is, pixel by pixel, one of the other's."""
    places: dict[bytes, int] = {}
    first, second = (pair.training[name] for name in NETWORKS)
    for start, block in first.chunks(4096):
        places |= {hashlib.sha256(image.tobytes()).digest(): start + i for i, image in enumerate(block)}
    for start, block in second.chunks(4096):
        for i, image in enumerate(block):
            same = places.get(hashlib.sha256(image.tobytes()).digest())
            if same is not None:
                raise UserError(
                    f"the two subsets of {pair.size} images of {first.name} overlap: image {same} of the first is image"
                    f" {start + i} of the second; set near_duplicates=0.95 to have repeats removed"
                )
