"""The bias-free, blind U-Net of Kadkhodaie et al., ICLR 2024, https://arxiv.org/abs/2310.02557, appendix A.

Encoder blocks of two 3×3 convolutions joined by 2×2 average pooling, a middle block, decoder blocks joined by 2×2
transposed convolutions, skip connections by concatenation; ReLU and `BiasFreeBatchNorm` after every convolution but the
first and the last. It sees no sigma, and predicts the noise: the denoised image is ``noisy − net(noisy)``.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from scorescope.foundation import UserError
from scorescope.networks.bias_free import BiasFreeBatchNorm


class UNet(nn.Module):
    """Bias-free U-Net: (B, C, H, W) noisy images -> (B, C, H, W) estimate of the noise.

    Parameter names are the published ones, so that published weights load.

    Args:
        channels: image channels C.
        width: channels of the first block; block b has ``width · 2^b``. 64 in the paper.
        blocks: encoder blocks, hence poolings; sides must be divisible by ``2^blocks``. 3 in the paper for 80 pixels.
    """

    def __init__(self, channels: int = 1, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = blocks
        widths = [width * 2**b for b in range(blocks + 1)]
        self.pool = nn.AvgPool2d(2)
        first = nn.Sequential(
            _conv(channels, width), nn.ReLU(), _conv(width, width), BiasFreeBatchNorm(width), nn.ReLU()
        )
        self.encoder = nn.ModuleList([first, *(_block(widths[b - 1], widths[b]) for b in range(1, blocks))])
        self.mid_block = _block(widths[blocks - 1], widths[blocks])
        upsample, decoder = OrderedDict[str, nn.Module](), OrderedDict[str, nn.Module]()
        for b in reversed(range(blocks)):
            upsample[str(b)] = nn.ConvTranspose2d(widths[b + 1], widths[b], 2, stride=2, bias=False)
            decoder[str(b)] = _block(2 * widths[b], widths[b])
        last = nn.Sequential(_conv(2 * width, width), BiasFreeBatchNorm(width), nn.ReLU(), _conv(width, channels))
        decoder["0"] = last
        self.upsample = nn.ModuleDict(upsample)
        self.decoder = nn.ModuleDict(decoder)

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W). Raises UserError if a side is not divisible by ``2^blocks``."""
        if noisy.shape[-1] % 2**self.blocks or noisy.shape[-2] % 2**self.blocks:
            raise UserError(
                f"a UNet of {self.blocks} blocks takes sides divisible by {2**self.blocks}, found {tuple(noisy.shape[-2:])}"
            )
        x: Tensor = noisy
        skips: list[Tensor] = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
            x = self.pool(x)
        x = self.mid_block(x)
        for b in reversed(range(self.blocks)):
            x = self.upsample[str(b)](x)
            x = self.decoder[str(b)](torch.cat([x, skips[b]], dim=1))
        return x


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(inputs, outputs),
        BiasFreeBatchNorm(outputs),
        nn.ReLU(),
        _conv(outputs, outputs),
        BiasFreeBatchNorm(outputs),
        nn.ReLU(),
    )
