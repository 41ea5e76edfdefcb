"""The magnitude-preserving U-Net of EDM2 (Karras et al., CVPR 2024, https://arxiv.org/abs/2312.02696, configuration G).

Every layer keeps the expected magnitude of what goes through it: weights are used at unit norm a filter, sums and
concatenations are scaled back, SiLU is divided by its gain. There are no biases, no normalizations of groups, and gains are
learned in two places: of the noise level's influence on each block, and of the output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError
from scorescope.networks.labels import Classes, one_hot
from scorescope.networks.song_unet import check_sides

SILU_GAIN = 0.596
EPSILON = 1e-4


class EDM2UNet(nn.Module):
    """A U-Net told the noise level: (B, C, H, W), (B,) -> (B, C, H, W).

    Parameter names and arguments are the published ones.

    Args:
        img_resolution: side of the images; names the levels and says where attention goes.
        img_channels: C.
        label_dim: number of classes; 0 for none.
        model_channels: channels of the first level.
        channel_mult: channels of every level, in multiples of `model_channels`.
        channel_mult_noise: length of the first embedding of the noise level, likewise; None for the first level's channels.
        channel_mult_emb: length of the embedding, likewise; None for the largest level's channels.
        num_blocks: blocks a level.
        attn_resolutions: sides of the levels whose blocks attend.
        label_balance: share of the class in the embedding, 0 to 1.
        concat_balance: share of the encoder in what the decoder's blocks are handed.
        channels_per_head: of attention.
        dropout: share of the features set to zero in training.
        res_balance: share of a block's branch in its sum with its input.
        attn_balance: share of attention likewise.
        clip_act: activations are clipped to this magnitude; None for not at all.

    Raises:
        UserError: heads that do not divide the channels of a level that attends.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256.0,
    ) -> None:
        super().__init__()
        self.classes = Classes(label_dim, optional=label_dim == 0)
        self.label_balance, self.concat_balance = label_balance, concat_balance
        self.halvings = len(channel_mult) - 1
        widths = [model_channels * mult for mult in channel_mult]
        noise = widths[0] if channel_mult_noise is None else model_channels * channel_mult_noise
        embedding = max(widths) if channel_mult_emb is None else model_channels * channel_mult_emb
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier = CosineFeatures(noise)
        self.emb_noise = UnitConv(noise, embedding)
        self.emb_label = UnitConv(label_dim, embedding) if label_dim else None

        def block(inputs: int, outputs: int, flavor: Literal["enc", "dec"], mode: str = "keep", side: int = 0) -> Block:
            attends = side in attn_resolutions or side < 0
            if attends and outputs % channels_per_head:
                raise UserError(f"heads of {channels_per_head} channels do not divide {outputs} channels")
            heads = outputs // channels_per_head if attends else 0
            return Block(inputs, outputs, embedding, flavor, mode, heads, dropout, res_balance, attn_balance, clip_act)

        self.enc, skips, channels = nn.ModuleDict(), [], img_channels + 1
        for level, width in enumerate(widths):
            side = img_resolution >> level
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = UnitConv(channels, width, 3)
                channels = width
            else:
                self.enc[f"{side}x{side}_down"] = block(channels, channels, "enc", "down")
            skips.append(channels)
            for index in range(num_blocks):
                self.enc[f"{side}x{side}_block{index}"] = block(channels, width, "enc", side=side)
                channels = width
                skips.append(channels)
        self.dec = nn.ModuleDict()
        for level, width in reversed(list(enumerate(widths))):
            side = img_resolution >> level
            if level == self.halvings:
                self.dec[f"{side}x{side}_in0"] = block(channels, channels, "dec", side=-1)
                self.dec[f"{side}x{side}_in1"] = block(channels, channels, "dec")
            else:
                self.dec[f"{side}x{side}_up"] = block(channels, channels, "dec", "up")
            for index in range(num_blocks + 1):
                self.dec[f"{side}x{side}_block{index}"] = block(channels + skips.pop(), width, "dec", side=side)
                channels = width
        self.out_conv = UnitConv(channels, img_channels, 3)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images and noise levels to the network's output.

        Args:
            x: (B, C, H, W).
            noise_labels: (B,), in the unit of the preconditioning.
            class_labels: integers (B,), −1 for no class; or weights of the classes (B, label_dim); None for no class.

        Returns:
            (B, C, H, W).

        Raises:
            UserError: sides that cannot be halved as often as there are levels.
        """
        check_sides(x, self.halvings)
        embedding: Tensor = self.emb_noise(self.emb_fourier(noise_labels).to(x.dtype))
        if self.emb_label is not None:
            count = self.classes.count
            labels = one_hot(class_labels, count, len(x), x.device).to(x.dtype)
            embedding = _sum(embedding, self.emb_label(labels * math.sqrt(count)), self.label_balance)
        embedding = _silu(embedding)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        skips = []
        for layer in self.enc.values():
            x = layer(x, embedding) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for name, layer in self.dec.items():
            x = layer(_cat(x, skips.pop(), self.concat_balance) if "_block" in name else x, embedding)
        output: Tensor = self.out_conv(x, self.out_gain)
        return output


class CosineFeatures(nn.Module):
    """A number as cosines of random frequencies and phases, of unit magnitude: (B,) -> (B, channels)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(channels))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels))

    def forward(self, values: Tensor) -> Tensor:
        """(B,) -> (B, channels)."""
        angles = torch.outer(values, self.freqs.to(values.dtype)) + self.phases.to(values.dtype)
        return angles.cos() * math.sqrt(2)


