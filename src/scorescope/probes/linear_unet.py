"""At one noisy image a bias-free U-Net is a linear map: made explicit, its whole Jacobian costs far less than a pass a row.

ReLU multiplies by zero or one, which is known once the network has seen the image, and everything else in it is linear. So
the Jacobian is a chain of convolutions, masks and poolings, whose rows can be followed back only where they are not zero:

- A block of ``2^b × 2^b`` output values (b poolings) looks at a window of the features at each level of the decoder: few of
  the fine features and nearly all of the coarse ones.
- A block of as many input values reaches a window of the encoder's features, likewise.
- Followed back to the encoder's last features, and forward to them, the two meet in a matrix product. What the block sees
  through the finer skip connections is followed back to the image, in windows around it.

For 80×80 pixels and three poolings this is about a quarter of the operations of one backward pass a pixel. It is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation.progress import track
from scorescope.networks import UNet
from scorescope.networks.bias_free import BiasFreeBatchNorm
from scorescope.networks.preconditioning import BlindResidual
from scorescope.probes.linearization import PRODUCTS_AT_ONCE, Linearization
from scorescope.probes.local_features import (
    Local,
    Window,
    convolved,
    downsampled,
    joined,
    pooled,
    unpooled,
    upsampled,
)


def is_linear_unet(denoiser: Denoiser) -> bool:
    """Whether `LinearUNet` knows the Jacobian of this denoiser: a `UNet` with the preconditioning ``blind-residual``."""
    return (
        isinstance(denoiser, NetworkDenoiser)
        and type(denoiser.network) is UNet
        and type(denoiser.preconditioning) is BlindResidual
    )


@dataclass(frozen=True)
class _Layer:
    """A 3×3 convolution, and what the ReLU after it lets through.

    Attributes:
        weight: with the normalization after it folded in, (outputs, inputs, 3, 3).
        adjoint: the weight that carries cotangents back, (inputs, outputs, 3, 3).
        mask: 0 or 1, (1, outputs, H, W); None without a ReLU.
    """

    weight: Tensor
    adjoint: Tensor
    mask: Tensor | None

    def forward(self, tangent: Local, height: int, width: int) -> Local:
        found = convolved(tangent, self.weight, height, width)
        return found if self.mask is None else found.times(self.mask)

    def back(self, cotangent: Local, height: int, width: int) -> Local:
        passed = cotangent if self.mask is None else cotangent.times(self.mask)
        return convolved(passed, self.adjoint, height, width)


@dataclass(frozen=True)
class _Look:
    """What a block of outputs looks at: cotangents, one a value of the block.

    Attributes:
        direct: at the image, through all but the coarsest skip connection; None if there is no other.
        last: at the encoder's last features, through the coarsest skip connection.
        middle: at the same features after pooling, through the middle block.
    """

    direct: Local | None
    last: Local
    middle: Local


class LinearUNet(Linearization):
    """The Jacobian of a `UNet` with the preconditioning ``blind-residual`` at one noisy image, exact.

    Args:
        denoiser: one for which `is_linear_unet` holds.
        noisy: one image, float (C, H, W).
        products_at_once: how many vectors go through the network together.

    Attributes:
        denoised: the denoiser's output there, (C, H, W).

    Raises:
        UserError: as `Denoiser.forward`.
    """

    def __init__(self, denoiser: NetworkDenoiser, noisy: Tensor, *, products_at_once: int = PRODUCTS_AT_ONCE) -> None:
        image = denoiser.checked(noisy.detach()[None], None)[0]
        super().__init__(image[0], products_at_once)
        network: UNet = denoiser.network  # type: ignore[assignment]
        self._depth = network.blocks
        self._sides = [(image.shape[2] >> level, image.shape[3] >> level) for level in range(self._depth + 1)]
        with torch.no_grad():
            self.denoised: Tensor = denoiser(image)[0]
            self._follow(network, (image + 1) / 2)

    def rows(self, vectors: Tensor) -> Tensor:
        """See `Linearization.rows`."""
        return self._in_parts(lambda part: part - self._back(part), vectors)

    def columns(self, vectors: Tensor) -> Tensor:
        """See `Linearization.columns`."""
        return self._in_parts(lambda part: part - self._forward(part), vectors)

    def matrix(self) -> Tensor:
        """See `Linearization.matrix`; takes memory for what all inputs reach as well."""
        found = torch.empty(self.dimension, self.dimension, dtype=self.dtype, device=self.device)
        with torch.no_grad():
            inputs = [(self._places(block), *self._reach(block)) for row in self._blocks() for block in row]
            for row in track(list(self._blocks()), "the Jacobian, block by block"):
                places = torch.cat([self._places(block) for block in row])
                found[places] = self._rows_of([self._look(block) for block in row], inputs)
        found.neg_().diagonal().add_(1)
        return found

    # Setting up: one pass of the image, which leaves the masks.

    def _follow(self, network: UNet, image: Tensor) -> None:
        features, skips = image, []
        self._encoder, self._decoder = [], [[] for _ in range(self._depth)]  # type: ignore[var-annotated]
        for block in network.encoder:
            layers, features = _layers(block, features)
            self._encoder.append(layers)
            skips.append(features)
            features = network.pool(features)
        self._middle, features = _layers(network.mid_block, features)
        ups = [network.upsample[str(level)] for level in range(self._depth)]
        self._upsampling = [_last(up.get_parameter("weight").detach()) for up in ups]
        for level in reversed(range(self._depth)):
            features = torch.cat([ups[level](features), skips[level]], 1)
            self._decoder[level], features = _layers(network.decoder[str(level)], features)

    # Whole images through the network, forward and back.

    def _forward(self, tangents: Tensor) -> Tensor:
        whole = Local(_last(tangents), self._whole(0))
        skips = []
        for level in range(self._depth):
            whole = self._through(self._encoder[level], whole, level)
            skips.append(whole)
            whole = pooled(whole)
        whole = self._through(self._middle, whole, self._depth)
        for level in reversed(range(self._depth)):
            whole = joined(upsampled(whole, self._upsampling[level]), skips[level])
            whole = self._through(self._decoder[level], whole, level)
        return whole.values.contiguous()

    def _back(self, cotangents: Tensor) -> Tensor:
        skips, middle = self._decoder_back(Local(_last(cotangents), self._whole(0)))
        return self._encoder_back(skips, unpooled(middle), self._depth - 1).values.contiguous()

    def _decoder_back(self, cotangent: Local) -> tuple[list[Local], Local]:
        """From the output to the skip connections, finest first, and to the pooled features of the last."""
        skips = []
        for level in range(self._depth):
            cotangent = self._back_through(self._decoder[level], cotangent, level)
            count = self._upsampling[level].shape[1]
            skips.append(cotangent.channels(count, cotangent.values.shape[1]))
            cotangent = downsampled(cotangent.channels(0, count), self._upsampling[level])
        return skips, self._back_through(self._middle, cotangent, self._depth)

    def _encoder_back(self, skips: list[Local], carried: Local | None, level: int) -> Local:
        """From the skip connections up to a level, and what comes from below it, to the image."""
        for here in reversed(range(level + 1)):
            cotangent = skips[here] if carried is None else carried.plus(skips[here])
            cotangent = self._back_through(self._encoder[here], cotangent, here)
            carried = unpooled(cotangent) if here else cotangent
        assert carried is not None
        return carried

    def _through(self, layers: list[_Layer], tangent: Local, level: int) -> Local:
        for layer in layers:
            tangent = layer.forward(tangent, *self._sides[level])
        return tangent

    def _back_through(self, layers: list[_Layer], cotangent: Local, level: int) -> Local:
        for layer in reversed(layers):
            cotangent = layer.back(cotangent, *self._sides[level])
        return cotangent

    # Blocks of the image: what they reach and what they look at.

    def _look(self, block: Window) -> _Look:
        skips, middle = self._decoder_back(self._block_units(block))
        direct = self._encoder_back(skips, None, self._depth - 2) if self._depth > 1 else None
        return _Look(direct, skips[-1], middle)

    def _reach(self, block: Window) -> tuple[_Reached, _Reached]:
        """Of each value of a block of inputs, the encoder's last features, and the same after pooling."""
        tangent = self._block_units(block)
        for level in range(self._depth):
            tangent = self._through(self._encoder[level], tangent if level == 0 else pooled(tangent), level)
        return _Reached.of(tangent), _Reached.of(pooled(tangent))

    def _rows_of(self, looks: list[_Look], inputs: list[tuple[Tensor, _Reached, _Reached]]) -> Tensor:
        """The network's Jacobian for a row of blocks of outputs, (values of all blocks, d)."""
        last = _Looked.of([look.last for look in looks], self._sides[self._depth - 1][1])
        middle = _Looked.of([look.middle for look in looks], self._sides[self._depth][1])
        found = torch.empty(last.rows.shape[2], self.dimension, dtype=self.dtype, device=self.device)
        for places, features, coarse in inputs:
            met = torch.zeros(len(places), len(found), dtype=self.dtype, device=self.device)
            last.meet(features, met)
            middle.meet(coarse, met)
            found[:, places] = met.T
        start = 0
        for look in looks:
            count = len(look.last.values)
            if look.direct is not None:
                image = found[start : start + count].view(count, *self.image_shape)
                look.direct.window.of(image).add_(look.direct.values)
            start += count
        return found

    def _blocks(self) -> Iterator[list[Window]]:
        """The image in blocks, row by row, aligned with the poolings."""
        (height, width), side = self._sides[0], 2**self._depth
        for top in range(0, height, side):
            yield [Window(top, top + side, left, left + side) for left in range(0, width, side)]

    def _block_units(self, block: Window) -> Local:
        """One image for each value of a block, channel by channel."""
        count = self.image_shape[0] * block.size[0] * block.size[1]
        units = torch.eye(count, dtype=self.dtype, device=self.device)
        return Local(_last(units.reshape(count, self.image_shape[0], *block.size)), block)

    def _places(self, block: Window) -> Tensor:
        """Where the values of a block are in an image as a vector."""
        return block.of(torch.arange(self.dimension, device=self.device).reshape(self.image_shape)).flatten()

    def _whole(self, level: int) -> Window:
        height, width = self._sides[level]
        return Window(0, height, 0, width)


