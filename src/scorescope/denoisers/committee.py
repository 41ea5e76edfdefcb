"""Theories that err apart, each made to decide late, and their plain mean: no network is asked, and no coefficient is fitted.

A sampler takes a denoised image at its word. Where noise still leaves open what an image shows, the posterior mean under a
mixture picks a kind too soon: its evidence adds up over hundreds of pixels as if each said something new. So evidence is
divided by a temperature, and votes are averaged,

    D(y, σ) = (W(y, σ) + V(y, σ) + P(y, σ)) / 3,

W a mixture of whole images (`gaussian-mixture`), V windows that know from it what the whole image seems to be
(`window_mixtures`), and P patches of training images (`pspc-square`): what it is, what its parts look like, and what parts
have looked like. Each theory is wrong in a way of its own, so that their mean is nearer to whoever else learned from
such images, a network among them; the best mixture for *denoising* (`stacked`) trusts the most decided of them instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser
from scorescope.denoisers.gaussian_mixture import GaussianMixtureDenoiser
from scorescope.denoisers.local_mixtures import scaled
from scorescope.denoisers.patch_square import SquarePatchDenoiser
from scorescope.denoisers.registry import DenoiserEntry, denoisers
from scorescope.denoisers.window_mixtures import WindowMixtureDenoiser
from scorescope.foundation import UserError

TEMPERATURE = 2.0
COMPONENTS = 64
# (side, stride, components) of the windows, for images of 28 pixels.
WINDOW = (15, 6, 48)


class CommitteeDenoiser(Denoiser):
    """The plain mean of denoisers.

    Args:
        members: denoisers of one image shape.

    Raises:
        UserError: no members, or of different shapes.
    """

    name = "committee"

    def __init__(self, members: Sequence[Denoiser]) -> None:
        if not members:
            raise UserError("a committee of denoisers needs at least one")
        super().__init__(members[0].image_shape)
        shapes = {member.image_shape for member in members}
        if len(shapes) > 1:
            raise UserError(f"the members of a committee take images of one shape, found {sorted(shapes)}")
        self.members = torch.nn.ModuleList(members)
        self.differentiable = all(member.differentiable for member in members)

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`."""
        return torch.stack([member(noisy, sigma) for member in self.members]).mean(0)


def committee_of(
    images: ImageSet,
    *,
    temperature: float = TEMPERATURE,
    components: int = COMPONENTS,
    window: tuple[int, int, int] = WINDOW,
    seed: int = 0,
) -> CommitteeDenoiser:
    """A mixture of whole images, one of windows, and patches, one vote each; no windows for images that are too small.

    Args:
        images: the training set.
        temperature: divides the evidence for a component, of whole images and of windows.
        components: of the mixture of whole images.
        window: side, stride and components of the windows where the shorter side of an image is 28.
        seed: of the search for components.

    Raises:
        UserError: what the members refuse.
    """
    whole = GaussianMixtureDenoiser(images, components=components, temperature=temperature, seed=seed)
    votes: list[Denoiser] = [whole, SquarePatchDenoiser(images)]
    for side, stride, kinds in scaled((window,), min(images.image_shape[1:])):
        votes.append(
            WindowMixtureDenoiser(images, whole, side, stride, components=kinds, temperature=temperature, seed=seed)
        )
    return CommitteeDenoiser(votes)


denoisers.add(
    CommitteeDenoiser.name,
    DenoiserEntry(
        committee_of,
        "theories that decide late, averaged",
        "this project; averages of unlike predictors: Bates & Granger, Operational Research Quarterly 20 (1969)",
        "training images",
        costly=True,
    ),
)
