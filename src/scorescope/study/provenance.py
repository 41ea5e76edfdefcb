"""Which images a checkpoint was trained on, as far as it says so itself, and which of them it is compared with."""

from __future__ import annotations

from scorescope.data import ImageSet
from scorescope.networks import NetworkConfig
from scorescope.training import Selection

ITS_OWN = "those that the checkpoint says it was trained on"


def own_training_images(config: NetworkConfig, images: ImageSet, flips: bool | None = None) -> tuple[ImageSet, str]:
    """The part of the data that a checkpoint was trained on, mirrored too if it was, and what is known of that, in words.

    Args:
        config: the checkpoint's.
        images: the data set that it is to be compared with; all of it, where the checkpoint names no part.
        flips: whether mirror images belong to them; None for what the checkpoint records.
    """
    chosen, said = _chosen(config, images)
    if config.flips if flips is None else flips:
        return chosen.with_flips(), f"{said}; mirror images included"
    return chosen, said


def _chosen(config: NetworkConfig, images: ImageSet) -> tuple[ImageSet, str]:
    record = config.training
    recorded = record.get("selection")
    if recorded and recorded["total"] == images.stored:
        chosen = Selection.model_validate(recorded).choose(images)
        if chosen.fingerprint() == record.get("data_sha256"):
            return chosen, ITS_OWN
    if record.get("data_sha256") == images.fingerprint():
        return images, ITS_OWN
    said = "the checkpoint was trained on other images" if "data_sha256" in record else "the checkpoint does not say"
    return images, f"as given; {said}"


def of_class(images: ImageSet, label: int | None) -> ImageSet:
    """The images that a network asked for one class is compared with: those of the class, where there are classes.

    Raises UserError if there are labels and none of them is this one.
    """
    return images if label is None or images.labels is None else images.of_class(label)
