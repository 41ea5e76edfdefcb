"""Mixtures of Gaussians of whole images and of windows of several sizes, put together by what they do to unseen images.

Memorization looks an image up, patches look up its parts. A mixture of Gaussians *filters*: it goes on between and beyond the
images that it was fitted to, as networks do, and it does so knowing what kind of image, and what kind of window, it sees
(`gaussian-mixture`, `window_mixtures`). Which size says most depends on the noise and on the frequency: at every level, and in
each frequency band, the sizes are mixed with the coefficients that leave least error on held-out images (`stacked`).
It never sees a network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser
from scorescope.denoisers.gaussian import GaussianDenoiser
from scorescope.denoisers.gaussian_mixture import GaussianMixtureDenoiser
from scorescope.denoisers.registry import DenoiserEntry, denoisers
from scorescope.denoisers.stacked import HELD_OUT_SHARE, StackedDenoiser
from scorescope.denoisers.window_mixtures import WindowMixtureDenoiser
from scorescope.foundation import UserError

# (side, stride, components) of windows for images of 28 pixels; sides and strides go with the image.
WINDOWS = ((5, 3, 32), (9, 3, 48), (13, 5, 48))
_EDGE = 28
BANDS, FITTED_ON = 3, 256


class LocalMixturesDenoiser(StackedDenoiser):
    """The mixture, over sizes, of mixtures of Gaussians.

    Args:
        images: the training set; a tenth of it is held out to fit the coefficients.
        windows: (side, stride, components) of the windows of each size, for images whose shorter side is 28.
        components: of the mixture of whole images.
        levels: noise levels at which coefficients are fitted, each when it is first needed; 18 EDM levels by default.
        seed: of what is held out, of the search for components and of the noise.

    Raises:
        UserError: fewer than two images.
    """

    name = "local-mixtures"

    def __init__(
        self,
        images: ImageSet,
        *,
        windows: Sequence[tuple[int, int, int]] = WINDOWS,
        components: int = 64,
        levels: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if images.stored < 2:
            raise UserError(
                f"{images.name}: mixtures need at least 2 images, one of them held out, found {images.stored}"
            )
        kept = images.stored - max(1, round(HELD_OUT_SHARE * images.stored))
        order = torch.randperm(images.stored, generator=torch.Generator().manual_seed(seed)).numpy()
        training, held_out = images.subset(sorted(order[:kept].tolist())), images.subset(order[kept:])
        whole = GaussianMixtureDenoiser(training, components=components, seed=seed)
        members: list[Denoiser] = [GaussianDenoiser(training), whole]
        for side, stride, count in scaled(windows, min(images.image_shape[1:])):
            members.append(WindowMixtureDenoiser(training, whole, side, stride, components=count, seed=seed))
        super().__init__(members, held_out, bands=BANDS, count=FITTED_ON, levels=levels, seed=seed)


def scaled(windows: Sequence[tuple[int, int, int]], edge: int) -> list[tuple[int, int, int]]:
    """Windows for images of another size, in proportion: odd sides from 3, none twice, none as large as the image."""
    found: dict[int, tuple[int, int, int]] = {}
    for side, stride, count in windows:
        own = max(3, 2 * round((side * edge / _EDGE - 1) / 2) + 1)
        if own < edge:
            found.setdefault(own, (own, max(1, round(stride * edge / _EDGE)), count))
    return list(found.values())


denoisers.add(
    LocalMixturesDenoiser.name,
    DenoiserEntry(
        LocalMixturesDenoiser,
        "linear filters for each kind of image and window",
        "this project; mixtures in windows: Zoran & Weiss, ICCV 2011; stacking: Breiman, Machine Learning 24 (1996)",
        f"training images, of which {HELD_OUT_SHARE:.0%} are held out",
        costly=True,
    ),
)
