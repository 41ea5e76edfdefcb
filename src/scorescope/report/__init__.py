"""The page that shows what a study found: one self-contained HTML file, made from results or from a run folder."""

from scorescope.report.page import REPORT_FILE, html, render, write_report
from scorescope.report.run import run_study

__all__ = ["REPORT_FILE", "html", "render", "run_study", "write_report"]
