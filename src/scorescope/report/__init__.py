"""The page that shows what a study found: one self-contained HTML file, made from results or from a run folder."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.report.explorer import EXPLORER_FILE, write_explorer
    from scorescope.report.page import REPORT_FILE, html, render, write_report
    from scorescope.report.run import run_study
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["EXPLORER_FILE", "REPORT_FILE", "html", "render", "run_study", "write_explorer", "write_report"]
