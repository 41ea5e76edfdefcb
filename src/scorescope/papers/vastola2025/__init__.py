"""Generalization through variance (vastola2025): the studies of proxy scores and learned densities, one module each."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers.vastola2025 import (
        consequences,
        critics1,
        critics2,
        critics3,
        critics4,
        error,
        fig1,
        fig2,
        fig3,
        formulations,
        limits,
    )
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "consequences",
    "critics1",
    "critics2",
    "critics3",
    "critics4",
    "error",
    "fig1",
    "fig2",
    "fig3",
    "formulations",
    "limits",
]
