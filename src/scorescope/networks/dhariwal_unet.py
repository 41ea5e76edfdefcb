"""ADM, the U-Net of Dhariwal & Nichol, NeurIPS 2021, https://arxiv.org/abs/2105.05233, as published with EDM
(Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364, appendix F.2).

Unlike DDPM++ the embedding of noise level and class scales and shifts every block's features, attention has a head for
every 64 channels and is used at several levels, and classes enter after the embedding's first layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.networks.edm_layers import BlockStyle, Conv2d, GroupNorm, Linear, PositionalEmbedding, Start, UNetBlock
from scorescope.networks.labels import Classes, one_hot
from scorescope.networks.song_unet import check_sides

KAIMING = Start("kaiming_uniform", weight=math.sqrt(1 / 3), bias=math.sqrt(1 / 3))
ZERO = Start("kaiming_uniform", weight=0.0, bias=0.0)


class DhariwalUNet(nn.Module):
    """A U-Net told the noise level: (B, in_channels, H, W), (B,) -> (B, out_channels, H, W).

    Parameter names and arguments are the published ones.

    Args:
        img_resolution: side of the images; names the levels and says where attention goes.
        in_channels: channels of the input.
        out_channels: channels of the output.
        label_dim: number of classes; 0 for none.
        augment_dim: length of the vector that told the network in training how an image was augmented; 0 for none.
        model_channels: the unit of `channel_mult`.
        channel_mult: channels of every level, in multiples of `model_channels`.
        channel_mult_emb: length of the embedding of the noise level, likewise.
        num_blocks: blocks a level.
        attn_resolutions: sides of the levels whose blocks attend; as published, those of fewer than 64 channels do not.
        dropout: share of the features set to zero in training.
        label_dropout: share of the training images shown without their class; above 0 the network also works without one.
            It is the training loop that hides labels, see `scorescope.networks.labels`.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = Classes(label_dim, optional=label_dropout > 0 or label_dim == 0)
        self.halvings = len(channel_mult) - 1
        emb_channels = model_channels * channel_mult_emb
        self.map_noise = PositionalEmbedding(model_channels)
        self.map_augment = Linear(augment_dim, model_channels, bias=False, start=ZERO) if augment_dim else None
        self.map_layer0 = Linear(model_channels, emb_channels, start=KAIMING)
        self.map_layer1 = Linear(emb_channels, emb_channels, start=KAIMING)
        per_class = Start("kaiming_normal", weight=math.sqrt(label_dim))
        self.map_label = Linear(label_dim, emb_channels, bias=False, start=per_class) if label_dim else None
        style = BlockStyle(
            emb_channels=emb_channels,
            heads=None,
            dropout=dropout,
            skip_scale=1.0,
            epsilon=1e-5,
            resample_filter=(1, 1),
            resample_proj=False,
            adaptive_scale=True,
            start=KAIMING,
            start_zero=ZERO,
            start_attention=KAIMING,
        )
        levels = [(img_resolution >> level, model_channels * mult) for level, mult in enumerate(channel_mult)]
        self._build(levels, in_channels, num_blocks, set(attn_resolutions), style)
        self.out_norm = GroupNorm(levels[0][1])
        self.out_conv = Conv2d(levels[0][1], out_channels, 3, start=ZERO)

    def _build(
        self, levels: list[tuple[int, int]], in_channels: int, num_blocks: int, attending: set[int], style: BlockStyle
    ) -> None:
        self.enc = nn.ModuleDict()
        channels = levels[0][1]
        skips = [channels]
        for level, (side, wide) in enumerate(levels):
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = Conv2d(in_channels, channels, 3, start=KAIMING)
            else:
                self.enc[f"{side}x{side}_down"] = UNetBlock(channels, channels, style, down=True)
                skips.append(channels)
            for index in range(num_blocks):
                block = UNetBlock(channels, wide, style, attention=side in attending)
                self.enc[f"{side}x{side}_block{index}"] = block
                channels = wide
                skips.append(channels)
        self.dec = nn.ModuleDict()
        for level, (side, wide) in reversed(list(enumerate(levels))):
            if level == len(levels) - 1:
                self.dec[f"{side}x{side}_in0"] = UNetBlock(channels, channels, style, attention=True)
                self.dec[f"{side}x{side}_in1"] = UNetBlock(channels, channels, style)
            else:
                self.dec[f"{side}x{side}_up"] = UNetBlock(channels, channels, style, up=True)
            for index in range(num_blocks + 1):
                block = UNetBlock(channels + skips.pop(), wide, style, attention=side in attending)
                self.dec[f"{side}x{side}_block{index}"] = block
                channels = wide

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Images and noise levels to the network's output; arguments and errors as `SongUNet.forward`."""
        check_sides(x, self.halvings)
        embedding = self._embed(noise_labels, class_labels, augment_labels).to(x.dtype)
        skips: list[Tensor] = []
        for layer in self.enc.values():
            x = layer(x, embedding) if isinstance(layer, UNetBlock) else layer(x)
            skips.append(x)
        for name, layer in self.dec.items():
            x = layer(torch.cat([x, skips.pop()], dim=1) if "_block" in name else x, embedding)
        output: Tensor = self.out_conv(functional.silu(self.out_norm(x)))
        return output

    def _embed(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        embedding: Tensor = self.map_noise(noise_labels)
        if self.map_augment is not None and augment_labels is not None:
            embedding = embedding + self.map_augment(augment_labels)
        embedding = self.map_layer1(functional.silu(self.map_layer0(embedding)))
        if self.map_label is not None:
            labels = one_hot(class_labels, self.classes.count, len(noise_labels), noise_labels.device)
            embedding = embedding + self.map_label(labels.to(embedding.dtype))
        return functional.silu(embedding)