def _layers(block: nn.Module, features: Tensor) -> tuple[list[_Layer], Tensor]:
    """The layers of a block of a `UNet`, linear at these features, and what it makes of them."""
    modules, found = list(block.children()), []
    for place, module in enumerate(modules):
        if not isinstance(module, nn.Conv2d):
            continue
        weight, mask = module.weight.detach(), None
        features = module(features)
        for after in modules[place + 1 :]:
            if isinstance(after, nn.Conv2d):
                break
            features = after(features)
            if isinstance(after, BiasFreeBatchNorm):
                weight = weight * (after.gammas / after.running_sd).detach().reshape(-1, 1, 1, 1)
            elif isinstance(after, nn.ReLU):
                mask = _last((features > 0).to(features.dtype))
        found.append(_Layer(_last(weight), _last(weight.transpose(0, 1).flip(2, 3)), mask))
    return found, features


class _Reached(NamedTuple):
    """Tangents that are ready to meet cotangents.

    Attributes:
        rows: for each row of the window the tangents' values, all channels of a place together, (h, K, w·C).
        window: of h × w.
    """

    rows: Tensor
    window: Window

    @classmethod
    def of(cls, tangents: Local) -> _Reached:
        return cls(tangents.values.permute(2, 0, 3, 1).flatten(2).contiguous(), tangents.window)


