"""The commands on one checkpoint: what is in it and what was assumed of it (info), and whether it denoises (check)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorescope.app.choices import ModelChoice
from scorescope.app.opening import check_shape
from scorescope.data import load_images
from scorescope.denoisers.opened import denoiser_of
from scorescope.networks import OpenedNetwork, classes_of, open_checkpoint
from scorescope.probes.opening_check import OpeningCheck, check_opening
from scorescope.study.workspace import available_device

# Of a network that takes images of any size, when nobody says one and only its description is wanted.
ANY_SIDES = (64, 64)


def check(choice: ModelChoice, data: str, seed: int, device: str) -> tuple[OpenedNetwork, OpeningCheck]:
    """Denoise a few images of a data set with a checkpoint, in the way it was opened and in all others that are plausible.

    Raises UserError if it cannot be opened, takes other images, or does not know the class.
    """
    images = load_images(data).train
    opened = open_checkpoint(choice.path, choice.architecture, choice.arguments, sides=images.image_shape[1:])
    check_shape(choice.path, opened.config.image_shape, images)
    if choice.class_label is not None:
        denoiser_of(opened, choice.path.name, choice.class_label)  # refuses a class that the network does not know

    def again(more: Mapping[str, Any]) -> OpenedNetwork:
        arguments = {**choice.arguments, **more}
        return open_checkpoint(choice.path, choice.architecture, arguments, sides=images.image_shape[1:], like=opened)

    found = check_opening(
        opened,
        images,
        again,
        seed=seed,
        device=available_device(device),
        class_label=choice.class_label,
        always=True,
    )
    return opened, found


def info(choice: ModelChoice) -> dict[str, Any]:
    """What a checkpoint holds, as plain values.

    Returns:
        ``path``, ``format``, ``network``, ``arguments``, ``parameters``, ``weights``, ``image_shape`` (sides None where it
        takes any), ``classes``, ``preconditioning``, ``preconditioning_arguments``, ``sigma_range``, ``read``, ``assumed``
        (each with the arguments that would make it otherwise), ``notes``, ``flips`` and ``data`` (None where not recorded).

    Raises:
        UserError: it cannot be opened.
    """
    opened = open_checkpoint(choice.path, choice.architecture, choice.arguments, sides=ANY_SIDES)
    config, classes = opened.config, classes_of(opened.network)
    sized = not opened.any_size
    channels, height, width = config.image_shape
    return {
        "path": str(choice.path),
        "format": opened.format or "scorescope",
        "network": config.architecture,
        "arguments": config.arguments,
        "parameters": sum(parameter.numel() for parameter in opened.network.parameters()),
        "weights": opened.weights or None,
        "both_weights": opened.both,
        "image_shape": [channels, height, width] if sized else [channels, None, None],
        "classes": classes.count,
        "class_needed": not classes.optional,
        "preconditioning": config.preconditioning,
        "preconditioning_arguments": config.preconditioning_arguments,
        "sigma_range": list(config.sigma_range),
        "read": list(opened.read),
        "assumed": [
            {"said": one.said, "otherwise": [dict(way) for way in one.otherwise]} for one in opened.assumed if one.said
        ],
        "notes": list(opened.notes),
        "flips": config.flips,
        "data": config.training.get("data"),
        "origin": opened.origin,
    }
