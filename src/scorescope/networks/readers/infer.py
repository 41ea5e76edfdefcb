"""State dictionaries of the networks that this project trains, too: their arguments, read off names and shapes.

Published checkpoints of U-ViT, DiT, the bias-free networks and EDM's U-Nets say neither: both follow from the parameters,
with three exceptions that leave no trace in any shape and are settled by a stated rule, or else asked for:

- the number of attention heads of a transformer: that of the published network of the same width;
- whether a DiT's last row of class embeddings stands for "no class": yes, as in all published ones;
- how the network is used as a denoiser: as is usual for its architecture. A DiT that also predicts a variance is taken for
  a noise predictor over the linear table of 1,000 steps, as published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scorescope.foundation import UserError
from scorescope.networks.readers.formats import IN_A_STUDY, CheckpointFile, Format, Given, Reading, Shapes
from scorescope.networks.readers.use import OTHER_STEPPED_USES, said_use, stepped_use
from scorescope.networks.registry import architectures

# Width of every published network -> heads (Peebles & Xie 2023, table 1; Bao et al. 2023, table 1).
DIT_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
UVIT_HEADS = {512: 8, 768: 12, 1024: 16, 1152: 16}


@dataclass(frozen=True)
class Inferred:
    """What the names and shapes say.

    Attributes:
        arguments: constructor arguments.
        image_shape: (C, H, W); H and W are 0 for networks that take any size.
        assumed: what they do not say and was assumed, as phrases.
    """

    arguments: dict[str, Any]
    image_shape: tuple[int, int, int]
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """How one architecture's state dictionary is told from others and read.

    Attributes:
        marks: parts of names that it has, all of them.
        unlike: parts of names that it does not have.
        read: from shapes and given arguments to the constructor's; raises KeyError or ValueError if they do not fit.
    """

    marks: tuple[str, ...]
    unlike: tuple[str, ...]
    read: Callable[[Shapes, Mapping[str, Any]], Inferred]


def _format(architecture: str, signature: Signature) -> Format:
    """A signature as an entry of the table of formats."""

    def recognize(file: CheckpointFile) -> bool:
        shapes = file.tensors
        return all(_occurs(mark, shapes) for mark in signature.marks) and not any(
            _occurs(mark, shapes) for mark in signature.unlike
        )

    def read(file: CheckpointFile, given: Given) -> Reading:
        use = said_use(given)
        words = {name for name in ("prediction", "schedule") if name in given.left}
        found_use = use or (stepped_use(given) if words else None)
        found = signature.read(file.shapes, given.left)
        for phrase in found.assumed:
            given.assume(phrase)
        if found_use is None:
            usual = "epsilon" if found.arguments.get("learn_sigma") else architectures[architecture].preconditioning
            given.assume(f"preconditioning {usual!r}, as usual for it", OTHER_USES.get(usual, ()))
            found_use = usual, {}
        return Reading(architecture, found.arguments | given.left, found.image_shape, *found_use)

    return Format(architecture, architectures[architecture].source, recognize, read)


# What a network may be that is taken for one of a usual preconditioning.
OTHER_USES: dict[str, tuple[Mapping[str, Any], ...]] = {
    "epsilon": OTHER_STEPPED_USES,
    "vp": (*OTHER_STEPPED_USES, {"preconditioning": "edm"}),
    "edm": (
        *({"preconditioning": name} for name in ("vp", "ve", "iddpm")),
        *OTHER_STEPPED_USES,
    ),
}


def _unet(shapes: Shapes, _: Mapping[str, Any]) -> Inferred:
    width, channels = shapes["encoder.0.0.weight"][:2]
    blocks = _count(r"encoder\.(\d+)\.", shapes)
    return Inferred({"channels": channels, "width": width, "blocks": blocks}, (channels, 0, 0))


def _dit(shapes: Shapes, given: Mapping[str, Any]) -> Inferred:
    hidden, channels, patch = shapes["x_embedder.proj.weight"][:3]
    side = patch * math.isqrt(shapes["pos_embed"][1])
    classes = shapes.get("y_embedder.embedding_table.weight", (0,))[0]
    arguments = {
        "input_size": side,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": hidden,
        "depth": _count(r"blocks\.(\d+)\.", shapes),
        "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / hidden,
        "num_classes": max(classes - 1, 0),
        "learn_sigma": shapes["final_layer.linear.weight"][0] == 2 * channels * patch**2,
    }
    assumed = ["the last class stands for no class"] if classes else []
    return _with_heads(arguments, (channels, side, side), hidden, DIT_HEADS, given, assumed)


def _uvit(shapes: Shapes, given: Mapping[str, Any]) -> Inferred:
    hidden, channels, patch = shapes["patch_embed.proj.weight"][:3]
    if any(name.startswith("context_embed") for name in shapes):
        raise UserError("it is a U-ViT that is conditional on text, which is not supported: give an image model")
    classes = shapes.get("label_emb.weight", (-1,))[0]
    extras = 1 + (classes > 0)
    side = patch * math.isqrt(shapes["pos_embed"][1] - extras)
    arguments = {
        "img_size": side,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": hidden,
        "depth": 2 * _count(r"in_blocks\.(\d+)\.", shapes),
        "mlp_ratio": shapes["mid_block.mlp.fc1.weight"][0] / hidden,
        "qkv_bias": "mid_block.attn.qkv.bias" in shapes,
        "mlp_time_embed": "time_embed.0.weight" in shapes,
        "num_classes": classes,
        "conv": "final_layer.weight" in shapes,
        "skip": any(name.endswith("skip_linear.weight") for name in shapes),
    }
    return _with_heads(arguments, (channels, side, side), hidden, UVIT_HEADS, given, [])


def _with_heads(
    arguments: dict[str, Any],
    image_shape: tuple[int, int, int],
    width: int,
    published: Mapping[int, int],
    given: Mapping[str, Any],
    assumed: list[str],
) -> Inferred:
    if "num_heads" in given:
        return Inferred(arguments, image_shape, tuple(assumed))
    if width not in published:
        raise UserError(
            f"the number of attention heads leaves no trace in the weights, and {width} is not the width of a published"
            f" network ({', '.join(map(str, published))}): say --arch-arg num_heads=N {IN_A_STUDY}"
        )
    heads = published[width]
    said = f"{heads} attention heads, as published networks of width {width} have"
    return Inferred(arguments | {"num_heads": heads}, image_shape, (*assumed, said))


def _song(shapes: Shapes, _: Mapping[str, Any]) -> Inferred:
    levels = _levels(shapes)
    side = levels[0]
    base, channels = shapes[f"enc.{side}x{side}_conv.weight"][:2]
    emb, noise = shapes["map_layer0.weight"]
    encoder = "residual" if _occurs("aux_residual", shapes) else "skip" if _occurs("aux_skip", shapes) else "standard"
    filters = [shape for name, shape in shapes.items() if name.endswith("resample_filter")]
    arguments = _levelled(shapes, levels, base) | {
        "img_resolution": side,
        "in_channels": channels,
        "out_channels": shapes[f"dec.{side}x{side}_aux_conv.weight"][0],
        "label_dim": shapes.get("map_label.weight", (0, 0))[1],
        "augment_dim": shapes.get("map_augment.weight", (0, 0))[1],
        "model_channels": base,
        "channel_mult_emb": emb // base,
        "channel_mult_noise": noise // base,
        "embedding_type": "fourier" if "map_noise.freqs" in shapes else "positional",
        "encoder_type": encoder,
        "decoder_type": "skip" if sum("aux_conv.weight" in name for name in shapes) > 1 else "standard",
        "resample_filter": [1, 3, 3, 1] if filters and filters[0][-1] == 4 else [1, 1],
        "attention": _occurs(".qkv.", shapes),
    }
    return Inferred(arguments, (channels, side, side))


def _dhariwal(shapes: Shapes, _: Mapping[str, Any]) -> Inferred:
    levels = _levels(shapes)
    side = levels[0]
    first, channels = shapes[f"enc.{side}x{side}_conv.weight"][:2]
    emb, base = shapes["map_layer0.weight"]
    arguments = _levelled(shapes, levels, base) | {
        "img_resolution": side,
        "in_channels": channels,
        "out_channels": shapes["out_conv.weight"][0],
        "label_dim": shapes.get("map_label.weight", (0, 0))[1],
        "augment_dim": shapes.get("map_augment.weight", (0, 0))[1],
        "model_channels": base,
        "channel_mult_emb": emb // base,
    }
    if first != base * arguments["channel_mult"][0]:
        raise ValueError("the first convolution is not as wide as the first level")
    return Inferred(arguments, (channels, side, side))


def _levels(shapes: Shapes) -> list[int]:
    """Sides of the feature maps of one of EDM's U-Nets, from the image's down."""
    found = {int(match[1]) for name in shapes if (match := re.match(r"enc\.(\d{1,4})x\1_", name))}
    if not found:
        raise KeyError("enc.*")
    return sorted(found, reverse=True)


def _levelled(shapes: Shapes, levels: list[int], base: int) -> dict[str, Any]:
    """Blocks, widths and attention by level, the same in both of EDM's U-Nets."""
    wide = [shapes[f"enc.{side}x{side}_block0.conv1.weight"][0] for side in levels]
    return {
        "num_blocks": _count(rf"enc\.{levels[0]}x{levels[0]}_block(\d+)\.", shapes),
        "channel_mult": [width // base for width in wide],
        "attn_resolutions": [side for side in levels if f"enc.{side}x{side}_block0.qkv.weight" in shapes],
    }


def _count(pattern: str, shapes: Shapes) -> int:
    """How many different numbers stand in the group of `pattern`."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def _occurs(mark: str, shapes: Mapping[str, Any]) -> bool:
    return any(mark in name for name in shapes)


SIGNATURES: dict[str, Signature] = {
    "unet": Signature(("encoder.0.0.weight", "upsample.0.weight"), (), _unet),
    "ddpm++": Signature(("map_layer0.weight", "_aux_conv.weight", ".qkv."), ("map_noise.freqs",), _song),
    "ddpm++-no-attention": Signature(("map_layer0.weight", "_aux_conv.weight"), ("map_noise.freqs", ".qkv."), _song),
    "ncsn++": Signature(("map_layer0.weight", "_aux_conv.weight", "map_noise.freqs"), (), _song),
    "adm": Signature(("map_layer0.weight", "out_conv.weight", "out_norm.weight"), (), _dhariwal),
    "dit": Signature(("x_embedder.proj.weight", "adaLN_modulation"), (), _dit),
    "u-vit": Signature(("patch_embed.proj.weight", "in_blocks.0.", "decoder_pred.weight"), (), _uvit),
}

PUBLISHED: tuple[Format, ...] = tuple(_format(name, signature) for name, signature in SIGNATURES.items())
