"""What every source of images offers: how many there are, their labels and names, and any one of them, decoded."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from scorescope.foundation import UserError

LARGEST_CLASS = 1 << 31
Labels = npt.NDArray[np.int64]


class BrokenImageError(Exception):
    """One image of a source cannot be decoded; the message is the reason, without the image's name."""


class Decoded(NamedTuple):
    """One image as 8-bit grey or colour, and what was done to it on the way.

    Attributes:
        image: of mode ``L`` or ``RGB``.
        changes: words that ": 12 of 100 images" goes after, see `decoding`.
        peak: the brightest value before it was brought to 8 bits, where it had more.
    """

    image: Image.Image
    changes: tuple[str, ...] = ()
    peak: float = 0.0


def check_class(where: str, label: int, index: int) -> None:
    """Raise UserError, which says where, unless a number can be that of a class."""
    if label < 0:
        raise UserError(
            f"{where}: image {index} has class {label}; classes are counted from 0: leave out what has no class, or the labels"
        )
    if label >= LARGEST_CLASS:
        text = str(label) if label < 10**30 else "of more than 30 digits"
        raise UserError(f"{where}: image {index} has class {text}; classes are numbers below {LARGEST_CLASS:,}")


class Source(ABC):
    """Images in the form in which somebody has them; a context manager, which gives back temporary files.

    Attributes:
        where: the path or name it was opened from, as reports say it.
        labels: class of every image, int64 (N,), or None.
        names: name of every image, or None where it has only a place.
        classes: names of the classes, at the index that `labels` use; empty if not known.
        notes: what was assumed or ignored, in sentences.
        licence: terms of use, if the source says.
    """

    def __init__(
        self,
        where: str,
        *,
        labels: Labels | None = None,
        names: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        notes: Sequence[str] = (),
        licence: str = "",
    ) -> None:
        self.where = where
        self.labels = labels
        self.names = names
        self.classes = tuple(classes)
        self.notes = tuple(notes)
        self.licence = licence
        self._resources = contextlib.ExitStack()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def decoded(self, index: int) -> Decoded:
        """Image `index`. Called from several threads at once. Raises BrokenImageError."""

    def load(self, index: int) -> Image.Image:
        """Image `index` alone, of mode ``L`` or ``RGB``. Raises BrokenImageError."""
        return self.decoded(index).image

    def name_of(self, index: int) -> str:
        """How errors call image `index`."""
        return self.names[index] if self.names is not None else f"{self.where}[{index}]"

    def hold(self, resource: contextlib.AbstractContextManager[Any]) -> None:
        """Give `resource` back when the source is closed."""
        self._resources.enter_context(resource)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()
