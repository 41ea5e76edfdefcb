"""The page of a run that is not finished: written again whenever there is more to see, and left valid by any end."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scorescope.foundation import UserError
from scorescope.foundation.processes import is_first
from scorescope.study.base import C, Study

if TYPE_CHECKING:
    from scorescope.study.results import Results
    from scorescope.study.workspace import Workspace

SHARE, AT_FIRST = 0.1, 0.5
"""Of the time of a run, and how many seconds more, that may go into pages that only count on; with news there is no limit."""


@contextlib.contextmanager
def growing_page(
    study: Study[C], workspace: Workspace, command: str = "", announce: Callable[[Path], None] | None = None
) -> Iterator[None]:
    """Keep the page of a run up to date while the block runs; if the block fails, the page says so, and how to go on.

    Args:
        study: what runs.
        workspace: of the run; its `watch` is set.
        command: what a person types to go on; empty if that is not known.
        announce: told where the page is, once it is there.
    """
    began, spent = time.perf_counter(), 0.0

    def write(news: bool) -> None:
        nonlocal spent
        started = time.perf_counter()
        if news or spent <= SHARE * (started - began) + AT_FIRST:
            page = _write(study, workspace, command)
            if announce is not None and not spent:
                announce(page)
            spent += time.perf_counter() - started

    workspace.watch = write
    try:
        yield
    except BaseException as error:
        if is_first() and (workspace.progress.now or workspace.progress.shown):
            workspace.progress.ended = str(error) if isinstance(error, UserError) else _reason(error)
            with contextlib.suppress(Exception):  # what ended the run is what is to be told
                _write(study, workspace, command)
        raise


def introduce(results: Results, study: Study[C]) -> None:
    """Give results the question and the paper of their study, where they have none of their own."""
    results.question = results.question or study.question
    results.paper = results.paper or study.paper


def _write(study: Study[C], workspace: Workspace, command: str) -> Path:
    from scorescope.report.page import write_report
    from scorescope.study.results import Results

    shown = workspace.progress.shown
    results = Results(study=study.name, title=study.title) if shown is None else copy.copy(shown)
    introduce(results, study)
    results.config, results.timings = workspace.config, dict(workspace.timings)
    return write_report(results, workspace.folder, workspace.progress, command)


def _reason(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return "it was interrupted"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return said.removesuffix(":")
