"""Architectures by name: what `scorescope list networks` shows and what a checkpoint's configuration is built from.

An entry's `arguments_for` describes a small network of a few hundred thousand parameters that trains from nothing on a CPU;
the papers' networks come from the same classes with larger arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from scorescope.foundation import Registry, UserError
from scorescope.networks.bf_cnn import BFCNN
from scorescope.networks.ddpm_unet import DDPMUNet
from scorescope.networks.dhariwal_unet import DhariwalUNet
from scorescope.networks.dit import DiT
from scorescope.networks.edm2_unet import EDM2UNet
from scorescope.networks.guided_unet import GuidedUNet
from scorescope.networks.k_diffusion_unet import KDiffusionUNet
from scorescope.networks.lucidrains_unet import LucidrainsUNet
from scorescope.networks.mlp import MLP
from scorescope.networks.song_unet import SongUNet
from scorescope.networks.unet import UNet
from scorescope.networks.uvit import UViT

ImageShape = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture:
    """One entry of the table of networks.

    Attributes:
        build: makes the network from JSON-like keyword arguments.
        arguments_for: the arguments that fit images (C, H, W), for a small network trained from nothing; raises UserError
            for images that it cannot take.
        preconditioning: name of what usually turns its output into a denoised image.
        description: one line for the list.
        source: the paper.
        trained_here: whether it can be trained from nothing; the others are opened from checkpoints only.
    """

    build: Callable[..., nn.Module]
    arguments_for: Callable[[ImageShape], dict[str, Any]]
    preconditioning: str
    description: str
    source: str
    trained_here: bool = True


architectures: Registry[Architecture] = Registry("network")


def halvings(image_shape: ImageShape, most: int) -> int:
    """How often both sides can be halved without a remainder, at most `most` times."""
    _, height, width = image_shape
    count = 0
    while count < most and not (height % 2 ** (count + 1) or width % 2 ** (count + 1)):
        count += 1
    return count


def unet_blocks(image_shape: ImageShape) -> int:
    """1, 2, 3 and 4 blocks for sides of 20, 40, 80 and 160 (Kadkhodaie et al. 2024, table 1), fewer if the sides ask for it."""
    wanted = math.ceil(math.log2(max(image_shape[1:]) / 10))
    return max(1, halvings(image_shape, wanted))


def _unet(image_shape: ImageShape) -> dict[str, Any]:
    if not halvings(image_shape, 1):
        raise UserError(
            f"unet takes images of even sides, found {image_shape[1]}×{image_shape[2]}: pad or crop them first"
        )
    return {"channels": image_shape[0], "width": 32, "blocks": unet_blocks(image_shape)}


def _bf_cnn(image_shape: ImageShape) -> dict[str, Any]:
    return {"channels": image_shape[0], "width": 48, "layers": 12}


def _levels(image_shape: ImageShape) -> dict[str, Any]:
    """What DDPM++, NCSN++ and ADM have in common: three levels if the sides allow it, attention at the last but one."""
    channels, *sides = image_shape
    count = halvings(image_shape, 2)
    return {
        "img_resolution": max(sides),
        "in_channels": channels,
        "out_channels": channels,
        "channel_mult": [1, 2, 2][: count + 1],
        "num_blocks": 1,
        "attn_resolutions": [max(sides) >> 1] if count else [],
        "dropout": 0.0,
    }


def _ddpmpp(image_shape: ImageShape) -> dict[str, Any]:
    return {**_levels(image_shape), "model_channels": 16}


def _ddpmpp_without_attention(image_shape: ImageShape) -> dict[str, Any]:
    return {**_ddpmpp(image_shape), "attention": False}


def _ncsnpp(image_shape: ImageShape) -> dict[str, Any]:
    return {
        **_ddpmpp(image_shape),
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "encoder_type": "residual",
        "resample_filter": [1, 3, 3, 1],
    }


def _adm(image_shape: ImageShape) -> dict[str, Any]:
    # as published, only levels of 64 channels and more attend: here the last of three
    small = {**_levels(image_shape), "model_channels": 16, "channel_mult": [1, 2, 4][: halvings(image_shape, 2) + 1]}
    return small | {"attn_resolutions": [max(image_shape[1:]) >> 2]}


def _square(image_shape: ImageShape, name: str) -> tuple[int, int]:
    """Side of the images, and the side of patches that makes about 7×7 or 8×8 of them."""
    _, height, width = image_shape
    if height != width:
        raise UserError(f"{name} takes square images, found {height}×{width}: pad or crop them first")
    patch = max(1, round(height / 8))
    while height % patch:
        patch -= 1
    return height, patch


def _dit(image_shape: ImageShape) -> dict[str, Any]:
    side, patch = _square(image_shape, "dit")
    return {
        "input_size": side,
        "patch_size": patch,
        "in_channels": image_shape[0],
        "hidden_size": 96,
        "depth": 4,
        "num_heads": 4,
        "num_classes": 0,
        "learn_sigma": False,
    }


def _uvit(image_shape: ImageShape) -> dict[str, Any]:
    side, patch = _square(image_shape, "u-vit")
    return {
        "img_size": side,
        "patch_size": patch,
        "in_chans": image_shape[0],
        "embed_dim": 96,
        "depth": 4,
        "num_heads": 4,
    }


def _mlp(image_shape: ImageShape) -> dict[str, Any]:
    return {"image_shape": list(image_shape), "width": 128, "depth": 3}


def _ddpm_without_attention(image_shape: ImageShape) -> dict[str, Any]:
    widths = [16, 32, 32][: halvings(image_shape, 2) + 1]
    return {
        "in_channels": image_shape[0],
        "out_channels": image_shape[0],
        "model_channels": 16,
        "widths": widths,
        "num_res_blocks": 2,
        "middle_attention": False,
        "groups": 8,
    }


def _only_opened(image_shape: ImageShape) -> dict[str, Any]:
    raise UserError(
        "this network is opened from checkpoints of other projects and not trained here: choose another; see scorescope list"
        " networks"
    )


def _opened(build: Callable[..., nn.Module], preconditioning: str, description: str, source: str) -> Architecture:
    return Architecture(build, _only_opened, preconditioning, f"{description}; opened only", source, trained_here=False)


KADKHODAIE = "Kadkhodaie et al. 2024, arXiv 2310.02557"
SONG = "Song et al. 2021, arXiv 2011.13456; Karras et al. 2022, arXiv 2206.00364"

architectures.add(
    "unet", Architecture(UNet, _unet, "blind-residual", "bias-free, blind U-Net (width, blocks)", KADKHODAIE)
)
architectures.add(
    "bf-cnn",
    Architecture(
        BFCNN,
        _bf_cnn,
        "blind-residual",
        "bias-free, blind convolutions without pooling (width, layers)",
        "Mohan et al. 2020, arXiv 1906.05478; " + KADKHODAIE,
    ),
)
architectures.add(
    "ddpm++",
    Architecture(SongUNet, _ddpmpp, "edm", "U-Net with attention (model_channels, channel_mult, num_blocks)", SONG),
)
architectures.add(
    "ddpm++-no-attention",
    Architecture(SongUNet, _ddpmpp_without_attention, "edm", "the same without any attention", SONG),
)
architectures.add(
    "ncsn++",
    Architecture(SongUNet, _ncsnpp, "edm", "the same with random Fourier features and a residual image pyramid", SONG),
)
architectures.add(
    "adm",
    Architecture(
        DhariwalUNet,
        _adm,
        "edm",
        "U-Net scaled and shifted by noise level and class (model_channels, channel_mult, num_blocks)",
        "Dhariwal & Nichol 2021, arXiv 2105.05233; Karras et al. 2022, arXiv 2206.00364",
    ),
)
architectures.add(
    "dit",
    Architecture(
        DiT,
        _dit,
        "edm",
        "transformer on patches, modulated by noise level and class (hidden_size, depth, patch_size)",
        "Peebles & Xie 2023, arXiv 2212.09748",
    ),
)
architectures.add(
    "u-vit",
    Architecture(
        UViT,
        _uvit,
        "vp",
        "transformer on patches with long skip connections (embed_dim, depth, patch_size)",
        "Bao et al. 2023, arXiv 2209.12152",
    ),
)
architectures.add(
    "mlp",
    Architecture(MLP, _mlp, "edm", "fully connected, also for points in the plane (width, depth)", "this project"),
)
architectures.add(
    "edm2",
    _opened(EDM2UNet, "edm", "magnitude-preserving U-Net of EDM2", "Karras et al. 2024, arXiv 2312.02696"),
)
architectures.add(
    "k-diffusion-unet", _opened(KDiffusionUNet, "edm", "U-Net image_v1 of k-diffusion", "crowsonkb/k-diffusion")
)
architectures.add(
    "guided-unet",
    _opened(
        GuidedUNet,
        "epsilon",
        "U-Net of guided-diffusion, consistency models and flow matching",
        "Dhariwal & Nichol 2021, arXiv 2105.05233",
    ),
)
architectures.add(
    "ddpm-unet",
    _opened(
        DDPMUNet, "epsilon", "U-Net of DDPM as in ermongroup/ddim and pytorch-ddpm", "Ho et al. 2020, arXiv 2006.11239"
    ),
)
architectures.add(
    "ddpm-unet-no-attention",
    Architecture(
        DDPMUNet,
        _ddpm_without_attention,
        "epsilon",
        "the same without any attention, as analytic models are compared with (model_channels, widths, num_res_blocks)",
        "Ho et al. 2020, arXiv 2006.11239; Kamb & Ganguli 2025, arXiv 2412.20292",
    ),
)
architectures.add(
    "lucidrains-unet",
    _opened(LucidrainsUNet, "v", "U-Net of denoising-diffusion-pytorch", "lucidrains/denoising-diffusion-pytorch"),
)
