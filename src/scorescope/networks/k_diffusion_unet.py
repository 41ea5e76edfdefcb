"""The U-Net ``image_v1`` of k-diffusion (Crowson, https://github.com/crowsonkb/k-diffusion): GELU, noise level in every norm.

A random Fourier embedding of the noise level goes through two linear maps, and scales and shifts after every group
normalization (Dhariwal & Nichol 2021, AdaGN). Images may enter as patches of pixels; resampling is bilinear, with
reflected borders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError

GROUP, HEAD = 32, 64
_BILINEAR = (1 / 8, 3 / 8, 3 / 8, 1 / 8)


class KDiffusionUNet(nn.Module):
    """A U-Net told the noise level: (B, C, H, W), (B,) -> (B, C, H, W).

    Parameter names are the published ones.

    Args:
        input_channels: C.
        mapping_out: length of the noise level's embedding, even.
        depths: blocks of every level.
        channels: channels of every level.
        self_attn_depths: whether the blocks of every level attend.
        patch_size: side of the patches of pixels that enter together.
        skip_stages: levels at the beginning that are left out.
        mapping_cond_dim: length of the vector that told the network in training how an image was augmented; zero here.
        has_variance: whether one more channel is predicted, which is not used here.

    Raises:
        UserError: lists of different lengths.
    """

    def __init__(
        self,
        input_channels: int,
        mapping_out: int,
        depths: Sequence[int],
        channels: Sequence[int],
        self_attn_depths: Sequence[bool],
        patch_size: int = 1,
        skip_stages: int = 0,
        mapping_cond_dim: int = 0,
        has_variance: bool = False,
    ) -> None:
        super().__init__()
        if not len(depths) == len(channels) == len(self_attn_depths) or not 0 <= skip_stages < len(depths):
            raise UserError(
                f"depths, channels and self_attn_depths have one value a level, found {len(depths)}, {len(channels)} and"
                f" {len(self_attn_depths)}, of which {skip_stages} are skipped"
            )
        self.patch_size, self.skip_stages = patch_size, skip_stages
        self.halvings = len(depths) - 1 - skip_stages
        self.values = input_channels * patch_size**2
        first = channels[max(0, skip_stages - 1)]
        self.timestep_embed = FourierFeatures(mapping_out)
        if mapping_cond_dim:
            self.mapping_cond = nn.Linear(mapping_cond_dim, mapping_out, bias=False)
        self.mapping = nn.Sequential(
            nn.Linear(mapping_out, mapping_out), nn.GELU(), nn.Linear(mapping_out, mapping_out), nn.GELU()
        )
        self.proj_in = nn.Conv2d(self.values, first, 1)
        self.proj_out = nn.Conv2d(first, self.values + int(has_variance), 1)
        downs, ups = [], []
        for level, (depth, width, attention) in enumerate(zip(depths, channels, self_attn_depths, strict=True)):
            above = channels[max(0, level - 1)]
            resampled = level > skip_stages
            layers = _layers(depth, mapping_out, above, width, width, attention)
            downs.append(nn.ModuleList([Downsample() if resampled else nn.Identity(), *layers]))
            entering = width if level == len(depths) - 1 else 2 * width
            layers = _layers(depth, mapping_out, entering, width, above, attention)
            ups.append(nn.ModuleList([*layers, Upsample() if resampled else nn.Identity()]))
        self.u_net = nn.ModuleDict({"d_blocks": nn.ModuleList(downs), "u_blocks": nn.ModuleList(ups[::-1])})

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images and noise levels to the network's output.

        Args:
            x: (B, C, H, W).
            noise_labels: (B,), ``ln(σ)/4``.
            class_labels: not used.

        Returns:
            (B, C, H, W).

        Raises:
            UserError: sides that do not divide into patches, or cannot be halved as often as there are levels.
        """
        least = self.patch_size * 2**self.halvings
        if x.shape[-1] % least or x.shape[-2] % least:
            raise UserError(f"this network takes sides divisible by {least}, found {tuple(x.shape[-2:])}")
        condition = self.mapping(self.timestep_embed(noise_labels).to(x.dtype))
        x = self.proj_in(functional.pixel_unshuffle(x, self.patch_size))
        skips: list[Tensor] = []
        for block in list(self.u_net["d_blocks"])[self.skip_stages :]:  # type: ignore[call-overload]
            for layer in block:
                x = _called(layer, x, condition)
            skips.append(x)
        deepest = len(skips)
        for block in list(self.u_net["u_blocks"])[:deepest]:  # type: ignore[call-overload]
            skip = skips.pop()
            x = x if len(skips) == deepest - 1 else torch.cat([x, skip], dim=1)
            for layer in block:
                x = _called(layer, x, condition)
        return functional.pixel_shuffle(self.proj_out(x)[:, : self.values], self.patch_size)


