"""Files of k-diffusion: the U-Net ``image_v1`` with its configuration, in a training file or a slim ``.safetensors`` one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from scorescope.foundation import UserError
from scorescope.networks.readers.formats import CheckpointFile, Format, Given, Reading
from scorescope.networks.readers.use import said_use

_AROUND = "inner_model."


def _recognize(file: CheckpointFile) -> bool:
    names = {name.removeprefix(_AROUND) for name in file.tensors}
    return names >= {"timestep_embed.weight", "proj_in.weight", "u_net.d_blocks.0.1.main.2.weight"}


def _configuration(file: CheckpointFile) -> dict[str, Any]:
    """What the training script was told: JSON among the metadata, or an entry beside the weights."""
    found: Any = file.settings("config")
    if not found and "config" in file.metadata:
        try:
            found = from_json(file.metadata["config"])
        except ValueError as error:
            raise UserError(f"its configuration is not JSON ({error}): copy or download it again") from error
    return found if isinstance(found, dict) else {}


def _read(file: CheckpointFile, given: Given) -> Reading:
    tensors = {name.removeprefix(_AROUND): tensor for name, tensor in file.tensors.items()}
    settings = _configuration(file).get("model", {})
    settings = settings if isinstance(settings, dict) else {}
    kind = settings.get("type", "image_v1")
    if kind != "image_v1":
        raise UserError(f"its network is k-diffusion's {str(kind)[:40]}; of those image_v1 is supported")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    arguments = _arguments(shapes, settings, given)
    outright = said_use(given)
    if outright is None:
        usual = settings.get("sigma_data")
        if usual is None:
            usual = given.value("sigma_data", 0.5, "σ_data = 0.5")
        outright = "edm", {"sigma_data": given.take("sigma_data") or usual}
    size = settings.get("input_size")
    size = [size, size] if isinstance(size, int) else size
    sides = tuple(size) if isinstance(size, list) and len(size) == 2 else (0, 0)
    low, high = settings.get("sigma_min"), settings.get("sigma_max")
    known = isinstance(low, int | float) and isinstance(high, int | float) and 0 < low < high
    return Reading(
        "k-diffusion-unet",
        arguments | given.left,
        (arguments["input_channels"], *sides),
        *outright,
        tensors=tensors,
        read=("its configuration",) if settings else (),
        sigma_range=(float(low), float(high)) if known else None,  # type: ignore[arg-type]
    )


def _arguments(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any], given: Given) -> dict[str, Any]:
    levels = 1 + max(int(name.split(".")[2]) for name in shapes if name.startswith("u_net.d_blocks."))
    patch = settings.get("patch_size", 1)
    skipped = settings.get("skip_stages", 0)
    if not isinstance(patch, int) or not isinstance(skipped, int) or patch < 1:
        raise UserError("its patch_size and skip_stages are no whole numbers: copy or download it again")
    depths, widths, attending = [], [], []
    for level in range(levels):
        home = f"u_net.d_blocks.{level}."
        blocks = [name for name in shapes if name.startswith(home) and name.endswith(".main.2.weight")]
        depths.append(len(blocks))
        widths.append(shapes[blocks[0]][0])
        attending.append(any(name.startswith(home) and "qkv_proj" in name for name in shapes))
    entering = shapes["proj_in.weight"][1]
    return {
        "input_channels": entering // patch**2,
        "mapping_out": shapes["mapping.0.weight"][0],
        "depths": depths,
        "channels": widths,
        "self_attn_depths": attending,
        "patch_size": patch,
        "skip_stages": skipped,
        "mapping_cond_dim": shapes.get("mapping_cond.weight", (0, 0))[1],
        "has_variance": shapes["proj_out.weight"][0] == entering + 1,
    }


K_DIFFUSION = Format("k-diffusion", "crowsonkb/k-diffusion, image_v1", _recognize, _read)
