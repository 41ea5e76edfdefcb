"""Feature spaces by what a person writes as a setting.

| word | space |
| --- | --- |
| ``embedded`` | fixed filters, needs no file |
| ``pixels`` | pixels, centred by the mean of their image |
| ``sscd:FILE`` | SSCD's TorchScript file, with its published preparation of images |
| ``inception:FILE`` | an Inception TorchScript file, with the FID's preparation |
| ``torchscript:FILE?size=224,range=unit,mean=imagenet,std=imagenet,channels=3`` | any TorchScript file; options are optional |
| ``function:FILE.py:NAME`` | a Python function of images in [-1, 1] |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from scorescope.foundation import UserError
from scorescope.foundation.names import unknown_name
from scorescope.probes.features import FeatureSpace, PixelFeatures, function_features
from scorescope.probes.features_embedded import EmbeddedFeatures
from scorescope.probes.features_torchscript import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RANGES,
    InceptionFeatures,
    Preparation,
    ScriptFeatures,
    sscd,
)

ALONE: dict[str, type[FeatureSpace]] = {"embedded": EmbeddedFeatures, "pixels": PixelFeatures}
OPTIONS = ("size", "range", "mean", "std", "channels")


def open_features(word: str, device: torch.device | str = "cpu") -> FeatureSpace:
    """The feature space that a word names, on a device.

    Raises UserError for an unknown word, a file that is missing or is not what it should be, or an unknown option.
    """
    kind, _, rest = word.partition(":")
    if kind in ALONE:
        if rest:
            raise UserError(f"the feature space {kind} takes nothing after its name, found {word!r}")
        return ALONE[kind]().to(device)
    if kind not in OF_FILES:
        raise UserError(unknown_name("feature space", kind, [*ALONE, *OF_FILES]))
    if not rest:
        raise UserError(f"the feature space {kind} is read from a file: write {kind}:FILE")
    return OF_FILES[kind](rest).to(device)


def script_features(file_and_options: str) -> ScriptFeatures:
    """Any TorchScript file: "FILE?option=value,…". Raises UserError as `open_features` does."""
    path, _, text = file_and_options.partition("?")
    return ScriptFeatures(path, _preparation(text))


def _preparation(text: str) -> Preparation:
    given: dict[str, Any] = {}
    # A comma parts options, and the numbers of one: what has no "=" belongs to the option before it.
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if equals:
            if name not in OPTIONS:
                raise UserError(unknown_name("option of a TorchScript feature space", name, list(OPTIONS)))
            given[name] = [value]
        elif given:
            given[next(reversed(given))].append(part)
        else:
            raise UserError(f"options of a TorchScript feature space are written NAME=VALUE, found {part!r}")
    return Preparation(**{name: _value(name, values) for name, values in given.items()})


def _value(name: str, values: list[str]) -> Any:
    said = ",".join(values)
    try:
        if name in ("mean", "std"):
            if said == "imagenet":
                return IMAGENET_MEAN if name == "mean" else IMAGENET_STD
            numbers = tuple(float(value) for value in values)
            if len(numbers) not in (1, 3) or (name == "std" and min(numbers) <= 0):
                raise ValueError
            return numbers
        if name == "range":
            if said not in RANGES:
                raise ValueError
            return said
        number = int(said)
        if number < 1 or (name == "channels" and number not in (1, 3)):
            raise ValueError
        return number
    except ValueError:
        allowed = {
            "mean": "imagenet, one number, or three",
            "std": "imagenet, one positive number, or three",
            "range": ", ".join(RANGES),
            "channels": "1 or 3",
            "size": "a side in pixels",
        }[name]
        raise UserError(f"option {name}={said} of a TorchScript feature space: it is {allowed}") from None


OF_FILES: dict[str, Callable[[str], FeatureSpace]] = {
    "sscd": sscd,
    "inception": InceptionFeatures,
    "torchscript": script_features,
    "function": function_features,
}
