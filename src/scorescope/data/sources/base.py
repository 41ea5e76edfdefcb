"""What every source of images offers: how many there are, their labels and names, and any one of them, decoded."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Labels = npt.NDArray[np.int64]


class BrokenImageError(Exception):
    """One image of a source cannot be decoded; the message is the reason, without the image's name."""


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
    def load(self, index: int) -> Image.Image:
        """Image `index`, decoded. Called from several threads at once. Raises BrokenImageError."""

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
