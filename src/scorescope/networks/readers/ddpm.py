"""Files of pytorch-ddpm and of ermongroup/ddim: Ho et al.'s U-Net under two sets of names.

Everything about the network is in names and shapes (it always has one attention head). Not in the file are what it predicts
(noise, in nearly all) and over which table (β from 1e−4 to 0.02 in 1,000 equal steps). In pytorch-ddpm's files the table of
sines is stored with the weights: it takes whole steps only.
"""

from __future__ import annotations

import re
from typing import Any

from scorescope.foundation.inert.stored_tensor import StoredTensor
from scorescope.networks.readers.formats import CheckpointFile, Format, Given, Reading, Shapes
from scorescope.networks.readers.use import stepped_use

ARCHITECTURE = "ddpm-unet"


def _is_ddim(file: CheckpointFile) -> bool:
    return file.has("temb.dense.0.weight", "conv_in.weight", "mid.block_1.conv1.weight", "conv_out.weight")


def _is_w1r3(file: CheckpointFile) -> bool:
    return file.has("time_embedding.timembedding.0.weight", "head.weight", "middleblocks.0.block1.0.weight")


def structure(shapes: Shapes) -> dict[str, Any]:
    """Arguments of the network from shapes under ddim's names. Raises KeyError or ValueError if they are of another one."""
    levels = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"down\.(\d+)\.block\.0\.", name)))
    blocks = 1 + max(int(match[1]) for name in shapes if (match := re.match(r"down\.0\.block\.(\d+)\.", name)))
    first, channels = shapes["conv_in.weight"][:2]
    return {
        "in_channels": channels,
        "out_channels": shapes["conv_out.weight"][0],
        "model_channels": shapes["temb.dense.0.weight"][1],
        "widths": [shapes[f"down.{level}.block.0.conv1.weight"][0] for level in range(levels)],
        "num_res_blocks": blocks,
        "attention_levels": [level for level in range(levels) if f"down.{level}.attn.0.q.weight" in shapes],
        "first_width": first,
        "middle_attention": "mid.attn_1.q.weight" in shapes,
        "convolved_resampling": levels == 1 or "down.0.downsample.conv.weight" in shapes,
    }


def _read_ddim(file: CheckpointFile, given: Given) -> Reading:
    arguments = structure(file.shapes)
    name, its = stepped_use(given)
    return Reading(
        ARCHITECTURE,
        arguments | given.left,
        (arguments["in_channels"], 0, 0),
        name,
        its,
        side_multiple=2 ** (len(arguments["widths"]) - 1),
    )


def _read_w1r3(file: CheckpointFile, given: Given) -> Reading:
    tensors = renamed(file.tensors)
    arguments = structure({name: tensor.shape for name, tensor in tensors.items()})
    steps = tensors["temb.table.weight"].shape[0]
    arguments |= {"same_padding": True, "norm_eps": 1e-5, "steps": steps}
    name, its = stepped_use(given, steps=steps, whole=True)
    read = (f"a table of {steps:,} times, whole steps",)
    return Reading(
        ARCHITECTURE,
        arguments | given.left,
        (arguments["in_channels"], 0, 0),
        name,
        its,
        tensors,
        read,
        side_multiple=2 ** (len(arguments["widths"]) - 1),
    )


_PARTS = {
    "block1.0": "norm1",
    "block1.2": "conv1",
    "temb_proj.1": "temb_proj",
    "block2.0": "norm2",
    "block2.3": "conv2",
    "shortcut": "nin_shortcut",
}
_ATTENTION = {"group_norm": "norm", "proj_q": "q", "proj_k": "k", "proj_v": "v", "proj": "proj_out"}
_ENDS = {
    "time_embedding.timembedding.0": "temb.table",
    "time_embedding.timembedding.1": "temb.dense.0",
    "time_embedding.timembedding.3": "temb.dense.1",
    "head": "conv_in",
    "tail.0": "norm_out",
    "tail.2": "conv_out",
    "middleblocks.0": "mid.block_1",
    "middleblocks.1": "mid.block_2",
}


def renamed(tensors: dict[str, StoredTensor] | Any) -> dict[str, StoredTensor]:
    """The tensors of pytorch-ddpm's U-Net under ddim's names. Raises KeyError for a name that it does not have."""
    downs = _places(tensors, "downblocks", "down", up=False)
    ups = _places(tensors, "upblocks", "up", up=True)
    homes = _ENDS | downs | ups
    found = {}
    for name, tensor in tensors.items():
        home = next((place for place in homes if name.startswith(place + ".")), None)
        if home is None:
            raise KeyError(f"place for {name}")
        rest, _, kind = name.removeprefix(home + ".").rpartition(".")
        found[f"{_renamed(homes[home], rest)}.{kind}"] = tensor
    return found


def _renamed(home: str, part: str) -> str:
    if not part:
        return home
    if part == "main":
        return home
    if part.startswith("attn."):
        place = "mid.attn_1" if home == "mid.block_1" else home.replace(".block.", ".attn.")
        return f"{place}.{_ATTENTION[part.removeprefix('attn.')]}"
    return f"{home}.{_PARTS[part]}"


def _places(tensors: Any, theirs: str, ours: str, *, up: bool) -> dict[str, str]:
    """Where the numbered blocks of one way stand in ours: blocks of a level, then what changes the resolution."""
    count = 1 + max(int(match[1]) for name in tensors if (match := re.match(rf"{theirs}\.(\d+)\.", name)))
    resampling = [f"{theirs}.{n}.main.weight" in tensors for n in range(count)]
    level, block = (sum(resampling), 0) if up else (0, 0)
    places = {}
    for n, changes in enumerate(resampling):
        if changes:
            places[f"{theirs}.{n}"] = f"{ours}.{level}.{'upsample' if up else 'downsample'}.conv"
            level, block = level + (-1 if up else 1), 0
        else:
            places[f"{theirs}.{n}"] = f"{ours}.{level}.block.{block}"
            block += 1
    return places


DDIM = Format("ddim", "ermongroup/ddim, pesser/pytorch_diffusion", _is_ddim, _read_ddim)
PYTORCH_DDPM = Format("pytorch-ddpm", "w1r3/pytorch-ddpm, locality in diffusion models", _is_w1r3, _read_w1r3)
