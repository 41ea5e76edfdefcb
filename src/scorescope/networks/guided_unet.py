"""The U-Net of Dhariwal & Nichol, NeurIPS 2021, https://arxiv.org/abs/2105.05233, under its published parameter names.

improved-diffusion, guided-diffusion, consistency models, TorchCFM and Meta's flow matching all use it; where they differ is
an argument here. It is what EDM's `DhariwalUNet` was modelled on, but that one has other names, other attention and no learned
variance. Files say most of the arguments by their shapes (see `readers.guided`); the number of heads and the order in which
the 3C channels of ``qkv`` are cut are not among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError
from scorescope.networks.labels import Classes, fill_labels
from scorescope.networks.sinusoids import cosines_first

GROUPS = 32


class GuidedUNet(nn.Module):
    """The network.

    Args:
        in_channels: C.
        out_channels: C, or 2C with a learned variance.
        model_channels: width of the embedding of the time, a quarter of that of what is added to the features.
        widths: channels of every level, from the image's resolution down.
        num_res_blocks: blocks of a level on the way down; one more on the way up.
        attention_levels: levels with attention, from 0.
        num_classes: rows of the table of classes; 0 for none.
        no_class: whether the last row of that table stands for "no class".
        first_width: channels of the first convolution; those of the first level by default.
        num_heads: of attention, if `num_head_channels` is None.
        num_head_channels: channels of a head.
        use_new_attention_order: whether ``qkv`` is cut into q, k and v first and into heads then.
        use_scale_shift_norm: whether the embedding scales and shifts the features instead of being added.
        resblock_updown: whether the resolution changes within residual blocks.
        conv_resample: whether it otherwise changes with a convolution.
        square_attention: whether attention is written as 1×1 convolutions in two dimensions, with four axes.

    Raises:
        UserError: widths that 32 groups or the heads do not divide.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        widths: Sequence[int],
        num_res_blocks: int = 2,
        attention_levels: Sequence[int] = (),
        num_classes: int = 0,
        no_class: bool = False,
        first_width: int | None = None,
        num_heads: int = 1,
        num_head_channels: int | None = None,
        use_new_attention_order: bool = False,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = False,
        conv_resample: bool = True,
        square_attention: bool = False,
    ) -> None:
        super().__init__()
        self.model_channels = model_channels
        self.classes = Classes(max(num_classes - no_class, 0), optional=no_class or not num_classes)
        emb = 4 * model_channels
        self.time_embed = nn.Sequential(nn.Linear(model_channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        if num_classes:
            self.label_emb = nn.Embedding(num_classes, emb)

        def block(into: int, out: int, change: str = "") -> ResBlock:
            return ResBlock(into, out, emb, use_scale_shift_norm, change)

        def attention(width: int) -> Attention:
            heads = num_heads if num_head_channels is None else width // num_head_channels
            return Attention(width, heads, use_new_attention_order, square_attention)

        def resampled(width: int, change: str) -> nn.Module:
            if resblock_updown:
                return block(width, width, change)
            return Downsample(width, conv_resample) if change == "down" else Upsample(width, conv_resample)

        width = widths[0] if first_width is None else first_width
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1))])
        skips = [width]
        for level, wide in enumerate(widths):
            for _ in range(num_res_blocks):
                layers: list[nn.Module] = [block(width, wide)]
                width = wide
                layers += [attention(width)] if level in attention_levels else []
                self.input_blocks.append(nn.Sequential(*layers))
                skips.append(width)
            if level + 1 < len(widths):
                self.input_blocks.append(nn.Sequential(resampled(width, "down")))
                skips.append(width)
        self.middle_block = nn.Sequential(block(width, width), attention(width), block(width, width))
        self.output_blocks = nn.ModuleList()
        for level, wide in reversed(list(enumerate(widths))):
            for index in range(num_res_blocks + 1):
                layers = [block(width + skips.pop(), wide)]
                width = wide
                layers += [attention(width)] if level in attention_levels else []
                layers += [resampled(width, "up")] if level > 0 and index == num_res_blocks else []
                self.output_blocks.append(nn.Sequential(*layers))
        self.out = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """What the network predicts.

        Args:
            x: (B, C, H, W).
            time: (B,), what it is told of the noise.
            class_labels: integers (B,), −1 for no class.

        Returns:
            (B, C or 2C, H, W).

        Raises:
            UserError: the network needs a class and gets none.
        """
        emb = self.time_embed(cosines_first(time, self.model_channels))  # (B, 4 model_channels)
        if self.classes.count:
            labels = fill_labels(class_labels, len(x), x.device)
            if self.classes.optional:
                labels = torch.where(labels < 0, self.classes.count, labels)
            elif class_labels is None:
                self.classes.check(None)
            emb = emb + self.label_emb(labels)
        skips = []
        for layers in self.input_blocks:
            x = _through(layers, x, emb)
            skips.append(x)
        x = _through(self.middle_block, x, emb)
        for layers in self.output_blocks:
            x = _through(layers, torch.cat([x, skips.pop()], 1), emb)
        predicted: Tensor = self.out(x)
        return predicted


