"""Figure 20: sinusoids of one frequency, a cone of two directions, amplitude and phase.

The manifold is itself harmonic, yet has two directions only: the optimal denoiser's error is ``2σ²``, and what the network
keeps beyond the first two eigenvectors is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic

from scorescope.papers.kadkhodaie2024.fig5 import MANIFOLD_PRESETS
from scorescope.papers.kadkhodaie2024.manifold_directions import fill
from scorescope.papers.kadkhodaie2024.manifolds import ManifoldConfig, measure_manifold, sinusoids
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace


class SinusoidConfig(ManifoldConfig):
    """Settings of figure 20.

    Attributes:
        fx: periods per image along a row.
        fy: periods per image down a column.
    """

    fx: float = pydantic.Field(2.0, allow_inf_nan=False)
    fy: float = pydantic.Field(3.0, allow_inf_nan=False)


@study
class Fig20(Study[SinusoidConfig]):
    """A cone."""

    name = "kadkhodaie2024/fig20"
    title = "Eigenvectors and tangent space on sinusoids"
    question = "Does a network that only saw one frequency keep phase and amplitude alone?"
    paper = "Kadkhodaie et al. 2024, figure 20"
    Config = SinusoidConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MANIFOLD_PRESETS

    def run(self, config: SinusoidConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        manifold = sinusoids(config.size, (config.fx, config.fy))
        found = measure_manifold(manifold, config, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, manifold, found, config, "figure 20", "The first two eigenvectors of the Jacobian span")
        return results
