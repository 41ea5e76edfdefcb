"""Figure 19: one image rescaled, a manifold of a single direction, and what a network keeps beside it.

The training set is one photograph times factors in [0, 1]: a ray, on which the optimal denoiser projects, ``MSE = σ²``. Images
in [0, 1] start it at black, where a network without biases has its origin, so that it could do exactly that.
"""

from __future__ import annotations

from scorescope.papers.kadkhodaie2024.fig5 import ManifoldStudy
from scorescope.papers.kadkhodaie2024.manifolds import Manifold, ManifoldConfig, ray
from scorescope.study.base import study


@study
class Fig19(ManifoldStudy):
    """A ray."""

    name = "kadkhodaie2024/fig19"
    title = "Eigenvectors and tangent space on one image, rescaled"
    question = "Does a network that only ever saw one image keep that direction alone?"
    paper = "Kadkhodaie et al. 2024, figure 19"
    figure = "figure 19"
    spanned = "The first eigenvector of the Jacobian spans"

    def manifold(self, config: ManifoldConfig) -> Manifold:
        """See `ManifoldStudy.manifold`."""
        return ray(config.size)
