"""Adaptive shrinkage (kadkhodaie2024): the studies of transitions, Jacobians and bases, one module a figure or two."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers.kadkhodaie2024.fig1 import Fig1
    from scorescope.papers.kadkhodaie2024.fig2 import Fig2
    from scorescope.papers.kadkhodaie2024.fig3 import Fig3
    from scorescope.papers.kadkhodaie2024.fig4 import Fig4
    from scorescope.papers.kadkhodaie2024.fig5 import Fig5
    from scorescope.papers.kadkhodaie2024.fig6 import Fig6
    from scorescope.papers.kadkhodaie2024.fig15 import Fig15
    from scorescope.papers.kadkhodaie2024.fig16_18 import Fig16, Fig17, Fig18
    from scorescope.papers.kadkhodaie2024.fig19 import Fig19
    from scorescope.papers.kadkhodaie2024.fig20 import Fig20
    from scorescope.papers.kadkhodaie2024.fig21 import Fig21
    from scorescope.papers.kadkhodaie2024.theory import Theory
    from scorescope.papers.kadkhodaie2024.trends import Trends
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = [
    "Fig1",
    "Fig2",
    "Fig3",
    "Fig4",
    "Fig5",
    "Fig6",
    "Fig15",
    "Fig16",
    "Fig17",
    "Fig18",
    "Fig19",
    "Fig20",
    "Fig21",
    "Theory",
    "Trends",
]
