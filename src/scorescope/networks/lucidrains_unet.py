"""The U-Net of lucidrains' denoising-diffusion-pytorch (version 2) under its parameter names.

A U-Net like that of Ho et al., NeurIPS 2020, with normalization by root mean square, linear attention where resolution is high
(Shen et al., WACV 2021, https://arxiv.org/abs/1812.01243), keys and values from memory beside those of the image, and, if it
was trained so, its own previous estimate as a second input (self-conditioning: Chen et al., ICLR 2023,
https://arxiv.org/abs/2208.04202). Without that estimate it sees zeros there, as in the first step of sampling.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.networks.sinusoids import sines_first


class LucidrainsUNet(nn.Module):
    """The network.

    Args:
        channels: C.
        out_channels: C, or 2C with a learned variance.
        time_channels: width of the embedding of the time.
        widths: channels before every level and after the last, from the image's resolution down.
        full_attention: for every level, whether its attention is full instead of linear.
        heads: attention heads of every level.
        head_channels: channels of a head of every level.
        memories: keys and values in memory.
        self_condition: whether it takes its own estimate as a second image.
        fourier: frequencies that are learned or random and in the weights; 0 for the usual sines.
        theta: base of the usual sines.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        time_channels: int,
        widths: Sequence[int],
        full_attention: Sequence[bool],
        heads: Sequence[int],
        head_channels: Sequence[int],
        memories: int = 4,
        self_condition: bool = False,
        fourier: int = 0,
        theta: float = 10_000.0,
    ) -> None:
        super().__init__()
        self.self_condition = self_condition
        levels = list(itertools.pairwise(widths))
        last = len(levels) - 1
        self.init_conv = nn.Conv2d(channels * (2 if self_condition else 1), widths[0], 7, padding=3)
        embedding = FourierTime(fourier) if fourier else SineTime(time_channels, theta)
        told = 2 * fourier + 1 if fourier else time_channels
        emb = 4 * time_channels
        self.time_mlp = nn.Sequential(embedding, nn.Linear(told, emb), nn.GELU(), nn.Linear(emb, emb))

        def attention(width: int, level: int) -> nn.Module:
            kind = FullAttention if full_attention[level] else LinearAttention
            return kind(width, heads[level], head_channels[level], memories)

        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, (into, out) in enumerate(levels):
            smaller = nn.Conv2d(into, out, 3, padding=1) if level == last else _halved(into, out)
            blocks = [ResnetBlock(into, into, emb), ResnetBlock(into, into, emb)]
            self.downs.append(nn.ModuleList([*blocks, attention(into, level), smaller]))
        middle = widths[-1]
        self.mid_block1 = ResnetBlock(middle, middle, emb)
        self.mid_attn = FullAttention(middle, heads[-1], head_channels[-1], memories)
        self.mid_block2 = ResnetBlock(middle, middle, emb)
        for level, (into, out) in reversed(list(enumerate(levels))):
            larger = nn.Conv2d(out, into, 3, padding=1) if level == 0 else _doubled(out, into)
            blocks = [ResnetBlock(out + into, out, emb), ResnetBlock(out + into, out, emb)]
            self.ups.append(nn.ModuleList([*blocks, attention(out, level), larger]))
        self.final_res_block = ResnetBlock(2 * widths[0], widths[0], emb)
        self.final_conv = nn.Conv2d(widths[0], out_channels, 1)

    def forward(
        self, x: Tensor, time: Tensor, class_labels: Tensor | None = None, self_cond: Tensor | None = None
    ) -> Tensor:
        """What the network predicts.

        Args:
            x: (B, C, H, W).
            time: (B,), steps.
            class_labels: it takes none.
            self_cond: (B, C, H, W), its own estimate of the image; zeros by default. Only for networks that take it.

        Returns:
            (B, C or 2C, H, W).
        """
        if self.self_condition:
            x = torch.cat([torch.zeros_like(x) if self_cond is None else self_cond, x], 1)
        first = x = self.init_conv(x)
        emb = self.time_mlp(time)
        skips = []
        for block1, block2, attention, smaller in _parts(self.downs):
            x = block1(x, emb)
            skips.append(x)
            x = block2(x, emb)
            x = x + attention(x)
            skips.append(x)
            x = smaller(x)
        x = self.mid_block1(x, emb)
        x = x + self.mid_attn(x)
        x = self.mid_block2(x, emb)
        for block1, block2, attention, larger in _parts(self.ups):
            x = block1(torch.cat([x, skips.pop()], 1), emb)
            x = block2(torch.cat([x, skips.pop()], 1), emb)
            x = larger(x + attention(x))
        predicted: Tensor = self.final_conv(self.final_res_block(torch.cat([x, first], 1), emb))
        return predicted


def _parts(levels: nn.ModuleList) -> Iterator[tuple[nn.Module, ...]]:
    """The four layers of every level."""
    return (tuple(level.children()) for level in levels)


def _halved(into: int, out: int) -> nn.Sequential:
    """Two by two pixels become four channels, and those `out`."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * into, out, 1))


def _doubled(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(into, out, 3, padding=1))


class SineTime(nn.Module):
    """The usual sines and cosines of the time."""

    def __init__(self, width: int, theta: float) -> None:
        super().__init__()
        self.width, self.theta = width, theta

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, width)."""
        return sines_first(time, self.width, self.theta)


class FourierTime(nn.Module):
    """The time itself, and sines and cosines of it at frequencies that are among the weights."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(count))

    def forward(self, time: Tensor) -> Tensor:
        """(B,) -> (B, 1 + 2 count)."""
        angles = 2 * torch.pi * time[:, None] * self.weights
        return torch.cat([time[:, None], angles.sin(), angles.cos()], 1)


class RMSNorm(nn.Module):
    """Every pixel's channels scaled to root mean square 1, times `g`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        scaled: Tensor = functional.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5
        return scaled


class Block(nn.Module):
    """A convolution, normalized, scaled and shifted."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(into, out, 3, padding=1)
        self.norm = RMSNorm(out)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, into, H, W) -> (B, out, H, W)."""
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            x = x * (scale_shift[0] + 1) + scale_shift[1]
        return functional.silu(x)


class ResnetBlock(nn.Module):
    """Two of them, the first told the time, and a skip."""

    def __init__(self, into: int, out: int, emb: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out))
        self.block1, self.block2 = Block(into, out), Block(out, out)
        self.res_conv = nn.Conv2d(into, out, 1) if into != out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, into, H, W) and (B, emb) -> (B, out, H, W)."""
        scale, shift = self.mlp(emb)[:, :, None, None].chunk(2, dim=1)
        skipped: Tensor = self.block2(self.block1(x, (scale, shift))) + self.res_conv(x)
        return skipped


class LinearAttention(nn.Module):
    """Attention whose cost grows with the number of pixels, not its square: keys and values meet first."""

    def __init__(self, width: int, heads: int, head: int, memories: int) -> None:
        super().__init__()
        self.heads, self.head = heads, head
        self.norm = RMSNorm(width)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, head, memories))
        self.to_qkv = nn.Conv2d(width, 3 * heads * head, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * head, width, 1), RMSNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        batch, _, height, wide = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(batch, 3, self.heads, self.head, height * wide)
        q, k, v = qkv.unbind(1)  # (B, heads, head, HW)
        memory_k, memory_v = self.mem_kv[:, None].expand(-1, batch, -1, -1, -1)
        k, v = torch.cat([memory_k, k], -1), torch.cat([memory_v, v], -1)
        context = k.softmax(-1) @ v.transpose(2, 3)  # (B, heads, head, head)
        mixed = context.transpose(2, 3) @ (q.softmax(-2) * self.head**-0.5)
        out: Tensor = self.to_out(mixed.reshape(batch, -1, height, wide))
        return out


class FullAttention(nn.Module):
    """Attention of all pixels to all, and to the memory."""

    def __init__(self, width: int, heads: int, head: int, memories: int) -> None:
        super().__init__()
        self.heads, self.head = heads, head
        self.norm = RMSNorm(width)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, memories, head))
        self.to_qkv = nn.Conv2d(width, 3 * heads * head, 1, bias=False)
        self.to_out = nn.Conv2d(heads * head, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        batch, _, height, wide = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(batch, 3, self.heads, self.head, height * wide)
        q, k, v = qkv.transpose(3, 4).unbind(1)  # (B, heads, HW, head)
        memory_k, memory_v = self.mem_kv[:, None].expand(-1, batch, -1, -1, -1)
        k, v = torch.cat([memory_k, k], 2), torch.cat([memory_v, v], 2)
        weights = torch.softmax(q @ k.transpose(2, 3) * self.head**-0.5, dim=-1)
        mixed = (weights @ v).transpose(2, 3).reshape(batch, -1, height, wide)
        out: Tensor = self.to_out(mixed)
        return out
