"""Files of lucidrains' ``Trainer.save``: network, schedule and objective are all in the file.

The state dictionary is that of its ``GaussianDiffusion``: the U-Net under ``model.`` beside the tables of the process. σ is
``sqrt_recipm1_alphas_cumprod``, and the objective (noise, image or v) is the one whose weights over the steps are
``loss_weight``: 1, the signal-to-noise ratio r, or r/(r + 1), each perhaps cut off at r = 5. What is not in it: the image's
side, whether images were mirrored (they are, by default), and whether they were scaled from [0, 1] (they are).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.networks.readers.formats import CheckpointFile, Format, Given, Reading, Shapes
from scorescope.networks.readers.use import stepped_use

ARCHITECTURE = "lucidrains-unet"
PREFIX = "model."
SIGMAS, SIGNALS, WEIGHTS = "sqrt_recipm1_alphas_cumprod", "alphas_cumprod", "loss_weight"
CUT_OFF = 5.0


def _is_lucidrains(file: CheckpointFile) -> bool:
    return any(
        file.has(
            f"{prefix}init_conv.weight",
            f"{prefix}final_res_block.block1.proj.weight",
            f"{prefix}downs.0.0.mlp.1.weight",
        )
        for prefix in (PREFIX, "")
    )


def _read(file: CheckpointFile, given: Given) -> Reading:
    whole = file.has(SIGMAS)
    tensors = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in file.tensors.items()
        if name.startswith(PREFIX) or not file.has(f"{PREFIX}init_conv.weight")
    }
    arguments = structure({name: tensor.shape for name, tensor in tensors.items()})
    known: dict[str, Any] = {}
    read: tuple[str, ...] = ()
    if whole:
        sigmas = file.tensors[SIGMAS].read().double()
        known = {"sigmas": _increasing(sigmas)}
        read = (f"a schedule of {len(sigmas):,} steps",)
        if file.has(WEIGHTS, SIGNALS):
            known["prediction"] = objective(file.tensors[SIGNALS].read(), file.tensors[WEIGHTS].read())
            if known["prediction"] is None:
                del known["prediction"]
            else:
                read += (f"objective {known['prediction']}",)
    name, its = stepped_use(given, prediction="v", schedule="sigmoid", known=known)
    return Reading(
        ARCHITECTURE,
        arguments | given.left,
        (arguments["channels"], 0, 0),
        name,
        its,
        tensors,
        read,
        side_multiple=2 ** (len(arguments["widths"]) - 2),
    )


def _increasing(sigmas: Tensor) -> tuple[float, ...]:
    if not bool(torch.isfinite(sigmas).all()) or not bool((sigmas.diff() > 0).all()) or not bool((sigmas > 0).all()):
        raise UserError(
            f"its table {SIGMAS} does not rise from a positive value: say the schedule with --arch-arg schedule=NAME"
        )
    return tuple(sigmas.tolist())


def objective(signals: Tensor, weights: Tensor) -> str | None:
    """What the network predicts, from ᾱ and the loss's weights over the steps (T,); None if they fit nothing."""
    ratio = signals.double() / (1 - signals.double())
    weights = weights.double()
    cut = ratio.clamp(max=CUT_OFF)
    candidates = {
        "epsilon": (torch.ones_like(ratio), cut / ratio),
        "sample": (ratio, cut),
        "v": (ratio / (ratio + 1), cut / (ratio + 1)),
    }
    apart = {
        name: min(float(((weights - one) / (one + 1e-12)).abs().max()) for one in both)
        for name, both in candidates.items()
    }
    nearest = min(apart, key=lambda name: apart[name])
    return nearest if apart[nearest] < 0.02 else None


def structure(shapes: Shapes) -> dict[str, Any]:
    """Arguments of the network. Raises KeyError or ValueError if the shapes are of another one."""
    levels = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"downs\.(\d+)\.0\.mlp", name)))
    if "downs.0.0.block1.norm.g" not in shapes:
        raise UserError(
            "it is of an older version of denoising-diffusion-pytorch (before 2.0), whose network differs: not supported"
        )
    first, entering = shapes["init_conv.weight"][:2]
    leaving = shapes["final_conv.weight"][0]
    self_condition = entering == 2 * leaving
    full = [f"downs.{level}.2.to_out.weight" in shapes for level in range(levels)]
    kv = [shapes[f"downs.{level}.2.mem_kv"] for level in range(levels)]
    fourier = shapes.get("time_mlp.0.weights", (0,))[0]
    width = [shapes[f"downs.{level}.0.block1.proj.weight"][0] for level in range(levels)]
    return {
        "channels": leaving if self_condition else entering,
        "out_channels": leaving,
        "time_channels": shapes["time_mlp.1.weight"][0] // 4,
        "widths": [*width, shapes["mid_block1.block1.proj.weight"][0]],
        "full_attention": full,
        "heads": [shape[1] for shape in kv],
        "head_channels": [shape[3 if whole else 2] for shape, whole in zip(kv, full, strict=True)],
        "memories": kv[0][2 if full[0] else 3],
        "self_condition": self_condition,
        "fourier": fourier,
    } | ({} if first == width[0] else {"first": first})


LUCIDRAINS = Format("lucidrains", "lucidrains/denoising-diffusion-pytorch", _is_lucidrains, _read)
