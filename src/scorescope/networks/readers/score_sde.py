"""Files of score_sde_pytorch (Song et al., ICLR 2021): DDPM++ and NCSN++ as a numbered list of modules, by their order.

Their network is our `SongUNet` under other names, and its names say nothing but numbers: what each module is, is told by
its parts, and where it belongs by the order in which their constructor makes them. Averages are a list without names.

What no file says: the SDE (VE for Fourier features of the noise level, VP for its position, in all published ones), β of the
VP SDE, whether resampling is filtered (as that goes, too), and the images' size. That sums are divided by √2 and, for
VE, images are on [0, 1] and the output is divided by σ, is so in all of their continuous configurations; the network's
first line moves its images to [−1, 1] again, so that this is EDM's VE preconditioning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.foundation import UserError
from scorescope.foundation.inert.stored_tensor import StoredTensor
from scorescope.networks.readers.formats import CheckpointFile, Format, Given, Reading
from scorescope.networks.readers.use import said_use

SDES = ("ve", "vp", "sub-vp")
_BLOCK = {
    "GroupNorm_0": "norm0",
    "Conv_0": "conv0",
    "Dense_0": "affine",
    "GroupNorm_1": "norm1",
    "Conv_1": "conv1",
    "Conv_2": "skip",
}
_UNKNOWN = (
    "of score_sde's networks those with BigGAN blocks and at most a residual pyramid of inputs are supported (ddpmpp,"
    " ncsnpp), with configurations for continuous time"
)


def _recognize(file: CheckpointFile) -> bool:
    return "all_modules.0.W" in file.tensors or file.has("all_modules.0.weight", "all_modules.1.weight")


@dataclass(frozen=True)
class _Part:
    """One module of the list: its tensors by their names within it."""

    number: int
    tensors: Mapping[str, StoredTensor]

    @property
    def kind(self) -> str:
        names = {name.partition(".")[0] for name in self.tensors}
        if names >= {"GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1"}:
            return "block"
        if names == {"GroupNorm_0", "NIN_0", "NIN_1", "NIN_2", "NIN_3"}:
            return "attention"
        if names == {"Conv2d_0"}:
            return "pyramid"
        if names == {"W"}:
            return "fourier"
        if names == {"weight", "bias"}:
            return {1: "norm", 2: "linear", 4: "convolution"}.get(len(self.tensors["weight"].shape), "unknown")
        return "unknown"

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of a block's input and output."""
        outputs, inputs = self.tensors["Conv_0.weight"].shape[:2]
        return inputs, outputs

    @property
    def resamples(self) -> bool:
        """Whether a block changes the resolution: only then does one that keeps its width have a convolution beside it."""
        inputs, outputs = self.widths
        return inputs == outputs and "Conv_2.weight" in self.tensors


class _Walk:
    """The list of modules from its beginning on, each taken once and put under its name in `SongUNet`."""

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        found: dict[int, dict[str, StoredTensor]] = {}
        for name, tensor in tensors.items():
            match = re.fullmatch(r"all_modules\.(\d{1,4})\.(.+)", name)
            if match is not None:
                found.setdefault(int(match[1]), {})[match[2]] = tensor
        self.parts = [_Part(number, found[number]) for number in sorted(found)]
        self.tensors: dict[str, StoredTensor] = {}

    @property
    def next_kind(self) -> str:
        return self.parts[0].kind if self.parts else "nothing"

    def take(self, kind: str) -> _Part:
        if self.next_kind != kind:
            number = self.parts[0].number if self.parts else "the end"
            raise UserError(f"its module {number} is {self.next_kind} where {kind} was expected; {_UNKNOWN}")
        return self.parts.pop(0)

    def put(self, part: _Part, home: str, names: Mapping[str, str] | None = None) -> None:
        for name, tensor in part.tensors.items():
            first, _, rest = name.partition(".")
            self.tensors[f"{home}.{names[first]}.{rest}" if names is not None else f"{home}.{name}"] = tensor

    def block(self, home: str, *, attention: bool) -> _Part:
        """A block, and attention after it where there is some and it may be there."""
        part = self.take("block")
        self.put(part, home, _BLOCK)
        if attention and self.next_kind == "attention":
            _put_attention(self.take("attention"), home, self.tensors)
        return part

    def resampling(self, home: str, taps: tuple[float, ...]) -> None:
        part = self.take("block")
        if not part.resamples:
            raise UserError(
                f"its module {part.number} does not change the resolution where that was expected; {_UNKNOWN}"
            )
        self.put(part, home, _BLOCK)
        for name in ("conv0", "skip"):
            self.tensors[f"{home}.{name}.resample_filter"] = _filter(taps)


