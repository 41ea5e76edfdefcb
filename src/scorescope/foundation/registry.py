"""Names for things that commands, studies and plots choose by name; an unknown name is answered with the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from scorescope.foundation.errors import UserError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from name to entry, in order of registration.

    Args:
        kind: what the entries are, in the singular, as error messages say it ("denoiser").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name`. Raises ValueError if the name is taken by another entry."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry
        return entry

    def __getitem__(self, name: str) -> T:
        """The entry under `name`. Raises UserError with the nearest known name if there is none."""
        if name not in self._entries:
            raise UserError(unknown_name(self.kind, name, list(self._entries)))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> list[tuple[str, T]]:
        """Pairs of name and entry, in order of registration."""
        return list(self._entries.items())


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """The sentence for an unknown name: what was asked, the nearest known name, and all that are known."""
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return f"no {kind} is called {name!r}{meant} known: {', '.join(known)}"
