"""A multilayer perceptron on flattened images: for points in the plane, and as the network without any notion of space.

Every block normalizes its input image by image (no batch statistics, so that a denoised image does not depend on the others),
adds the embedding of noise level and class to the hidden layer, and adds its output to its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError
from scorescope.networks.edm_layers import PositionalEmbedding
from scorescope.networks.labels import Classes, one_hot

FREQUENCIES = 64


class MLP(nn.Module):
    """Fully connected, told noise level and class: (B, C, H, W), (B,), (B,) -> (B, C, H, W).

    Args:
        image_shape: (C, H, W); points in the plane are (1, 1, 2).
        width: hidden units.
        depth: blocks of two layers.
        num_classes: number of classes; 0 for none. It also works without a class.
    """

    def __init__(
        self, image_shape: Sequence[int] = (1, 1, 2), width: int = 128, depth: int = 3, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.classes = Classes(num_classes)
        self.image_shape = tuple(image_shape)
        values = math.prod(self.image_shape)
        self.position = PositionalEmbedding(FREQUENCIES)
        self.embed = nn.Linear(FREQUENCIES + num_classes, width)
        self.first = nn.Linear(values, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.last = nn.Linear(width, values)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images and noise levels to the network's output.

        Args:
            x: (B, C, H, W).
            noise_labels: (B,), in the unit of the preconditioning.
            class_labels: integers (B,), −1 for no class; None for no class.

        Returns:
            (B, C, H, W).

        Raises:
            UserError: images of another shape.
        """
        if tuple(x.shape[1:]) != self.image_shape:
            raise UserError(f"this network takes images {self.image_shape}, found {tuple(x.shape[1:])}")
        condition = self.position(noise_labels)
        if self.classes.count:
            labels = one_hot(class_labels, self.classes.count, len(x), x.device)
            condition = torch.cat([condition, labels.to(condition.dtype)], dim=1)
        embedding = functional.silu(self.embed(condition.to(x.dtype)))
        hidden = self.first(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, embedding)
        output: Tensor = self.last(functional.silu(hidden)).reshape(x.shape)
        return output


class Block(nn.Module):
    """Two layers around a shortcut: (B, width), (B, width) -> (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.condition = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """Add this block's output to its input."""
        inner = functional.silu(self.inner(self.norm(hidden)) + self.condition(embedding))
        added: Tensor = hidden + self.outer(inner)
        return added
