"""The sizes of networks that the papers train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Over what fits the images: the sizes that the papers train, on images of 32×32 where they train several.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "unet": {"width": 64},
    "bf-cnn": {"width": 64, "layers": 21},
    "ddpm++": {"model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4, "dropout": 0.13},
    "ddpm++-no-attention": {"model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4, "dropout": 0.13},
    "ncsn++": {"model_channels": 128, "channel_mult": [2, 2, 2], "num_blocks": 4, "dropout": 0.13},
    "adm": {"model_channels": 192, "channel_mult": [1, 2, 3], "num_blocks": 3, "dropout": 0.1},
    "ddpm-unet-no-attention": {
        "model_channels": 128,
        "widths": [128, 256, 384, 512],
        "groups": 32,
        "dropout": 0.15,
    },
    "dit": {"patch_size": 2, "hidden_size": 384, "depth": 12, "num_heads": 6},
    "u-vit": {"patch_size": 2, "embed_dim": 512, "depth": 12, "num_heads": 8},
    "mlp": {"width": 1024, "depth": 6},
}
