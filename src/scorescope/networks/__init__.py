"""Architectures as plain modules, what turns their output into a denoised image, and checkpoints that are safe to open."""

from scorescope.networks.checkpoint import NetworkConfig, build_network, load_network, save_network
from scorescope.networks.preconditioning import preconditionings
from scorescope.networks.registry import Architecture, architectures
from scorescope.networks.unet import UNet

__all__ = [
    "Architecture",
    "NetworkConfig",
    "UNet",
    "architectures",
    "build_network",
    "load_network",
    "preconditionings",
    "save_network",
]
