"""The data sets that have a name: what they are, their options, and how their images are made.

An entry makes two streams of images, for training and for testing; `scorescope.data.loading` stores and opens them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pydantic

from scorescope.data import fashion_mnist, photographs
from scorescope.data.images import Pixels, to_float, to_uint8
from scorescope.data.splits import train_test_split
from scorescope.foundation import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK = 500
_GENERATED = "Kadkhodaie et al. 2024, https://arxiv.org/abs/2310.02557"
_NO_TERMS = "generated, no terms"


class Options(pydantic.BaseModel):
    """Options of a data set; unknown ones are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class FashionMnistOptions(Options):
    """Options of Fashion-MNIST.

    Attributes:
        path: folder with the four files; where Debian puts them, or a download, by default.
    """

    # Not part of what is made (contents are checked), so not part of the cache's key.
    path: Path | None = pydantic.Field(default=None, exclude=True)


class DrawnOptions(Options):
    """Options of everything that is drawn at random.

    Attributes:
        n: number of training images; those of a smaller n are the first of a larger one.
        test_n: number of test images, drawn independently.
        size: side in pixels.
        seed: of the draws.
    """

    n: int = pydantic.Field(default=10_000, ge=1)
    test_n: int = pydantic.Field(default=1_000, ge=1)
    size: int = pydantic.Field(default=80, ge=8, le=1024)
    seed: int = pydantic.Field(default=0, ge=0)


class PatchOptions(DrawnOptions):
    """Options of patches of photographs.

    Attributes:
        color: red, green and blue instead of grey, from the colour photographs alone.
    """

    n: int = pydantic.Field(default=20_000, ge=1)
    test_n: int = pydantic.Field(default=2_000, ge=1)
    size: int = pydantic.Field(default=32, ge=4, le=128)
    color: bool = False


class CAlphaOptions(DrawnOptions):
    """Options of C^α images.

    Attributes:
        alpha: regularity of the contour.
        background: regularity of the two sides; `alpha` by default.
    """

    alpha: float = pydantic.Field(default=2.0, ge=0, le=20)
    background: float | None = pydantic.Field(default=None, ge=0, le=20)


class SinusoidOptions(DrawnOptions):
    """Options of sinusoids.

    Attributes:
        fx: periods per image along a row.
        fy: periods per image down a column.
    """

    fx: float = pydantic.Field(default=2.0, allow_inf_nan=False)
    fy: float = pydantic.Field(default=3.0, allow_inf_nan=False)


class Block(NamedTuple):
    """Some images of a data set: uint8 (n, C, H, W), and int64 (n,) labels if it has classes."""

    pixels: Pixels
    labels: npt.NDArray[np.int64] | None = None


class Stream(NamedTuple):
    """All images of one part of a data set: how many, and the images in blocks of 500."""

    length: int
    blocks: Iterable[Block]


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class BuiltinDataset(Generic[OptionsT]):
    """A data set by name.

    Args:
        description: one line, with the images' shape.
        source: where it comes from, with an address.
        licence: terms of use.
        options: what can be asked of it.
        make: from options to training and test images.
        classes: names of the classes, if it has any.
        revision: raised when the same options begin to give other images, so that caches are made anew.
    """

    description: str
    source: str
    licence: str
    options: type[OptionsT]
    make: Callable[[OptionsT], tuple[Stream, Stream]]
    classes: tuple[str, ...] = ()
    revision: int = 1


builtin_datasets: Registry[BuiltinDataset[Any]] = Registry("data set")


def _fashion_mnist(options: FashionMnistOptions) -> tuple[Stream, Stream]:
    train, test = fashion_mnist.read_fashion_mnist(options.path)
    return _blocks(train.pixels, train.labels), _blocks(test.pixels, test.labels)


def _digits(options: Options) -> tuple[Stream, Stream]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    train, test = train_test_split(len(pixels), 297, seed=0)
    return _blocks(pixels[train], labels[train]), _blocks(pixels[test], labels[test])


def _natural_patches(options: PatchOptions) -> tuple[Stream, Stream]:
    def stream(count: int, test: bool) -> Stream:
        drawn = photographs.patches(count, options.size, colour=options.color, test=test, seed=options.seed)
        return Stream(count, map(Block, drawn))

    return stream(options.n, False), stream(options.test_n, True)


def _c_alpha(options: CAlphaOptions) -> tuple[Stream, Stream]:
    from scorescope.data import generated

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return generated.draw_c_alpha(
            count, options.size, options.alpha, generator, background_alpha=options.background
        )

    return _drawn(options, draw)


