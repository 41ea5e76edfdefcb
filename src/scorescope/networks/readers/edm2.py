"""Training states of EDM2 (Karras et al., CVPR 2024): weights under names, two averages, and the loss's settings.

Its snapshots are pickles that record all of the network's arguments, see `edm_pickle`. A training state records none of
them: what leaves no trace in shapes is assumed.
"""

from __future__ import annotations

import math
import re
from typing import Any

from scorescope.foundation import UserError
from scorescope.networks.readers.formats import IN_A_STUDY, CheckpointFile, Format, Given, Reading, Shapes
from scorescope.networks.readers.use import said_use

USUAL_HEAD = 64
_BALANCES = ("label_balance", "concat_balance", "res_balance", "attn_balance", "clip_act")


def _recognize(file: CheckpointFile) -> bool:
    names = {name.removeprefix("unet.") for name in file.tensors}
    return names >= {"emb_fourier.freqs", "emb_noise.weight", "out_gain", "out_conv.weight"}


def _read(file: CheckpointFile, given: Given) -> Reading:
    tensors = {
        name.removeprefix("unet."): tensor for name, tensor in file.tensors.items() if not name.startswith("logvar_")
    }
    arguments = _arguments({name: tensor.shape for name, tensor in tensors.items()}, given)
    outright = said_use(given)
    if outright is None:
        recorded = file.settings("loss_fn").get("sigma_data")
        said = given.take("sigma_data")
        if said is None and not isinstance(recorded, int | float):
            said = given.value("sigma_data", 0.5, "σ_data = 0.5")
        outright = "edm", {"sigma_data": recorded if said is None else said}
    channels, side = arguments["img_channels"], arguments["img_resolution"]
    return Reading("edm2", arguments | given.left, (channels, side, side), *outright, tensors=tensors)


def _arguments(shapes: Shapes, given: Given) -> dict[str, Any]:
    sides = sorted({int(match[1]) for name in shapes if (match := re.match(r"enc\.(\d{1,4})x\1_", name))}, reverse=True)
    if not sides:
        raise KeyError("enc.*")
    widths = [shapes[f"enc.{side}x{side}_block0.conv_res1.weight"][0] for side in sides]
    embedding, noise = shapes["emb_noise.weight"]
    unit = math.gcd(embedding, noise, *widths)
    attending = [side for side in sides if f"enc.{side}x{side}_block0.attn_qkv.weight" in shapes]
    within = [width for side, width in zip(sides, widths, strict=True) if side in attending] + widths[-1:]
    head = given.take("channels_per_head")
    if head is None:
        if any(width % USUAL_HEAD for width in within):
            raise UserError(
                f"the width of attention heads leaves no trace in a training state, and the usual {USUAL_HEAD} does not divide"
                f" {', '.join(map(str, within))} channels: say --arch-arg channels_per_head=N {IN_A_STUDY}"
            )
        head = given.value("channels_per_head", USUAL_HEAD, f"heads of {USUAL_HEAD} channels")
    if not any(name in given.left for name in _BALANCES):
        given.assume("the usual balances and clipping")
    return {
        "img_resolution": sides[0],
        "img_channels": shapes["out_conv.weight"][0],
        "label_dim": shapes.get("emb_label.weight", (0, 0))[1],
        "model_channels": unit,
        "channel_mult": [width // unit for width in widths],
        "channel_mult_noise": noise // unit,
        "channel_mult_emb": embedding // unit,
        "num_blocks": len(
            [name for name in shapes if re.match(rf"enc\.{sides[0]}x{sides[0]}_block\d+\.emb_gain", name)]
        ),
        "attn_resolutions": attending,
        "channels_per_head": head,
    }


EDM2 = Format("edm2", "NVlabs/edm2, training state", _recognize, _read)
