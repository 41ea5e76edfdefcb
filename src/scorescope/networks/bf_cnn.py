"""BF-CNN, the bias-free, blind convolutional denoiser of Mohan et al., ICLR 2020, https://arxiv.org/abs/1906.05478.

Convolutions of one width without any pooling, ReLU after each, `BiasFreeBatchNorm` between the two in all but the first and
the last. It sees no sigma, and predicts the noise: the denoised image is ``noisy − net(noisy)``. Kadkhodaie et al., ICLR 2024
(https://arxiv.org/abs/2310.02557) use it to show that their findings do not depend on the U-Net.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from scorescope.foundation import UserError
from scorescope.networks.bias_free import BiasFreeBatchNorm


class BFCNN(nn.Module):
    """Bias-free convolutional network: (B, C, H, W) noisy images -> (B, C, H, W) estimate of the noise.

    Parameter names are the published ones, so that published weights load.

    Args:
        channels: image channels C.
        width: channels of every layer between; 64 in the paper.
        layers: convolutions, at least 2; 21 in the paper, which sees 43×43 pixels around each.
        first_layer_linear: whether the first convolution has no ReLU after it, as in the lab's later networks.

    Raises:
        UserError: fewer than 2 layers.
    """

    def __init__(self, channels: int = 1, width: int = 64, layers: int = 21, first_layer_linear: bool = False) -> None:
        super().__init__()
        self.first_layer_linear = first_layer_linear
        if layers < 2:
            raise UserError(f"a BF-CNN has at least 2 layers, found {layers}")
        widths = [channels, *[width] * (layers - 1), channels]
        self.conv_layers = nn.ModuleList(
            [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False) for inputs, outputs in itertools.pairwise(widths)]
        )
        self.BN_layers = nn.ModuleList([BiasFreeBatchNorm(width) for _ in range(layers - 2)])

    def forward(self, noisy: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x: Tensor = self.conv_layers[0](noisy)
        x = x if self.first_layer_linear else x.relu()
        for convolve, normalize in zip(self.conv_layers[1:-1], self.BN_layers, strict=True):
            x = normalize(convolve(x)).relu()
        noise: Tensor = self.conv_layers[-1](x)
        return noise
