"""Figure 20: sinusoids of one frequency, a cone of two directions, amplitude and phase.

The manifold is itself harmonic, yet has two directions only: the optimal denoiser's error is ``2σ²``, and what the network
keeps beyond the first two eigenvectors is its own.
"""

from __future__ import annotations

import pydantic

from scorescope.papers.kadkhodaie2024.fig5 import ManifoldStudy
from scorescope.papers.kadkhodaie2024.manifolds import Manifold, ManifoldConfig, sinusoids
from scorescope.study.base import study


class SinusoidConfig(ManifoldConfig):
    """Settings of figure 20.

    Attributes:
        fx: periods per image along a row.
        fy: periods per image down a column.
    """

    fx: float = pydantic.Field(2.0, allow_inf_nan=False)
    fy: float = pydantic.Field(3.0, allow_inf_nan=False)


@study
class Fig20(ManifoldStudy):
    """A cone."""

    name = "kadkhodaie2024/fig20"
    title = "Eigenvectors and tangent space on sinusoids"
    question = "Does a network that only saw one frequency keep phase and amplitude alone?"
    paper = "Kadkhodaie et al. 2024, figure 20"
    figure = "figure 20"
    spanned = "The first two eigenvectors of the Jacobian span"
    Config = SinusoidConfig

    def manifold(self, config: SinusoidConfig) -> Manifold:
        """See `ManifoldStudy.manifold`."""
        return sinusoids(config.size, (config.fx, config.fy))
