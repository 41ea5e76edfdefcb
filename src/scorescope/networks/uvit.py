"""U-ViT, the transformer with long skip connections of Bao et al., CVPR 2023, https://arxiv.org/abs/2209.12152.

Noise level, class and patches are all tokens. The first half of the blocks hands its outputs to the second half, last to
first, by concatenation; a final convolution smooths the seams of the patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorescope.networks.edm_layers import PositionalEmbedding
from scorescope.networks.labels import Classes
from scorescope.networks.transformer import Feedforward, Patches, SelfAttention, unpatch


class UViT(nn.Module):
    """A transformer told noise level and class: (B, C, H, W), (B,), (B,) -> (B, C, H, W).

    Parameter names and arguments are the published ones. A network of n classes always needs one; where a published network
    knows "no class", that is its last class.

    Args:
        img_size: side of the images.
        patch_size: side of a patch.
        in_chans: C.
        embed_dim: length of a token, even and divisible by `num_heads`.
        depth: blocks beside the middle one, even.
        num_heads: attention heads.
        mlp_ratio: hidden length of the blocks' two-layer networks, in multiples of `embed_dim`.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor on the attention's logits; one over the root of a head's length by default.
        mlp_time_embed: whether the embedding of the noise level goes through two linear maps.
        num_classes: number of classes; 0 or below for none.
        conv: whether there is a final convolution.
        skip: whether there are long skip connections.

    Raises:
        UserError: sides that do not divide into patches, a width that does not divide into heads.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        mlp_time_embed: bool = False,
        num_classes: int = -1,
        conv: bool = True,
        skip: bool = True,
    ) -> None:
        super().__init__()
        count = max(num_classes, 0)
        self.classes = Classes(count, optional=count == 0)
        self.in_chans, self.patch_size = in_chans, patch_size
        self.extras = 1 + (count > 0)
        self.patch_embed = Patches(img_size, patch_size, in_chans, embed_dim)
        self.position = PositionalEmbedding(embed_dim)
        self.time_embed: nn.Module = nn.Identity()
        if mlp_time_embed:
            self.time_embed = nn.Sequential(
                nn.Linear(embed_dim, 4 * embed_dim), nn.SiLU(), nn.Linear(4 * embed_dim, embed_dim)
            )
        self.label_emb = nn.Embedding(count, embed_dim) if count else None
        tokens = (img_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extras + tokens, embed_dim))

        def block(joins: bool) -> Block:
            return Block(embed_dim, num_heads, mlp_ratio, qkv_bias, qk_scale, joins)

        self.in_blocks = nn.ModuleList([block(False) for _ in range(depth // 2)])
        self.mid_block = block(False)
        self.out_blocks = nn.ModuleList([block(skip) for _ in range(depth // 2)])
        self.norm = nn.LayerNorm(embed_dim)
        self.decoder_pred = nn.Linear(embed_dim, patch_size**2 * in_chans)
        self.final_layer = nn.Conv2d(in_chans, in_chans, 3, padding=1) if conv else nn.Identity()
        self._start()

    def _start(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images and noise levels to the network's output.

        Args:
            x: (B, C, H, W), sides `img_size`.
            noise_labels: (B,), in the unit of the preconditioning: 0 to 999 for published networks.
            class_labels: integers (B,), for a network that has classes.

        Returns:
            (B, C, H, W).

        Raises:
            UserError: images of another size; no class for a network that needs one.
        """
        tokens: Tensor = self.patch_embed(x)
        time = self.time_embed(self.position(noise_labels).to(tokens.dtype))
        tokens = torch.cat([time[:, None], tokens], dim=1)
        if self.label_emb is not None:
            if class_labels is None:
                self.classes.check(None)
            tokens = torch.cat([self.label_emb(class_labels)[:, None], tokens], dim=1)
        tokens = tokens + self.pos_embed
        skips: list[Tensor] = []
        for block in self.in_blocks:
            tokens = block(tokens)
            skips.append(tokens)
        tokens = self.mid_block(tokens)
        for block in self.out_blocks:
            tokens = block(tokens, skips.pop())
        values = self.decoder_pred(self.norm(tokens))[:, self.extras :]
        images: Tensor = self.final_layer(unpatch(values, self.patch_size, self.in_chans))
        return images


class Block(nn.Module):
    """Attention and a two-layer network, after a linear map of the tokens and those of an earlier block if it `joins`."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, qkv_bias: bool, scale: float | None, joins: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads, qkv_bias=qkv_bias, scale=scale)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Feedforward(width, int(width * mlp_ratio), "none")
        self.skip_linear = nn.Linear(2 * width, width) if joins else None

    def forward(self, tokens: Tensor, earlier: Tensor | None = None) -> Tensor:
        """(B, L, width), and the same of an earlier block -> (B, L, width)."""
        if self.skip_linear is not None and earlier is not None:
            tokens = self.skip_linear(torch.cat([tokens, earlier], dim=2))
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out
