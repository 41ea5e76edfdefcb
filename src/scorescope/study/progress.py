"""How far an unfinished run is: what its page says while it grows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scorescope.study.results import Results


@dataclass
class Progress:
    """A run that is not finished.

    Attributes:
        shown: what was found so far, as the study last gave it; None before.
        pending: section -> what is still measured for it, in a sentence; sections without figures stand on the page too.
        expected: how many cells there will be, 0 if that is not known.
        finished: how many of them are there.
        now: the cell that is computed now; empty before the first.
        ended: why the run ended before its time; empty while it goes on.
        started: when this start of the run began, in seconds since 1970.
    """

    shown: Results | None = None
    pending: Mapping[str, str] = field(default_factory=dict)
    expected: int = 0
    finished: int = 0
    now: str = ""
    ended: str = ""
    started: float = field(default_factory=time.time)

    @property
    def parts(self) -> str:
        """How much is measured: "5 of 14 parts"."""
        if self.expected:
            return f"{self.finished} of {self.expected} parts"
        return f"{self.finished} {'part' if self.finished == 1 else 'parts'}"
