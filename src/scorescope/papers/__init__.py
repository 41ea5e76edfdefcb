"""The figures of the papers: each a client of what is below."""

from scorescope.papers import kadkhodaie2024, niedoba2025, vastola2025

__all__ = ["kadkhodaie2024", "niedoba2025", "vastola2025"]
