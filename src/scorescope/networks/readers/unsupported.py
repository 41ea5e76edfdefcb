"""Files that hold weights of diffusion models which this project cannot use, and what can be done instead: one line each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from scorescope.foundation import UserError
from scorescope.networks.readers.weight_sets import is_averaged_name

PIXEL_CHANNELS = (1, 2, 3)
MOST_FILES = 10_000
_TEXT = ("attn2.to_k.", "cond_stage_model.", "context_embed", "encoder_proj.", "y_embedder.y_embedding", "txt_in.")
_LATENT = ("first_stage_model.", "quant_conv.", "post_quant_conv.")


def refuse_unsupported(names: Iterable[str]) -> None:
    """Raises UserError for names of models that are conditional on text, or that hold an autoencoder of their own."""
    listed = list(names)
    if found := next((name for name in listed if any(mark in name for mark in _TEXT)), None):
        raise UserError(
            f"it is conditional on text ({found[:60]}), which is not supported: give a model of images, with classes or"
            " without; the images that this one makes can be examined by audit --samples"
        )
    if found := next((name for name in listed if any(mark in name for mark in _LATENT)), None):
        raise UserError(
            f"it holds an autoencoder ({found[:60]}): its diffusion is one of latents, not pixels, and not supported; the"
            " images that it makes can be examined by audit --samples"
        )


def note_on_channels(channels: int) -> str:
    """What is to be said of a network whose images have so many channels; empty for those of pixels."""
    if channels in PIXEL_CHANNELS:
        return ""
    return (
        f"its images have {channels} channels: they are latents of an autoencoder, most likely, not pixels; its denoised"
        " latents can be looked at from Python, and the images that it makes by audit --samples"
    )


def instead_of_optimizer(path: Path) -> str:
    """Which file beside an optimizer's holds the weights of the same step, as a phrase: averages before others."""
    number = re.findall(r"\d+", path.stem)
    try:
        entries = [entry for _, entry in zip(range(MOST_FILES), path.parent.iterdir(), strict=False)]
    except OSError:
        entries = []
    beside = [
        entry.name
        for entry in entries
        if entry != path
        and entry.suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
        and not re.match(r"opt", entry.name)
        and (not number or number[-1] in re.findall(r"\d+", entry.stem))
    ]
    beside.sort(key=lambda name: (not is_averaged_name(Path(name).stem), name))
    if beside:
        return f"give {beside[0][:80]}, which stands beside it"
    return "give the file of the same step that holds the network (model*.pt, ema*.pt)"
