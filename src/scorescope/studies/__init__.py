"""Experiments: settings in, figures, tables and tested claims out, in a run folder that can be gone on with."""

from scorescope.studies import kadkhodaie2024, niedoba2025, vastola2025
from scorescope.studies.base import Study, studies, study
from scorescope.studies.claims import Claim, Rule
from scorescope.studies.explain import Explain
from scorescope.studies.results import Exhibit, Results, Table, Verdict
from scorescope.studies.train import Train
from scorescope.studies.transition import Transition
from scorescope.studies.workspace import Workspace, open_run

__all__ = [
    "Claim",
    "Exhibit",
    "Explain",
    "Results",
    "Rule",
    "Study",
    "Table",
    "Train",
    "Transition",
    "Verdict",
    "Workspace",
    "kadkhodaie2024",
    "niedoba2025",
    "open_run",
    "studies",
    "study",
    "vastola2025",
]
