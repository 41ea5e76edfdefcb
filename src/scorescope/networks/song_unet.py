"""DDPM++ and NCSN++, the U-Nets of Song et al., ICLR 2021, https://arxiv.org/abs/2011.13456, as published with EDM
(Karras et al., NeurIPS 2022, https://arxiv.org/abs/2206.00364, appendix F.1).

DDPM++ embeds the noise level by position, and its encoder passes images on through blocks alone. NCSN++ embeds it by random
Fourier features, resamples with the filter [1, 3, 3, 1], and adds a downsampled copy of the input to every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError
from scorescope.networks.edm_layers import (
    BlockStyle,
    Conv2d,
    FourierEmbedding,
    GroupNorm,
    Linear,
    PositionalEmbedding,
    Start,
    UNetBlock,
)
from scorescope.networks.labels import Classes, one_hot

XAVIER = Start("xavier_uniform")
ALMOST_ZERO = Start("xavier_uniform", weight=1e-5)


class SongUNet(nn.Module):
    """A U-Net told the noise level: (B, in_channels, H, W), (B,) -> (B, out_channels, H, W).

    Parameter names and arguments are the published ones.

    Args:
        img_resolution: side of the images; names the levels and says where attention goes.
        in_channels: channels of the input.
        out_channels: channels of the output.
        label_dim: number of classes; 0 for none.
        augment_dim: length of the vector that told the network in training how an image was augmented; 0 for none.
        model_channels: channels of the first level.
        channel_mult: channels of every level, in multiples of `model_channels`.
        channel_mult_emb: length of the embedding of the noise level, likewise.
        num_blocks: blocks a level.
        attn_resolutions: sides of the levels whose blocks attend.
        dropout: share of the features set to zero in training.
        label_dropout: share of the training images shown without their class; above 0 the network also works without one.
            It is the training loop that hides labels, see `scorescope.networks.labels`.
        embedding_type: ``positional`` (DDPM++) or ``fourier`` (NCSN++).
        channel_mult_noise: length of the first embedding of the noise level, in multiples of `model_channels`: 1 or 2.
        encoder_type: ``standard`` (DDPM++), ``skip``, or ``residual`` (NCSN++).
        decoder_type: ``standard`` or ``skip``.
        resample_filter: [1, 1] (DDPM++) or [1, 3, 3, 1] (NCSN++).
        attention: our own argument: False leaves out all attention, that between encoder and decoder too.

    Raises:
        UserError: unknown embedding, encoder or decoder type.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: Literal["positional", "fourier"] = "positional",
        channel_mult_noise: int = 1,
        encoder_type: Literal["standard", "skip", "residual"] = "standard",
        decoder_type: Literal["standard", "skip"] = "standard",
        resample_filter: Sequence[float] = (1, 1),
        attention: bool = True,
    ) -> None:
        super().__init__()
        _known("embedding_type", embedding_type, ("positional", "fourier"))
        _known("encoder_type", encoder_type, ("standard", "skip", "residual"))
        _known("decoder_type", decoder_type, ("standard", "skip"))
        self.classes = Classes(label_dim, optional=label_dropout > 0 or label_dim == 0)
        self.halvings = len(channel_mult) - 1
        noise_channels = model_channels * channel_mult_noise
        emb_channels = model_channels * channel_mult_emb
        self.map_noise = (
            PositionalEmbedding(noise_channels, endpoint=True)
            if embedding_type == "positional"
            else FourierEmbedding(noise_channels)
        )
        self.map_label = Linear(label_dim, noise_channels, start=XAVIER) if label_dim else None
        self.map_augment = Linear(augment_dim, noise_channels, bias=False, start=XAVIER) if augment_dim else None
        self.map_layer0 = Linear(noise_channels, emb_channels, start=XAVIER)
        self.map_layer1 = Linear(emb_channels, emb_channels, start=XAVIER)
        style = BlockStyle(
            emb_channels=emb_channels,
            heads=1,
            dropout=dropout,
            skip_scale=math.sqrt(0.5),
            epsilon=1e-6,
            resample_filter=tuple(resample_filter),
            resample_proj=True,
            adaptive_scale=False,
            start=XAVIER,
            start_zero=ALMOST_ZERO,
            start_attention=Start("xavier_uniform", weight=math.sqrt(0.2)),
        )
        levels = [(img_resolution >> level, model_channels * mult) for level, mult in enumerate(channel_mult)]
        attending = set(attn_resolutions) if attention else set()
        skips = self._build_encoder(levels, in_channels, model_channels, num_blocks, attending, encoder_type, style)
        self._build_decoder(levels, skips, out_channels, num_blocks, attending, attention, decoder_type, style)

    def _build_encoder(
        self,
        levels: list[tuple[int, int]],
        in_channels: int,
        model_channels: int,
        num_blocks: int,
        attending: set[int],
        encoder_type: str,
        style: BlockStyle,
    ) -> list[int]:
        """Add the encoder; returns the channels of everything that the decoder will be handed."""
        self.enc = nn.ModuleDict()
        inputs, channels, skips = in_channels, model_channels, [model_channels]
        for level, (side, wide) in enumerate(levels):
            at = f"{side}x{side}"
            if level == 0:
                self.enc[f"{at}_conv"] = Conv2d(in_channels, channels, 3, start=XAVIER)
            else:
                self.enc[f"{at}_down"] = UNetBlock(channels, channels, style, down=True)
                skips.append(channels)
                taps = style.resample_filter
                if encoder_type == "skip":
                    self.enc[f"{at}_aux_down"] = Conv2d(inputs, inputs, 0, down=True, resample_filter=taps)
                    self.enc[f"{at}_aux_skip"] = Conv2d(inputs, channels, 1, start=XAVIER)
                elif encoder_type == "residual":
                    self.enc[f"{at}_aux_residual"] = Conv2d(
                        inputs, channels, 3, down=True, resample_filter=taps, filter_last=True, start=XAVIER
                    )
                    inputs = channels
            for index in range(num_blocks):
                self.enc[f"{at}_block{index}"] = UNetBlock(channels, wide, style, attention=side in attending)
                channels = wide
                skips.append(channels)
        return skips

    def _build_decoder(
        self,
        levels: list[tuple[int, int]],
        skips: list[int],
        out_channels: int,
        num_blocks: int,
        attending: set[int],
        attention: bool,
        decoder_type: str,
        style: BlockStyle,
    ) -> None:
        self.dec = nn.ModuleDict()
        channels = skips[-1]
        for level, (side, wide) in reversed(list(enumerate(levels))):
            at, last = f"{side}x{side}", level == len(levels) - 1
            if last:
                self.dec[f"{at}_in0"] = UNetBlock(channels, channels, style, attention=attention)
                self.dec[f"{at}_in1"] = UNetBlock(channels, channels, style)
            else:
                self.dec[f"{at}_up"] = UNetBlock(channels, channels, style, up=True)
            for index in range(num_blocks + 1):
                attend = index == num_blocks and side in attending
                self.dec[f"{at}_block{index}"] = UNetBlock(channels + skips.pop(), wide, style, attention=attend)
                channels = wide
            if decoder_type == "skip" or level == 0:
                if decoder_type == "skip" and not last:
                    self.dec[f"{at}_aux_up"] = Conv2d(
                        out_channels, out_channels, 0, up=True, resample_filter=style.resample_filter
                    )
                self.dec[f"{at}_aux_norm"] = GroupNorm(channels, style.epsilon)
                self.dec[f"{at}_aux_conv"] = Conv2d(channels, out_channels, 3, start=ALMOST_ZERO)

    def forward(
        self,
        x: Tensor,
        noise_labels: Tensor,
        class_labels: Tensor | None = None,
        augment_labels: Tensor | None = None,
    ) -> Tensor:
        """Images and noise levels to the network's output.

        Args:
            x: (B, in_channels, H, W).
            noise_labels: (B,), in the unit of the preconditioning.
            class_labels: integers (B,), −1 for no class; or weights of the classes (B, label_dim); None for no class.
            augment_labels: (B, augment_dim); None for images as they are.

        Returns:
            (B, out_channels, H, W).

        Raises:
            UserError: sides that cannot be halved as often as there are levels.
        """
        check_sides(x, self.halvings)
        embedding = self._embed(noise_labels, class_labels, augment_labels).to(x.dtype)
        x, skips = self._encode(x, embedding)
        return self._decode(x, skips, embedding)

    def _embed(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        cosines, sines = self.map_noise(noise_labels).chunk(2, dim=1)
        embedding: Tensor = torch.cat([sines, cosines], dim=1)
        if self.map_label is not None:
            count = self.classes.count
            labels = one_hot(class_labels, count, len(noise_labels), noise_labels.device).to(embedding.dtype)
            embedding = embedding + self.map_label(labels * math.sqrt(count))
        if self.map_augment is not None and augment_labels is not None:
            embedding = embedding + self.map_augment(augment_labels)
        return functional.silu(self.map_layer1(functional.silu(self.map_layer0(embedding))))

    def _encode(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        image = x
        skips: list[Tensor] = []
        for name, layer in self.enc.items():
            if name.endswith("aux_down"):
                image = layer(image)
            elif name.endswith("aux_skip"):
                x = skips[-1] = x + layer(image)
            elif name.endswith("aux_residual"):
                x = skips[-1] = image = (x + layer(image)) * math.sqrt(0.5)
            else:
                x = layer(x, embedding) if isinstance(layer, UNetBlock) else layer(x)
                skips.append(x)
        return x, skips

    def _decode(self, x: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        output: Tensor | None = None
        normalized = x
        for name, layer in self.dec.items():
            if name.endswith("aux_up"):
                output = layer(output)
            elif name.endswith("aux_norm"):
                normalized = layer(x)
            elif name.endswith("aux_conv"):
                added = layer(functional.silu(normalized))
                output = added if output is None else output + added
            else:
                x = layer(torch.cat([x, skips.pop()], dim=1) if "_block" in name else x, embedding)
        assert output is not None  # the first level always has an aux_conv
        return output


def check_sides(images: Tensor, halvings: int) -> None:
    """Raises UserError unless both sides can be halved so often without a remainder."""
    if images.shape[-1] % 2**halvings or images.shape[-2] % 2**halvings:
        raise UserError(
            f"a network of {halvings + 1} levels takes sides divisible by {2**halvings}, found {tuple(images.shape[-2:])}"
        )


def _known(argument: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        raise UserError(f"{argument} is one of {', '.join(allowed)}, found {found!r}")
