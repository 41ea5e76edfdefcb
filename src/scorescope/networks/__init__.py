"""Architectures as plain modules, what turns their output into a denoised image, and checkpoints that are safe to open."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.networks.bf_cnn import BFCNN
    from scorescope.networks.checkpoint import NetworkConfig, build_network, load_network, save_network
    from scorescope.networks.dhariwal_unet import DhariwalUNet
    from scorescope.networks.dit import DiT
    from scorescope.networks.labels import NO_CLASS, Classes, classes_of
    from scorescope.networks.mlp import MLP
    from scorescope.networks.parametrization import ForeignPreconditioning
    from scorescope.networks.preconditioning import Preconditioning, preconditioning_from, preconditionings
    from scorescope.networks.readers.opening import OpenedNetwork, open_checkpoint
    from scorescope.networks.readers.words import arguments_from
    from scorescope.networks.registry import Architecture, architectures
    from scorescope.networks.song_unet import SongUNet
    from scorescope.networks.unet import UNet
    from scorescope.networks.uvit import UViT
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "BFCNN",
    "MLP",
    "NO_CLASS",
    "Architecture",
    "Classes",
    "DhariwalUNet",
    "DiT",
    "ForeignPreconditioning",
    "NetworkConfig",
    "OpenedNetwork",
    "Preconditioning",
    "SongUNet",
    "UNet",
    "UViT",
    "architectures",
    "arguments_from",
    "build_network",
    "classes_of",
    "load_network",
    "open_checkpoint",
    "preconditioning_from",
    "preconditionings",
    "save_network",
]
