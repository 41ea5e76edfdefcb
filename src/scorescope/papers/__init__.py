"""The figures of the papers: each a client of what is below."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers import kadkhodaie2024, newer, niedoba2025, protocols, vastola2025
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["kadkhodaie2024", "newer", "niedoba2025", "protocols", "vastola2025"]
