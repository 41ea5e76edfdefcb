"""A study from settings to page: the run folder is opened, filled, shown and marked as finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scorescope.foundation.processes import by_first
from scorescope.report.growing import growing_page, introduce
from scorescope.study.base import C, Study
from scorescope.study.workspace import open_run

if TYPE_CHECKING:
    import torch

    from scorescope.study.results import Results


def run_study(
    study: Study[C],
    config: C,
    folder: Path | str,
    *,
    device: torch.device | str = "cpu",
    cache: Path | str | None = None,
    command: str = "",
    announce: Callable[[Path], None] | None = None,
) -> Results:
    """Run a study into a folder and write its report; the same call goes on with an interrupted run.

    The report is there from the first cell on, says that it is unfinished, and grows.

    Args:
        study: what to run.
        config: its settings, best from `Study.configure`.
        folder: run folder to make, or to go on with.
        device: where networks run.
        cache: folder of trained networks; $SCORESCOPE_CACHE, else ``~/.cache/scorescope``.
        command: what a person types to go on with the run, for the unfinished report.
        announce: told where the report is, once it can be looked at.

    Raises:
        UserError: as `open_run`, and whatever the study refuses.
    """
    with open_run(folder, study.name, config, device=device, cache=cache) as workspace:
        with growing_page(study, workspace, command, announce):
            results = study.run(config, workspace)
        from scorescope.report.page import write_report

        introduce(results, study)
        workspace.store(results)
        by_first(lambda: write_report(results, workspace.folder))
        workspace.finish()
    return results
