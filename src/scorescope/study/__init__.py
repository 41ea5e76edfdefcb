"""Experiments: settings in, figures, tables and tested claims out, in a run folder that can be gone on with."""

from scorescope.study.base import Study, studies, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Exhibit, Results, Table, Verdict
from scorescope.study.workspace import Workspace, open_run

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