def _read(file: CheckpointFile, given: Given) -> Reading:
    walk = _Walk(file.tensors)
    blocks = [part for part in walk.parts if part.kind == "block"]
    changes = sum(part.resamples for part in blocks)
    levels = changes // 2 + 1
    count, left = divmod(len(blocks) - 2 - changes - levels, 2 * levels)
    if changes % 2 or left or count < 1:
        raise UserError(f"its {len(blocks)} blocks make no U-Net of {levels} levels; {_UNKNOWN}")
    if given.sides is None:
        raise UserError("its network takes images of any size: say which with --arch-arg image_size=N")
    side = given.sides[0]
    fourier = walk.next_kind == "fourier"
    taps = _taps(given, fourier)

    if fourier:
        walk.tensors["map_noise.freqs"] = walk.take("fourier").tensors["W"]
    for layer in ("map_layer0", "map_layer1"):
        walk.put(walk.take("linear"), layer)
    first = walk.take("convolution")
    base, channels = first.tensors["weight"].shape[:2]
    walk.put(first, f"enc.{side}x{side}_conv")
    widths, attending, pyramid = [], [], False
    for level in range(levels):
        at = f"{side >> level}x{side >> level}"
        if level:
            walk.resampling(f"enc.{at}_down", taps)
            if walk.next_kind == "pyramid":
                pyramid = True
                part = walk.take("pyramid")
                walk.put(part, f"enc.{at}_aux_residual", {"Conv2d_0": ""})
                walk.tensors[f"enc.{at}_aux_residual.resample_filter"] = _filter(taps)
        for index in range(count):
            width = walk.block(f"enc.{at}_block{index}", attention=True).widths[1]
        widths.append(width)
        if f"enc.{at}_block0.qkv.weight" in walk.tensors:
            attending.append(side >> level)
    walk.tensors = {name.replace("..", "."): tensor for name, tensor in walk.tensors.items()}
    for level in reversed(range(levels)):
        at = f"{side >> level}x{side >> level}"
        if level == levels - 1:
            walk.block(f"dec.{at}_in0", attention=True)
            walk.block(f"dec.{at}_in1", attention=False)
        else:
            walk.resampling(f"dec.{at}_up", taps)
        for index in range(count + 1):
            walk.block(f"dec.{at}_block{index}", attention=index == count)
    for kind, name in (("norm", "aux_norm"), ("convolution", "aux_conv")):
        walk.put(walk.take(kind), f"dec.{side}x{side}_{name}")
    if walk.parts:
        raise UserError(f"it has {len(walk.parts)} modules more than its U-Net; {_UNKNOWN}")

    embedding, noise = walk.tensors["map_layer0.weight"].shape
    arguments = {
        "img_resolution": side,
        "in_channels": channels,
        "out_channels": channels,
        "model_channels": base,
        "channel_mult": [width // base for width in widths],
        "channel_mult_emb": embedding // base,
        "channel_mult_noise": noise // base,
        "num_blocks": count,
        "attn_resolutions": attending,
        "embedding_type": "fourier" if fourier else "positional",
        "encoder_type": "residual" if pyramid else "standard",
        "resample_filter": list(taps),
    }
    name, its, sigma_range = _use(file, given, fourier)
    architecture = "ncsn++" if fourier else "ddpm++"
    return Reading(
        architecture,
        arguments | given.left,
        (channels, 0, 0),
        name,
        its,
        tensors=walk.tensors,
        sigma_range=sigma_range,
    )


def _taps(given: Given, fourier: bool) -> tuple[float, ...]:
    said = "resampling filtered by [1, 3, 3, 1]" if fourier else "resampling without a filter"
    filtered = given.value("fir", fourier, said, [{"fir": not fourier}])
    if not isinstance(filtered, bool):
        raise UserError(f"fir is {filtered!r}: give true or false")
    return (1, 3, 3, 1) if filtered else (1, 1)


def _use(file: CheckpointFile, given: Given, fourier: bool) -> tuple[str, dict[str, Any], tuple[float, float] | None]:
    """Preconditioning, its arguments, and the range of σ if the file says it."""
    outright = said_use(given)
    if outright is not None:
        return *outright, None
    start, end = given.take("beta_min"), given.take("beta_max")
    usual = "ve" if fourier else "vp"
    otherwise = () if fourier else ({"sde": "sub-vp"}, {"preconditioning": "epsilon"})
    words = "the VE SDE" if fourier else "the VP SDE with β from 0.1 to 20"
    sde = given.value("sde", usual, words, otherwise)
    if sde not in SDES:
        raise UserError(f"sde is {sde!r}: give one of {', '.join(SDES)}")
    if sde == "ve":
        return "ve", {}, _recorded_range(file)
    low, high = (0.1 if start is None else start), (20.0 if end is None else end)
    return sde, {"beta_min": low, "beta_d": high - low}, None


def _recorded_range(file: CheckpointFile) -> tuple[float, float] | None:
    """Twice the ends of the table of σ that stands in every file, whose images are on [0, 1]."""
    if "sigmas" not in file.tensors:
        return None
    table = file.tensors["sigmas"].read().double()
    low, high = 2 * float(table.min()), 2 * float(table.max())
    return (low, high) if 0 < low < high < math.inf else None


def _filter(taps: tuple[float, ...]) -> StoredTensor:
    """The low-pass filter that a resampling layer of ours keeps beside its weights."""
    line = torch.tensor(taps, dtype=torch.float32)
    return _made((1, 1, len(taps), len(taps)), lambda: torch.outer(line, line)[None, None] / line.sum() ** 2)


def _put_attention(part: _Part, home: str, tensors: dict[str, StoredTensor]) -> None:
    """Their three matrices for queries, keys and values as one, row by row in turn, and the fourth transposed."""
    width = part.tensors["NIN_0.W"].shape[0]
    for kind in ("weight", "bias"):
        tensors[f"{home}.norm2.{kind}"] = part.tensors[f"GroupNorm_0.{kind}"]
    three = [part.tensors[f"NIN_{n}.W"] for n in range(3)]
    biases = [part.tensors[f"NIN_{n}.b"] for n in range(3)]
    last = part.tensors["NIN_3.W"]

    def weights() -> Tensor:
        return torch.stack([one.read().T for one in three], dim=1).reshape(3 * width, width, 1, 1)

    tensors[f"{home}.qkv.weight"] = _made((3 * width, width, 1, 1), weights)
    tensors[f"{home}.qkv.bias"] = _made(
        (3 * width,), lambda: torch.stack([one.read() for one in biases], dim=1).reshape(-1)
    )
    tensors[f"{home}.proj.weight"] = _made((width, width, 1, 1), lambda: last.read().T.reshape(width, width, 1, 1))
    tensors[f"{home}.proj.bias"] = part.tensors["NIN_3.b"]


def _made(shape: tuple[int, ...], read: Any) -> StoredTensor:
    return StoredTensor(shape, torch.float32, read)


SCORE_SDE = Format("score-sde", "yang-song/score_sde_pytorch", _recognize, _read)
