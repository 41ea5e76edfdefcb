"""Figure 19: one image rescaled, a manifold of a single direction, and what a network keeps beside it.

The training set is one photograph times factors in [0, 1]: a ray, on which the optimal denoiser projects, ``MSE = σ²``. Images
in [0, 1] start it at black, where a network without biases has its origin, so that it could do exactly that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from scorescope.papers.kadkhodaie2024.fig5 import MANIFOLD_PRESETS
from scorescope.papers.kadkhodaie2024.manifold_directions import fill
from scorescope.papers.kadkhodaie2024.manifolds import ManifoldConfig, measure_manifold, ray
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace


@study
class Fig19(Study[ManifoldConfig]):
    """A ray."""

    name = "kadkhodaie2024/fig19"
    title = "Eigenvectors and tangent space on one image, rescaled"
    question = "Does a network that only ever saw one image keep that direction alone?"
    paper = "Kadkhodaie et al. 2024, figure 19"
    Config = ManifoldConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MANIFOLD_PRESETS

    def run(self, config: ManifoldConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        manifold = ray(config.size)
        found = measure_manifold(manifold, config, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, manifold, found, config, "figure 19", "The first eigenvector of the Jacobian spans")
        return results