class UnitConv(nn.Module):
    """A convolution, or a linear map for no kernel, whose filters are used at unit norm; no bias.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: side of the kernel; 0 for a linear map.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *[kernel] * (2 if kernel else 0)))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """(B, inputs, …) -> (B, outputs, …), times `gain`."""
        if self.training:
            with torch.no_grad():
                self.weight.copy_(_normalized(self.weight, tuple(range(1, self.weight.ndim))))
        unit = _normalized(self.weight, tuple(range(1, self.weight.ndim)))
        weight = (unit * (gain / math.sqrt(unit[0].numel()))).to(x.dtype)
        if weight.ndim == 2:
            return x @ weight.T
        return functional.conv2d(x, weight, padding=weight.shape[-1] // 2)


class Block(nn.Module):
    """Two convolutions, scaled by the embedding between them, summed with the input; then attention where wanted.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        embedding: length of the noise level's embedding.
        flavor: ``enc``: the input is brought to its width and to unit norm a pixel first; ``dec``: its width last.
        mode: ``keep``, ``down`` or ``up``.
        heads: of attention; 0 for none.
        dropout: share of the features set to zero in training.
        res_balance: share of the convolutions in the sum.
        attn_balance: share of attention.
        clip_act: largest magnitude of an activation; None for any.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        flavor: Literal["enc", "dec"],
        mode: str,
        heads: int,
        dropout: float,
        res_balance: float,
        attn_balance: float,
        clip_act: float | None,
    ) -> None:
        super().__init__()
        self.encodes, self.mode, self.heads, self.dropout = flavor == "enc", mode, heads, dropout
        self.res_balance, self.attn_balance, self.clip_act = res_balance, attn_balance, clip_act
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = UnitConv(outputs if self.encodes else inputs, outputs, 3)
        self.emb_linear = UnitConv(embedding, outputs)
        self.conv_res1 = UnitConv(outputs, outputs, 3)
        self.conv_skip = UnitConv(inputs, outputs, 1) if inputs != outputs else None
        self.attn_qkv = UnitConv(outputs, 3 * outputs, 1) if heads else None
        self.attn_proj = UnitConv(outputs, outputs, 1) if heads else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, inputs, H, W), (B, embedding) -> (B, outputs, H, W), sides doubled or halved."""
        if self.mode == "down":
            x = functional.avg_pool2d(x, 2)
        elif self.mode == "up":
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        if self.encodes:
            if self.conv_skip is not None:
                x = self.conv_skip(x)
            x = _normalized(x, (1,))
        inner = self.conv_res0(_silu(x))
        scale = self.emb_linear(embedding, self.emb_gain) + 1
        inner = functional.dropout(_silu(inner * scale[:, :, None, None]), self.dropout, self.training)
        inner = self.conv_res1(inner)
        if not self.encodes and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = _sum(x, inner, self.res_balance)
        if self.attn_qkv is not None and self.attn_proj is not None:
            x = _sum(x, self.attn_proj(self._attend(self.attn_qkv(x))), self.attn_balance)
        return x if self.clip_act is None else x.clamp(-self.clip_act, self.clip_act)

    def _attend(self, qkv: Tensor) -> Tensor:
        batch, channels, height, width = qkv.shape
        parts = qkv.reshape(batch, self.heads, channels // (3 * self.heads), 3, height * width)  # (B, h, c, 3, HW)
        query, key, value = _normalized(parts, (2,)).unbind(3)
        weights = (query.transpose(2, 3) @ (key / math.sqrt(key.shape[2]))).softmax(dim=3)  # (B, h, HW, HW)
        attended: Tensor = value @ weights.transpose(2, 3)  # (B, h, c, HW)
        return attended.reshape(batch, channels // 3, height, width)


def _normalized(x: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    """x at root mean square 1 over these dimensions."""
    count = math.prod(x.shape[dimension] for dimension in dimensions)
    norm: Tensor = torch.linalg.vector_norm(x, dim=dimensions, keepdim=True) / math.sqrt(count)
    return x / (norm + EPSILON)


def _silu(x: Tensor) -> Tensor:
    return functional.silu(x) / SILU_GAIN


def _sum(a: Tensor, b: Tensor, share: float) -> Tensor:
    return a.lerp(b, share) / math.sqrt((1 - share) ** 2 + share**2)


def _cat(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Channels of both, each so scaled that it contributes by its share, not by its width."""
    both = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - share) ** 2 + share**2))
    return torch.cat(
        [a * (both * (1 - share) / math.sqrt(a.shape[1])), b * (both * share / math.sqrt(b.shape[1]))], dim=1
    )
