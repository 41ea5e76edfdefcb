"""Experiments: settings in, figures, tables and tested claims out, in a run folder that can be gone on with."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.study.base import Study, studies, study
    from scorescope.study.claims import Claim, Rule
    from scorescope.study.results import Exhibit, Results, Table, Verdict
    from scorescope.study.workspace import Workspace, open_run
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "Claim",
    "Exhibit",
    "Results",
    "Rule",
    "Study",
    "Table",
    "Verdict",
    "Workspace",
    "open_run",
    "studies",
    "study",
]