def _called(layer: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    result: Tensor = layer(x, condition) if isinstance(layer, ResidualBlock | SelfAttention) else layer(x)
    return result


def _layers(depth: int, embedding: int, inputs: int, width: int, outputs: int, attention: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for index in range(depth):
        entering, leaving = inputs if index == 0 else width, width if index < depth - 1 else outputs
        layers.append(ResidualBlock(embedding, entering, width, leaving))
        if attention:
            layers.append(SelfAttention(embedding, leaving))
    return layers


class FourierFeatures(nn.Module):
    """A number as cosines and sines of random frequencies: (B,) -> (B, channels)."""

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(channels // 2, 1))

    def forward(self, values: Tensor) -> Tensor:
        """(B,) -> (B, channels), cosines first."""
        angles = 2 * math.pi * torch.outer(values, self.weight[:, 0].to(values.dtype))
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class ConditionedNorm(nn.Module):
    """Group normalization, scaled and shifted by the condition: (B, C, H, W), (B, embedding) -> (B, C, H, W)."""

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.groups = max(1, channels // GROUP)
        self.mapper = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """See the class."""
        scale, shift = self.mapper(condition)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, functional.group_norm(x, self.groups, eps=1e-5), scale + 1)


class ResidualBlock(nn.Module):
    """Norm, GELU, convolution, twice, and a shortcut: (B, inputs, H, W), (B, embedding) -> (B, outputs, H, W)."""

    def __init__(self, embedding: int, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        layers = {
            "0": ConditionedNorm(embedding, inputs),
            "2": nn.Conv2d(inputs, width, 3, padding=1),
            "4": ConditionedNorm(embedding, width),
            "6": nn.Conv2d(width, outputs, 3, padding=1),
        }
        self.main = nn.ModuleDict(layers)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """See the class."""
        inner = self.main["2"](functional.gelu(self.main["0"](x, condition)))
        inner = self.main["6"](functional.gelu(self.main["4"](inner, condition)))
        added: Tensor = inner + self.skip(x)
        return added


class SelfAttention(nn.Module):
    """Pixels attend to each other, in heads of 64 channels: (B, C, H, W), (B, embedding) -> (B, C, H, W)."""

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.norm_in = ConditionedNorm(embedding, channels)
        self.qkv_proj = nn.Conv2d(channels, 3 * channels, 1)
        self.out_proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """See the class."""
        batch, channels, height, width = x.shape
        qkv = self.qkv_proj(self.norm_in(x, condition))
        query, key, value = qkv.reshape(batch, 3, self.heads, channels // self.heads, height * width).unbind(1)
        logits = query.transpose(2, 3) @ key / math.sqrt(key.shape[2])  # (B, h, HW, HW)
        attended = value @ logits.softmax(dim=3).transpose(2, 3)  # (B, h, c, HW)
        added: Tensor = x + self.out_proj(attended.reshape(batch, channels, height, width))
        return added


class Downsample(nn.Module):
    """Half the sides, bilinearly, borders reflected: (B, C, H, W) -> (B, C, H/2, W/2)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", _kernel(1.0))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, _each(self.kernel, x), stride=2, groups=x.shape[1])


class Upsample(nn.Module):
    """Twice the sides, bilinearly, borders reflected: (B, C, H, W) -> (B, C, 2H, 2W)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", _kernel(2.0))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv_transpose2d(padded, _each(self.kernel, x), stride=2, padding=3, groups=x.shape[1])


def _kernel(gain: float) -> Tensor:
    taps = gain * torch.tensor(_BILINEAR)
    return torch.outer(taps, taps)


def _each(kernel: Tensor, x: Tensor) -> Tensor:
    """The kernel for every channel alone, (C, 1, 4, 4)."""
    return kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