class _Looked(NamedTuple):
    """Cotangents that are ready to meet tangents, which then takes no copies.

    Attributes:
        rows: for each row of the grid from `top` on the cotangents' values, (h, W·C, K).
        top: the first row.
        channels: C.
    """

    rows: Tensor
    top: int
    channels: int

    @classmethod
    def of(cls, looks: list[Local], width: int) -> _Looked:
        """Those of neighbouring blocks one after another, on their rows of a grid of that width."""
        tops, bottoms = [look.window.top for look in looks], [look.window.bottom for look in looks]
        window = Window(min(tops), max(bottoms), 0, width)
        parts = [look.on(window).values.permute(2, 3, 1, 0).flatten(1, 2) for look in looks]
        return cls(torch.cat(parts, 2), window.top, looks[0].values.shape[1])

    def meet(self, tangents: _Reached, total: Tensor) -> None:
        """Add the inner products of all tangents with all cotangents to `total`, (tangents, cotangents)."""
        there = tangents.window
        first, last = max(self.top, there.top), min(self.top + len(self.rows), there.bottom)
        columns = slice(there.left * self.channels, there.right * self.channels)
        for row in range(first, last):
            total.addmm_(tangents.rows[row - there.top], self.rows[row - self.top, columns])


def _last(values: Tensor) -> Tensor:
    """Channels last in memory, which convolutions on a processor prefer."""
    return values.contiguous(memory_format=torch.channels_last)
