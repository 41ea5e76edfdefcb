"""Names for things that commands, studies and plots choose by name; an unknown name is answered with the nearest one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Generic, TypeVar

from scorescope.foundation.catalogue import listed
from scorescope.foundation.errors import UserError
from scorescope.foundation.names import unknown_name

__all__ = ["Registry", "unknown_name"]

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from name to entry. What the catalogue lists is known at once, and imported when its entry is asked for.

    Args:
        kind: what the entries are, in the singular, as error messages say it ("denoiser").
        catalogue: where `scorescope.foundation.catalogue` lists those of the package; nowhere by default.
    """

    def __init__(self, kind: str, catalogue: str = "") -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._homes = {name: entry["module"] for name, entry in listed(catalogue).items()}

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name`. Raises ValueError if the name is taken by another entry."""
        if name in self._homes and self._homes[name] not in sys.modules:
            importlib.import_module(self._homes[name])  # which takes the name
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        """The entry under `name`. Raises UserError with the nearest known name if there is none."""
        if name not in self._entries and name in self._homes:
            importlib.import_module(self._homes[name])
        if name not in self._entries:
            raise UserError(unknown_name(self.kind, name, list(self)))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._homes

    def __iter__(self) -> Iterator[str]:
        """The names of the catalogue in its order, then all others in the order of their registration."""
        return iter({**self._homes, **self._entries})

    def __len__(self) -> int:
        return len({**self._homes, **self._entries})

    def items(self) -> list[tuple[str, T]]:
        """Pairs of name and entry, in the order of the names; imports every one."""
        return [(name, self[name]) for name in self]
