"""DiT, the diffusion transformer of Peebles & Xie, ICCV 2023, https://arxiv.org/abs/2212.09748.

Patches are tokens; noise level and class enter every block as shift, scale and gate of its two branches ("adaLN-Zero": all
gates start at zero, so every block starts as the identity).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.networks.edm_layers import PositionalEmbedding
from scorescope.networks.labels import Classes, fill_labels
from scorescope.networks.transformer import Feedforward, Patches, SelfAttention, sine_cosine_grid, unpatch

FREQUENCIES = 256


class DiT(nn.Module):
    """A transformer told noise level and class: (B, C, H, W), (B,), (B,) -> (B, C or 2 C, H, W).

    Parameter names and arguments are the published ones; `num_classes` may also be 0, for a network without classes.

    Args:
        input_size: side of the images.
        patch_size: side of a patch.
        in_channels: C.
        hidden_size: length of a token, divisible by 4 and by `num_heads`.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: hidden length of the blocks' two-layer networks, in multiples of `hidden_size`.
        class_dropout_prob: share of the training images shown without their class; above 0 there is a "no class" token. It
            is the training loop that hides labels, see `scorescope.networks.labels`.
        num_classes: number of classes; 0 for none.
        learn_sigma: whether C more channels are predicted, for the reverse process's variance.

    Raises:
        UserError: sides that do not divide into patches, a width that does not divide into heads.
    """

    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int = 1000,
        learn_sigma: bool = True,
    ) -> None:
        super().__init__()
        self.classes = Classes(num_classes, optional=class_dropout_prob > 0 or num_classes == 0)
        self.out_channels = in_channels * (2 if learn_sigma else 1)
        self.patch_size = patch_size
        self.x_embedder = Patches(input_size, patch_size, in_channels, hidden_size)
        self.t_embedder = NoiseEmbedder(hidden_size)
        self.y_embedder = ClassEmbedder(num_classes, self.classes.optional, hidden_size) if num_classes else None
        self.pos_embed = nn.Parameter(sine_cosine_grid(hidden_size, input_size // patch_size), requires_grad=False)
        self.blocks = nn.ModuleList([Block(hidden_size, num_heads, mlp_ratio) for _ in range(depth)])
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * self.out_channels)
        self._start()

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        if self.x_embedder.proj.bias is not None:
            nn.init.zeros_(self.x_embedder.proj.bias)
        for module in self.t_embedder.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        if self.y_embedder is not None:
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if "adaLN_modulation" in name or name.startswith("final_layer"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images and noise levels to the network's output.

        Args:
            x: (B, C, H, W), sides `input_size`.
            noise_labels: (B,), in the unit of the preconditioning.
            class_labels: integers (B,), −1 for no class; None for no class.

        Returns:
            (B, C, H, W), or (B, 2 C, H, W) if it learns a variance.

        Raises:
            UserError: images of another size; no class for a network that needs one.
        """
        condition: Tensor = self.t_embedder(noise_labels, x.dtype)  # (B, hidden)
        if self.y_embedder is not None:
            if class_labels is None:
                self.classes.check(None)
            condition = condition + self.y_embedder(fill_labels(class_labels, len(x), x.device))
        tokens = self.x_embedder(x) + self.pos_embed  # (B, L, hidden)
        for block in self.blocks:
            tokens = block(tokens, condition)
        return unpatch(self.final_layer(tokens, condition), self.patch_size, self.out_channels)


class NoiseEmbedder(nn.Module):
    """A number as sines and cosines, then two linear maps: (B,) -> (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position = PositionalEmbedding(FREQUENCIES)
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, noise_labels: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,) -> (B, width) of that dtype."""
        embedding: Tensor = self.mlp(self.position(noise_labels).to(dtype))
        return embedding


class ClassEmbedder(nn.Module):
    """A row for every class, and one more for no class if that is possible: (B,) -> (B, width)."""

    def __init__(self, count: int, optional: bool, width: int) -> None:
        super().__init__()
        self.count = count
        self.embedding_table = nn.Embedding(count + int(optional), width)

    def forward(self, labels: Tensor) -> Tensor:
        """Integers (B,), −1 for no class -> (B, width)."""
        rows: Tensor = self.embedding_table(torch.where(labels < 0, self.count, labels))
        return rows


class Block(nn.Module):
    """Attention and a two-layer network, each shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads, qkv_bias=True)
        self.mlp = Feedforward(width, int(width * mlp_ratio), "tanh")
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """(B, L, width), (B, width) -> (B, L, width)."""
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.adaLN_modulation(condition)[:, None].chunk(6, dim=2)
        tokens = tokens + gate * self.attn(_modulate(tokens, shift, scale))
        out: Tensor = tokens + gate_mlp * self.mlp(_modulate(tokens, shift_mlp, scale_mlp))
        return out


class FinalLayer(nn.Module):
    """Tokens to the values of their patches."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """(B, L, width), (B, width) -> (B, L, outputs)."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=2)
        values: Tensor = self.linear(_modulate(tokens, shift, scale))
        return values


def _modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-6), 1 + scale)