def _through(layers: nn.Module, x: Tensor, emb: Tensor) -> Tensor:
    for layer in layers.children():
        x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
    return x


def norm(width: int) -> nn.GroupNorm:
    """Normalization over 32 groups of channels. Raises UserError if they do not divide the channels."""
    if width % GROUPS:
        raise UserError(f"this network's widths are multiples of {GROUPS}, found {width}")
    return nn.GroupNorm(GROUPS, width)


class ResBlock(nn.Module):
    """Two convolutions around the embedding, and a skip; `change` is ``down``, ``up`` or empty."""

    def __init__(self, into: int, out: int, emb: int, scale_shift: bool, change: str) -> None:
        super().__init__()
        self.scale_shift, self.change = scale_shift, change
        self.in_layers = nn.Sequential(norm(into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(norm(out), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1))
        self.skip_connection = nn.Identity() if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, into, H, W) and (B, emb) -> (B, out, H', W')."""
        h = self.in_layers[2](_resized(self.in_layers[1](self.in_layers[0](x)), self.change))
        told = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](self.out_layers[1](h))
        else:
            h = self.out_layers(h + told)
        skipped: Tensor = self.skip_connection(_resized(x, self.change)) + h
        return skipped


def _resized(x: Tensor, change: str) -> Tensor:
    if change == "down":
        return functional.avg_pool2d(x, 2)
    return functional.interpolate(x, scale_factor=2.0, mode="nearest") if change == "up" else x


class Downsample(nn.Module):
    """Half the resolution, with a convolution or by averaging."""

    def __init__(self, width: int, convolved: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1) if convolved else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        halved: Tensor = self.op(x)
        return halved


class Upsample(nn.Module):
    """Twice the resolution, with or without a convolution."""

    def __init__(self, width: int, convolved: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1) if convolved else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        doubled: Tensor = self.conv(_resized(x, "up"))
        return doubled


class Attention(nn.Module):
    """Attention of all positions to all, within `heads` parts of the channels."""

    def __init__(self, width: int, heads: int, new_order: bool, square: bool) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise UserError(f"{heads} attention heads do not divide {width} channels: say --arch-arg num_heads=N")
        self.heads, self.new_order = heads, new_order
        kind = nn.Conv2d if square else nn.Conv1d
        self.norm = norm(width)
        self.qkv = kind(width, 3 * width, 1)
        self.proj_out = kind(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        batch, width, height, wide = x.shape
        features = self.norm(x)
        features = features if self.qkv.weight.ndim == 4 else features.flatten(2)
        qkv = self.qkv(features).reshape(batch, 3 * width, height * wide)
        head = width // self.heads
        if self.new_order:
            q, k, v = qkv.reshape(batch, 3, self.heads, head, -1).unbind(1)  # (B, heads, head, HW)
        else:
            q, k, v = qkv.reshape(batch, self.heads, 3, head, -1).unbind(2)
        weights = torch.softmax((q * head**-0.25).transpose(2, 3) @ (k * head**-0.25), dim=-1)  # (B, heads, HW, HW)
        mixed = (v @ weights.transpose(2, 3)).reshape(batch, width, -1)
        mixed = mixed.reshape(x.shape) if self.qkv.weight.ndim == 4 else mixed
        added: Tensor = x + self.proj_out(mixed).reshape(x.shape)
        return added
