"""Figure 5: a network trained on disks finds their five directions, and keeps harmonic ones that the disks do not have.

Disks are a five-parameter manifold (centre, radius, two intensities), for which the optimal basis is the tangent space and
nothing else. The paper finds that the first five eigenvectors of a UNet's Jacobian span it, but that others which oscillate on
the background and along the contour follow, with eigenvalues that are not zero: an inductive bias towards harmonic bases,
seen where it does harm. Its PSNR stays below the optimum ``MSE = 5σ²`` and its slope below 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from scorescope.papers.kadkhodaie2024.class_networks import SHORT_RUN
from scorescope.papers.kadkhodaie2024.manifold_directions import fill
from scorescope.papers.kadkhodaie2024.manifolds import Manifold, ManifoldConfig, disks, measure_manifold
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

MANIFOLD_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "size": 16,
        "images": 200,
        "test_images": 16,
        "levels": 9,
        "tangent_images": 2,
        "network": {"arguments": {"width": 8}, "training": {"steps": 100, "batch": 16}},
    },
    "small": {
        "network": {"arguments": {"width": 32}, "training": {"steps": 5000, "batch": 16, "objective": SHORT_RUN}},
    },
    "paper": {
        "size": 80,
        "images": 100_000,
        "test_images": 1000,
        "levels": 41,
        "tangent_images": 8,
        "network": {
            "arguments": {"width": 64},
            "training": {"steps": 200_000, "batch": 512, "learning_rate": 1e-3},
        },
    },
}


class ManifoldStudy(Study[ManifoldConfig]):
    """One manifold.

    Attributes:
        figure: of the paper.
        spanned: the beginning of the paper's sentence on the tangent space.
    """

    figure: ClassVar[str]
    spanned: ClassVar[str]
    Config: ClassVar[type[ManifoldConfig]] = ManifoldConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MANIFOLD_PRESETS

    @abstractmethod
    def manifold(self, config: Any) -> Manifold:
        """The manifold that the settings describe."""

    def run(self, config: ManifoldConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        manifold = self.manifold(config)
        found = measure_manifold(manifold, config, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, manifold, found, config, self.figure, self.spanned)
        return results


@study
class Fig5(ManifoldStudy):
    """Disks."""

    name = "kadkhodaie2024/fig5"
    title = "Eigenvectors and tangent space on disks"
    question = "Does a network find the five directions in which disks can change, and only those?"
    paper = "Kadkhodaie et al. 2024, figure 5"
    figure = "figure 5"
    spanned = "The first five eigenvectors of the Jacobian span"

    def manifold(self, config: ManifoldConfig) -> Manifold:
        """See `ManifoldStudy.manifold`."""
        return disks(config.size)
