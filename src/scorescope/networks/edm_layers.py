"""The layers that DDPM++, NCSN++ and ADM share, under the parameter names of EDM's published networks.

All three are U-Nets of one block: normalize, convolve (and resample), add or multiply in the embedding of the noise level,
normalize, convolve, add the block's input, and attend (Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364,
appendix F; Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456; Dhariwal & Nichol, NeurIPS 2021,
https://arxiv.org/abs/2105.05233). They differ in how weights start, how the embedding enters and how images are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Mode = Literal["xavier_uniform", "kaiming_uniform", "kaiming_normal"]


@dataclass(frozen=True)
class Start:
    """How weights start: random of unit gain by `mode`, times `weight`; biases likewise, times `bias`."""

    mode: Mode = "kaiming_normal"
    weight: float = 1.0
    bias: float = 0.0

    def draw(self, shape: Sequence[int], fan_in: int, fan_out: int, gain: float) -> nn.Parameter:
        """A parameter of that shape."""
        if self.mode == "xavier_uniform":
            return nn.Parameter(gain * math.sqrt(6 / (fan_in + fan_out)) * (2 * torch.rand(*shape) - 1))
        if self.mode == "kaiming_uniform":
            return nn.Parameter(gain * math.sqrt(3 / fan_in) * (2 * torch.rand(*shape) - 1))
        return nn.Parameter(gain * math.sqrt(1 / fan_in) * torch.randn(*shape))


class Linear(nn.Module):
    """``x Wᵀ + b``, (…, in_features) -> (…, out_features)."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, start: Start) -> None:
        super().__init__()
        self.in_features = in_features
        self.weight = start.draw((out_features, in_features), in_features, out_features, start.weight)
        self.bias = start.draw((out_features,), in_features, out_features, start.bias) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) -> (…, out_features)."""
        return functional.linear(x, self.weight, self.bias)


class Conv2d(nn.Module):
    """A convolution that may first double or halve the image with a separable low-pass filter.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel, odd; 0 for resampling alone.
        up: double the sides.
        down: halve the sides.
        resample_filter: one dimension of the low-pass filter, of even length; [1, 1] averages pixels, or repeats them.
        filter_last: filter after the convolution instead of before; for `down` only.
        start: how weights start.
    """

    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        up: bool = False,
        down: bool = False,
        resample_filter: Sequence[float] = (1, 1),
        filter_last: bool = False,
        start: Start | None = None,
    ) -> None:
        super().__init__()
        self.up, self.down, self.filter_last = up, down, filter_last
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if kernel:
            start = start or Start()
            fans = in_channels * kernel**2, out_channels * kernel**2
            self.weight = start.draw((out_channels, in_channels, kernel, kernel), *fans, start.weight)
            self.bias = start.draw((out_channels,), *fans, start.bias)
        taps = torch.as_tensor(resample_filter, dtype=torch.float32)
        kernel_2d = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
        self.register_buffer("resample_filter", kernel_2d if up or down else None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W), sides doubled or halved."""
        margin = 0 if self.weight is None else self.weight.shape[-1] // 2
        if self.filter_last and self.resample_filter is not None and self.weight is not None:
            # the filter's margin is added before the convolution, so that borders come out as published
            reach = (self.resample_filter.shape[-1] - 1) // 2
            x = functional.conv2d(x, self.weight, padding=margin + reach)
            x = _halve(x, self.resample_filter, padding=0)
            return x if self.bias is None else x + self.bias.reshape(1, -1, 1, 1)
        if self.resample_filter is not None:
            resample = _double if self.up else _halve
            x = resample(x, self.resample_filter, (self.resample_filter.shape[-1] - 1) // 2)
        return x if self.weight is None else functional.conv2d(x, self.weight, self.bias, padding=margin)


def _halve(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    return functional.conv2d(
        x, kernel.to(x.dtype).expand(channels, -1, -1, -1), stride=2, padding=padding, groups=channels
    )


def _double(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    spread = (4 * kernel).to(x.dtype).expand(channels, -1, -1, -1)
    return functional.conv_transpose2d(x, spread, stride=2, padding=padding, groups=channels)


class GroupNorm(nn.Module):
    """Group normalization in at most 32 groups of at least 4 channels."""

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.groups = min(32, channels // 4)
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return functional.group_norm(x, self.groups, self.weight, self.bias, self.epsilon)


class PositionalEmbedding(nn.Module):
    """A number as cosines and sines of geometrically spaced frequencies, 1 down to 1/10,000 (Vaswani et al. 2017).

    Args:
        channels: length of the embedding, even.
        endpoint: whether the lowest frequency itself is reached.
    """

    def __init__(self, channels: int, *, endpoint: bool = False) -> None:
        super().__init__()
        self.count = channels // 2
        self.intervals = max(self.count - 1, 1) if endpoint else self.count

    def forward(self, values: Tensor) -> Tensor:
        """(B,) -> (B, channels), cosines first."""
        order = torch.arange(self.count, dtype=values.dtype, device=values.device)
        angles = torch.outer(values, torch.exp(order * (-math.log(10_000) / self.intervals)))
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class FourierEmbedding(nn.Module):
    """A number as cosines and sines of random frequencies, ``N(0, scale²)`` turns a unit (Song et al. 2021)."""

    freqs: Tensor

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.randn(channels // 2) * scale)

    def forward(self, values: Tensor) -> Tensor:
        """(B,) -> (B, channels), cosines first."""
        angles = torch.outer(values, 2 * math.pi * self.freqs.to(values.dtype))
        return torch.cat([angles.cos(), angles.sin()], dim=1)


@dataclass(frozen=True)
class BlockStyle:
    """What the blocks of one network have in common.

    Attributes:
        emb_channels: length of the embedding of the noise level.
        heads: attention heads; None for one for every 64 channels, so that fewer channels have no attention.
        dropout: share of the features set to zero in training.
        skip_scale: factor on every sum of a branch and its input.
        epsilon: of the normalizations.
        resample_filter: see `Conv2d`.
        resample_proj: whether a resampled shortcut always has a 1×1 convolution.
        adaptive_scale: whether the embedding scales and shifts after the second normalization, or is added before it.
        start: of most weights.
        start_zero: of the last weights of every branch.
        start_attention: of the projections to queries, keys and values.
    """

    emb_channels: int
    heads: int | None
    dropout: float
    skip_scale: float
    epsilon: float
    resample_filter: Sequence[float]
    resample_proj: bool
    adaptive_scale: bool
    start: Start
    start_zero: Start
    start_attention: Start


class UNetBlock(nn.Module):
    """Two convolutions, the embedding of the noise level between them, a shortcut, and self-attention where wanted.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        style: what all blocks of the network share.
        up: double the sides.
        down: halve the sides.
        attention: whether pixels attend to each other at the end.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style: BlockStyle,
        *,
        up: bool = False,
        down: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.style = style
        self.heads = 0
        if attention:
            self.heads = style.heads if style.heads is not None else out_channels // 64
        sampling = {"up": up, "down": down, "resample_filter": style.resample_filter}
        self.norm0 = GroupNorm(in_channels, style.epsilon)
        self.conv0 = Conv2d(in_channels, out_channels, 3, start=style.start, **sampling)  # type: ignore[arg-type]
        width = out_channels * (2 if style.adaptive_scale else 1)
        self.affine = Linear(style.emb_channels, width, start=style.start)
        self.norm1 = GroupNorm(out_channels, style.epsilon)
        self.conv1 = Conv2d(out_channels, out_channels, 3, start=style.start_zero)
        self.skip: Conv2d | None = None
        if out_channels != in_channels or up or down:
            kernel = 1 if style.resample_proj or out_channels != in_channels else 0
            self.skip = Conv2d(in_channels, out_channels, kernel, start=style.start, **sampling)  # type: ignore[arg-type]
        if self.heads:
            self.norm2 = GroupNorm(out_channels, style.epsilon)
            self.qkv = Conv2d(out_channels, 3 * out_channels, 1, start=style.start_attention)
            self.proj = Conv2d(out_channels, out_channels, 1, start=style.start_zero)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, in_channels, H, W), (B, emb_channels) -> (B, out_channels, H, W)."""
        inner = self.conv0(functional.silu(self.norm0(x)))
        modulation = self.affine(embedding)[:, :, None, None]
        if self.style.adaptive_scale:
            scale, shift = modulation.chunk(2, dim=1)
            inner = functional.silu(torch.addcmul(shift, self.norm1(inner), 1 + scale))
        else:
            inner = functional.silu(self.norm1(inner + modulation))
        inner = self.conv1(functional.dropout(inner, self.style.dropout, self.training))
        x = (inner + (x if self.skip is None else self.skip(x))) * self.style.skip_scale
        if self.heads:
            x = (x + self.proj(self._attend(self.norm2(x)))) * self.style.skip_scale
        return x

    def _attend(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(x).reshape(batch, self.heads, channels // self.heads, 3, height * width)  # (B, h, c, 3, HW)
        query, key, value = qkv.unbind(3)
        logits = query.transpose(2, 3) @ (key / math.sqrt(key.shape[2]))  # (B, h, HW, HW)
        weights = logits.softmax(dim=3, dtype=torch.promote_types(logits.dtype, torch.float32)).to(value.dtype)
        attended: Tensor = value @ weights.transpose(2, 3)  # (B, h, c, HW)
        return attended.reshape(batch, channels, height, width)
