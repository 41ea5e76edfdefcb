"""The optimal denoiser of a training set: the exact posterior mean when the training set is the whole truth.

``D*(y, σ) = Σ_i w_i x_i`` with ``w = softmax_i(−‖y − x_i‖² / 2σ²)``. No denoiser has a smaller training error, and sampling
with it only gives training images back: it is what a network that memorizes perfectly computes.
"""

from __future__ import annotations

from scorescope.data.images import ImageSet
from scorescope.denoisers.registry import training_free
from scorescope.denoisers.training_set import Floats, TrainingSetDenoiser
from scorescope.posterior.whole_image import WholeImagePosterior


@training_free(
    "optimal",
    explanation="memorization (the training set itself)",
    source="Karras et al., NeurIPS 2022, arXiv 2206.00364, equation 57; Vincent, Neural Computation 2011",
)
class OptimalDenoiser(TrainingSetDenoiser):
    """The posterior mean over the training images.

    Args:
        images: the training set.
        temperature: divides the logits.

    Raises:
        UserError: temperature not positive and finite.
    """

    def __init__(self, images: ImageSet, *, temperature: float = 1.0) -> None:
        super().__init__(images, temperature=temperature)
        self.posterior = WholeImagePosterior(images)

    def posterior_mean(self, noisy: Floats, spread: Floats, sigma: list[float]) -> Floats:
        """See `TrainingSetDenoiser.posterior_mean`."""
        return self.posterior.mean(noisy, spread)
