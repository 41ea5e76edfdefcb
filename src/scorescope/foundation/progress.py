"""Progress bars with time left: one live display, shared by everything that loops, off unless a command turns it on."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from scorescope.foundation.launch import is_silent

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
_display: Progress | None = None


@contextlib.contextmanager
def showing_progress() -> Iterator[None]:
    """Show what `track` counts while the block runs, if standard error is a terminal; outside such a block it is silent.

    Of several processes only the first shows anything.
    """
    global _display
    if _display is not None or is_silent() or not _maybe_terminal():
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as display:
        _display = display
        try:
            yield
        finally:
            _display = None


def track(items: Iterable[T], description: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """Iterate over `items` with a progress bar, if a command is showing any.

    Args:
        items: what to iterate over.
        description: what is being done, as the bar says it ("training N=100").
        total: how many items there will be; taken from `len(items)` where it has one.
        done: how many were finished before (a resumed run), counted as done from the start.
    """
    if _display is None:
        yield from items
        return
    if total is None and isinstance(items, Sequence):
        total = len(items)
    task = _display.add_task(description, total=total, completed=done)
    try:
        for item in items:
            yield item
            _display.advance(task)
    finally:
        _display.remove_task(task)


def _maybe_terminal() -> bool:
    """Whether standard error may show bars; rich decides, but need not be imported where there is no terminal."""
    return sys.stderr.isatty() or not {"FORCE_COLOR", "TTY_COMPATIBLE"}.isdisjoint(os.environ)