def _disks(options: DrawnOptions) -> tuple[Stream, Stream]:
    from scorescope.data import generated

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return generated.render_disks(generated.draw_disk_parameters(count, options.size, generator), options.size)

    return _drawn(options, draw)


def _ray(options: DrawnOptions) -> tuple[Stream, Stream]:
    from scorescope.data import generated

    image = ray_image(options.size)

    def draw(count: int, generator: torch.Generator) -> Tensor:
        return generated.render_ray(generated.draw_ray_parameters(count, generator), image)

    return _drawn(options, draw)


def _sinusoids(options: SinusoidOptions) -> tuple[Stream, Stream]:
    from scorescope.data import generated

    def draw(count: int, generator: torch.Generator) -> Tensor:
        parameters = generated.draw_sinusoid_parameters(count, generator)
        return generated.render_sinusoids(parameters, options.size, (options.fx, options.fy))

    return _drawn(options, draw)


def ray_image(size: int) -> Tensor:
    """The image that ``ray`` rescales, scikit-image's camera man, float32 (1, size, size) in [-1, 1]."""
    from scorescope.data.importing import square

    return to_float(np.asarray(square(photographs.photograph("camera.png"), size)))[None]


def _drawn(options: DrawnOptions, draw: Callable[[int, torch.Generator], Tensor]) -> tuple[Stream, Stream]:
    """Streams of images from a function of a count and a generator, one generator for each part."""
    import torch

    def blocks(count: int, part: int) -> Iterator[Block]:
        state = np.random.SeedSequence([options.seed, part]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
        for start in range(0, count, BLOCK):
            # Whole blocks are drawn, then cut: the images do not depend on how many follow.
            yield Block(to_uint8(draw(BLOCK, generator)[: count - start]))

    return Stream(options.n, blocks(options.n, 0)), Stream(options.test_n, blocks(options.test_n, 1))


def _blocks(pixels: Pixels, labels: npt.NDArray[np.int64]) -> Stream:
    starts = range(0, len(pixels), BLOCK)
    return Stream(len(pixels), (Block(pixels[s : s + BLOCK], labels[s : s + BLOCK]) for s in starts))


builtin_datasets.add(
    "fashion-mnist",
    BuiltinDataset(
        "60,000 + 10,000 grey 28×28 pictures of clothes in 10 classes",
        "Xiao, Rasul, Vollgraf 2017, https://arxiv.org/abs/1708.07747",
        fashion_mnist.LICENCE,
        FashionMnistOptions,
        _fashion_mnist,
        classes=fashion_mnist.CLASSES,
    ),
)
builtin_datasets.add(
    "digits",
    BuiltinDataset(
        "1,500 + 297 grey 8×8 handwritten digits",
        "E. Alpaydin and C. Kaynak 1998, as in scikit-learn, https://doi.org/10.24432/C50P49",
        "CC BY 4.0",
        Options,
        _digits,
        classes=tuple("0123456789"),
    ),
)
builtin_datasets.add(
    "natural-patches",
    BuiltinDataset(
        "grey or colour patches of scikit-image's photographs, test patches from other regions",
        "scikit-image's skimage.data, https://scikit-image.org/docs/stable/api/skimage.data.html",
        photographs.LICENCE,
        PatchOptions,
        _natural_patches,
    ),
)
builtin_datasets.add(
    "c-alpha",
    BuiltinDataset(
        "grey C^α images: two textures on the sides of a contour of regularity alpha",
        _GENERATED,
        _NO_TERMS,
        CAlphaOptions,
        _c_alpha,
    ),
)
builtin_datasets.add(
    "disks",
    BuiltinDataset(
        "grey disks: a manifold of five parameters (centre, radius, two intensities)",
        _GENERATED,
        _NO_TERMS,
        DrawnOptions,
        _disks,
    ),
)
builtin_datasets.add(
    "ray",
    BuiltinDataset(
        "one grey photograph times random factors in [0, 1]: a manifold of one parameter",
        _GENERATED,
        photographs.LICENCE,
        DrawnOptions,
        _ray,
    ),
)
builtin_datasets.add(
    "sinusoids",
    BuiltinDataset(
        "grey sinusoids of one frequency, any phase and amplitude: a cone of two parameters",
        _GENERATED,
        _NO_TERMS,
        SinusoidOptions,
        _sinusoids,
    ),
)
