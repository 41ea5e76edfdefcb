"""What DiT and U-ViT share: patches as tokens, self-attention and the two-layer network behind it.

Parameter names are those of both papers' published networks (``attn.qkv``, ``attn.proj``, ``mlp.fc1``, ``mlp.fc2``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.foundation import UserError


class Patches(nn.Module):
    """Images to tokens: one linear map of every patch.

    Args:
        side: side of the images.
        patch: side of a patch.
        channels: channels of the images.
        width: length of a token.

    Raises:
        UserError: a side that does not divide into patches.
    """

    def __init__(self, side: int, patch: int, channels: int, width: int) -> None:
        super().__init__()
        if side % patch:
            raise UserError(f"images of side {side} do not divide into patches of side {patch}")
        self.side, self.patch = side, patch
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, tokens, width), row by row. Raises UserError for images of another size."""
        if tuple(images.shape[2:]) != (self.side, self.side):
            raise UserError(f"this network takes images of {self.side}×{self.side}, found {tuple(images.shape[2:])}")
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


def unpatch(tokens: Tensor, patch: int, channels: int) -> Tensor:
    """Tokens that hold (row, column, channel) of their patch to images: (B, n², patch² C) -> (B, C, n·patch, n·patch)."""
    across = round(tokens.shape[1] ** 0.5)
    pieces = tokens.reshape(len(tokens), across, across, patch, patch, channels)
    images = pieces.permute(0, 5, 1, 3, 2, 4)  # (B, C, n, patch, n, patch)
    return images.reshape(len(tokens), channels, across * patch, across * patch)


class SelfAttention(nn.Module):
    """Every token attends to every other.

    Args:
        width: length of a token.
        heads: attention heads; `width` divides by it.
        qkv_bias: whether queries, keys and values have a bias.
        scale: factor on the logits; ``(width / heads)^(−1/2)`` by default.

    Raises:
        UserError: a width that does not divide into heads.
    """

    def __init__(self, width: int, heads: int, *, qkv_bias: bool, scale: float | None = None) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"a width of {width} does not divide into {heads} heads")
        self.heads = heads
        self.scale = scale if scale is not None else (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        batch, length, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, width / heads)
        # written out: PyTorch's fused attention has no second derivatives on the CPU, which Jacobian products need
        weights = ((self.scale * query) @ key.transpose(2, 3)).softmax(dim=3).to(value.dtype)
        attended: Tensor = self.proj((weights @ value).transpose(1, 2).reshape(batch, length, width))
        return attended


class Feedforward(nn.Module):
    """Two linear maps with a GELU between them.

    Args:
        width: length of a token.
        hidden: length between the two.
        approximate: of the GELU, as the published network has it.
    """

    def __init__(self, width: int, hidden: int, approximate: Literal["none", "tanh"]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.approximate = approximate

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, width) -> (B, L, width)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens), approximate=self.approximate))
        return out


def sine_cosine_grid(width: int, across: int) -> Tensor:
    """Fixed embedding of the places of an n×n grid, float32 (1, n², width).

    The first half of every token encodes the column, the second the row: sines, then cosines, of frequencies 1 to 1/10,000.
    Raises UserError unless `width` is a multiple of 4.
    """
    if width % 4:
        raise UserError(f"places are embedded in a multiple of 4 values, found a width of {width}")
    frequencies = 10_000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.outer(torch.arange(across, dtype=torch.float64), frequencies)
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # (n, width / 2)
    rows, columns = line[:, None].expand(-1, across, -1), line[None].expand(across, -1, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, across**2, width).float()
