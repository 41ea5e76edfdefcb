"""Locality (niedoba2025): the studies of patches against networks, one module a figure of the paper."""

from typing import TYPE_CHECKING

from scorescope.foundation.lazy import offered

if TYPE_CHECKING:
    from scorescope.papers.niedoba2025.fig2 import Fig2
    from scorescope.papers.niedoba2025.fig3 import Fig3
    from scorescope.papers.niedoba2025.fig4 import Fig4
    from scorescope.papers.niedoba2025.fig7 import Fig7
    from scorescope.papers.niedoba2025.fig8 import Fig8
    from scorescope.papers.niedoba2025.fig9 import Fig9
    from scorescope.papers.niedoba2025.fig_d import FigD
    from scorescope.papers.niedoba2025.reviewers import Reviewers
else:
    __getattr__, __dir__ = offered(__name__)

__all__ = ["Fig2", "Fig3", "Fig4", "Fig7", "Fig8", "Fig9", "FigD", "Reviewers"]
