"""The U-Net of Ho et al., NeurIPS 2020, https://arxiv.org/abs/2006.11239, under the parameter names of its common PyTorch code.

Written again many times: ermongroup/ddim and the conversion of Ho's own weights that it uses (these names), w1r3's pytorch-ddpm
and the code on locality in diffusion models that grew from it (other names, renamed when they are read). They differ in two
numbers of the arithmetic, and in that the latter looks its time up in a table that is stored with the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError
from scorescope.networks.sinusoids import sines_first

GROUPS = 32


class DDPMUNet(nn.Module):
    """The network.

    Args:
        in_channels: C.
        out_channels: C, or 2C with a learned variance.
        model_channels: width of the embedding of the time.
        widths: channels of every level, from the image's resolution down.
        num_res_blocks: blocks of a level on the way down; one more on the way up.
        attention_levels: levels with attention, from 0.
        middle_attention: whether the middle has it too.
        first_width: channels of the first convolution; `model_channels` by default.
        convolved_resampling: whether the resolution changes with convolutions.
        same_padding: whether halving pads on both sides, not only below and to the right.
        norm_eps: added to variances by the normalizations.
        steps: length of the table of times in the weights; 0 if there is none and times may be fractions.
        groups: of every normalization; fewer than the published 32 for a network of fewer channels.
        dropout: share of a block's channels and pixels that training hides before its second convolution.

    Raises:
        UserError: widths that the groups do not divide.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        widths: Sequence[int],
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        first_width: int | None = None,
        convolved_resampling: bool = True,
        same_padding: bool = False,
        norm_eps: float = 1e-6,
        steps: int = 0,
        middle_attention: bool = True,
        groups: int = GROUPS,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        emb = 4 * model_channels
        norms = Norms(groups, norm_eps)
        self.model_channels = model_channels
        self.temb: Any = nn.Module()
        if steps:
            self.temb.table = nn.Embedding(steps, model_channels)
        self.temb.dense = nn.ModuleList([nn.Linear(model_channels, emb), nn.Linear(emb, emb)])
        width = model_channels if first_width is None else first_width
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        skips = [width]
        self.down = nn.ModuleList()
        for level, wide in enumerate(widths):
            blocks = []
            for _ in range(num_res_blocks):
                blocks.append(ResnetBlock(width, wide, emb, norms, dropout))
                width = wide
                skips.append(width)
            stage: Any = Level(blocks, level in attention_levels, norms)
            if level + 1 < len(widths):
                stage.downsample = _Downsample(width, convolved_resampling, same_padding)
                skips.append(width)
            self.down.append(stage)
        self.mid: Any = nn.Module()
        self.mid.block_1 = ResnetBlock(width, width, emb, norms, dropout)
        self.mid.attn_1 = AttnBlock(width, norms) if middle_attention else nn.Identity()
        self.mid.block_2 = ResnetBlock(width, width, emb, norms, dropout)
        stages = []
        for level, wide in reversed(list(enumerate(widths))):
            blocks = []
            for _ in range(num_res_blocks + 1):
                blocks.append(ResnetBlock(width + skips.pop(), wide, emb, norms, dropout))
                width = wide
            stage = Level(blocks, level in attention_levels, norms)
            if level:
                stage.upsample = _Upsample(width, convolved_resampling)
            stages.append(stage)
        self.up = nn.ModuleList(stages[::-1])
        self.norm_out = norms.over(width)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """What the network predicts: images (B, C, H, W) and steps (B,) -> (B, C or 2C, H, W); it takes no classes."""
        emb = self._embedded(time)
        h = self.conv_in(x)
        skips = [h]
        level: Any
        for level in self.down:
            for block, attention in _layers(level):
                h = attention(block(h, emb))
                skips.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
                skips.append(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h, emb)), emb)
        for level in reversed(self.up):
            for block, attention in _layers(level):
                h = attention(block(torch.cat([h, skips.pop()], 1), emb))
            h = level.upsample(h) if hasattr(level, "upsample") else h
        predicted: Tensor = self.conv_out(functional.silu(self.norm_out(h)))
        return predicted

    def _embedded(self, time: Tensor) -> Tensor:
        """(B,) -> (B, 4 model_channels)."""
        table = getattr(self.temb, "table", None)
        if table is None:
            told = sines_first(time, self.model_channels)
        else:
            told = table(time.round().long().clamp(0, len(table.weight) - 1))
        first, second = self.temb.dense
        embedded: Tensor = second(functional.silu(first(told)))
        return embedded


@dataclass(frozen=True)
class Norms:
    """The normalizations of one network: how many groups, and what is added to their variances."""

    groups: int
    eps: float

    def over(self, width: int) -> nn.GroupNorm:
        """One over so many channels. Raises UserError if the groups do not divide them."""
        if width % self.groups:
            raise UserError(f"this network's widths are multiples of {self.groups}, found {width}")
        return nn.GroupNorm(self.groups, width, eps=self.eps)


class Level(nn.Module):
    """The blocks of one resolution, their attentions if it has any, and what changes the resolution after them."""

    def __init__(self, blocks: Sequence[ResnetBlock], attends: bool, norms: Norms) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList([AttnBlock(block.width, norms) for block in blocks] if attends else [])


def _layers(level: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Every block of a level and the attention after it."""
    for index, block in enumerate(level.block):
        yield block, level.attn[index] if len(level.attn) else nn.Identity()


class ResnetBlock(nn.Module):
    """Two convolutions, the embedding added between them, and a skip."""

    def __init__(self, into: int, out: int, emb: int, norms: Norms, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.dropout = out, nn.Dropout(dropout)
        self.norm1, self.conv1 = norms.over(into), nn.Conv2d(into, out, 3, padding=1)
        self.temb_proj = nn.Linear(emb, out)
        self.norm2, self.conv2 = norms.over(out), nn.Conv2d(out, out, 3, padding=1)
        if into != out:
            self.nin_shortcut = nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, into, H, W) and (B, emb) -> (B, out, H, W)."""
        h = self.conv1(functional.silu(self.norm1(x))) + self.temb_proj(functional.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(functional.silu(self.norm2(h))))
        skipped: Tensor = h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)
        return skipped


class AttnBlock(nn.Module):
    """Attention of all positions to all, with one head."""

    def __init__(self, width: int, norms: Norms) -> None:
        super().__init__()
        self.norm = norms.over(width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))  # (B, C, HW)
        weights = torch.softmax(q.transpose(1, 2) @ k * x.shape[1] ** -0.5, dim=-1)  # (B, HW, HW)
        added: Tensor = x + self.proj_out((v @ weights.transpose(1, 2)).reshape(x.shape))
        return added


class _Downsample(nn.Module):
    def __init__(self, width: int, convolved: bool, same_padding: bool) -> None:
        super().__init__()
        self.same_padding = same_padding
        if convolved:
            self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1 if same_padding else 0)

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "conv"):
            return functional.avg_pool2d(x, 2)
        halved: Tensor = self.conv(x if self.same_padding else functional.pad(x, (0, 1, 0, 1)))
        return halved


class _Upsample(nn.Module):
    def __init__(self, width: int, convolved: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1) if convolved else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled
