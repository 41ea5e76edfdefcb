"""Which images a checkpoint was trained on, as far as it says so itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorescope.data import ImageSet
from scorescope.training import Selection

ITS_OWN = "those that the checkpoint says it was trained on"


def own_training_images(record: Mapping[str, Any], images: ImageSet) -> tuple[ImageSet, str]:
    """The part of the data that a checkpoint was trained on, and what is known of that, in words.

    Args:
        record: the checkpoint's `NetworkConfig.training`; empty if it says nothing.
        images: the data set that it is to be compared with; all of it, where the checkpoint names no part.
    """
    recorded = record.get("selection")
    if recorded and recorded["total"] == images.stored:
        chosen = Selection.model_validate(recorded).choose(images)
        if chosen.fingerprint() == record.get("data_sha256"):
            return chosen, ITS_OWN
    if record.get("data_sha256") == images.fingerprint():
        return images, ITS_OWN
    said = "the checkpoint was trained on other images" if "data_sha256" in record else "the checkpoint does not say"
    return images, f"as given; {said}"
