"""Training-free denoisers by name: one decorator makes a class available to every study, plot and command.

A registered class is built from the training images alone, ``build(images)``, every other setting having a default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser
from scorescope.foundation import Registry

D = TypeVar("D", bound=Denoiser)


@dataclass(frozen=True)
class DenoiserEntry:
    """What `scorescope list denoisers` shows, and how to make one.

    Attributes:
        build: makes the denoiser from the training images.
        explanation: what it says a network does, in a few words, for legends and captions.
        source: the paper or papers it comes from.
        needs: what it needs, in words.
        costly: whether it takes so long that studies leave it out unless it is named.
    """

    build: Callable[[ImageSet], Denoiser]
    explanation: str
    source: str
    needs: str
    costly: bool = False


denoisers: Registry[DenoiserEntry] = Registry("denoiser", "denoisers")


def training_free(
    name: str, *, explanation: str, source: str = "", needs: str = "training images", costly: bool = False
) -> Callable[[type[D]], type[D]]:
    """Class decorator: register a denoiser that is built as ``cls(images)`` under `name`."""

    def register(cls: type[D]) -> type[D]:
        cls.name = name
        denoisers.add(name, DenoiserEntry(cls, explanation, source, needs, costly))
        return cls

    return register
