"""The training-free denoisers that networks are compared with, each built from the network's own training images.

`pspc-flex` gets the network's own measured heatmaps. The denoisers that look in every place of every training image
cost a thousand times more than the others, and get a random part of the images. `stacked` is fitted on held-out images that
no input is made from, where there are enough; else on a tenth of the training images, which its members then lack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pydantic

from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser, FlexPatchDenoiser, ShareSchedule, StackedDenoiser, denoisers
from scorescope.denoisers.stacked import MEMBERS
from scorescope.foundation import UserError
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.network_heatmaps import measured_heatmaps
from scorescope.lenses.subject import OPTIMAL
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

FLEX, STACKED = "pspc-flex", "stacked"
EVERYWHERE = ("equivariant-local-score", "border-local-score")


class MechanismConfig(pydantic.BaseModel):
    """Which training-free denoisers are compared, and what the costly ones get.

    Attributes:
        names: of denoisers; by default all that are registered and take these images.
        heatmap_images: noisy training images that a network's heatmaps, for `pspc-flex`, are averaged over.
        everywhere_images: training images of the denoisers that look in every place of them.
        stacked_images: held-out images that the mixture is fitted on.
        stacked_bands: frequency bands in which it has coefficients of its own.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = ()
    heatmap_images: int = pydantic.Field(3, ge=1)
    everywhere_images: int = pydantic.Field(1000, ge=1)
    stacked_images: int = pydantic.Field(128, ge=1)
    stacked_bands: int = pydantic.Field(1, ge=1)


@dataclass(frozen=True)
class Mechanisms:
    """What was built for one network.

    Attributes:
        denoisers: by name, the optimal one not among them.
        keys: name -> what cells call it; equal for equal denoisers of two networks.
        said: how those were built that are not simply built from all training images.
        left_out: name -> why it was not compared.
    """

    denoisers: dict[str, Denoiser]
    keys: dict[str, str]
    said: str
    left_out: dict[str, str]


class Builder:
    """Builds the denoisers of each training set once.

    Args:
        comparison: networks and images.
        config: what to build.
        workspace: of the run.
        lacking: names of those that are not built, with the reason.

    Raises:
        UserError: an unknown name.
    """

    def __init__(
        self,
        comparison: Comparison,
        config: MechanismConfig,
        workspace: Workspace,
        lacking: Mapping[str, str] | None = None,
    ) -> None:
        self.lacking = dict(lacking or {})
        self.comparison = comparison
        self.config = config
        self.workspace = workspace
        for name in config.names:
            denoisers[name]
        self.names = [name for name in config.names or denoisers if name != OPTIMAL]
        self._built: dict[str, Denoiser] = {}

    def of(self, one: Compared) -> Mechanisms:
        """The denoisers for one network.

        Raises UserError if one that the settings name cannot be built from these images.
        """
        built, keys, left_out, said = {}, {}, {}, []
        for name in self.names:
            key = f"{name} of {one.name}" if name == FLEX else f"{name} {one.training_key}"
            if name in self.lacking:
                left_out[name] = self.lacking[name]
                continue
            try:
                built[name], keys[name] = self._cached(key, name, one), key
            except UserError as error:
                if name in self.config.names:
                    raise
                left_out[name] = str(error)
        if FLEX in built:
            count = self.config.heatmap_images
            said.append(f"{FLEX} uses the network's own heatmaps, averaged over {count} noisy training images a level")
        few = min(self.config.everywhere_images, one.training.stored)
        if few < one.training.stored and set(EVERYWHERE) & set(built):
            said.append(f"{' and '.join(EVERYWHERE)} look in {few} of the {one.training.stored} training images")
        if STACKED in built:
            said.append(self._about_stacked())
        return Mechanisms(built, keys, "; ".join(said) + "." if said else "", left_out)

    def _cached(self, key: str, name: str, one: Compared) -> Denoiser:
        if key not in self._built:
            self._built[key] = self._build(name, one)
        return self._built[key]

    def _build(self, name: str, one: Compared) -> Denoiser:
        if name == FLEX:
            return self._flex(one)
        if name in EVERYWHERE and one.training.stored > self.config.everywhere_images:
            order = np.random.default_rng(mixed(self.comparison.config.seed, 1)).permutation(one.training.stored)
            return denoisers[name].build(one.training.subset(np.sort(order[: self.config.everywhere_images])))
        if name == STACKED:
            return self._stacked(one)
        return denoisers[name].build(one.training)

    def _flex(self, one: Compared) -> Denoiser:
        sigmas = [self.comparison.sigmas[place] for place in one.within(self.comparison.sigmas)]
        needed = levels_with_masks(sigmas)
        if not needed:  # it is the optimal denoiser at every level
            return denoisers[FLEX].build(one.training)
        seed = self.comparison.config.seed
        try:
            heatmaps = measured_heatmaps(one, needed, self.config.heatmap_images, seed, self.workspace)
        except RuntimeError as error:  # a layer without a derivative; every other denoiser can still be compared
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"the heatmaps of {one.name} cannot be measured ({reason})") from error
        return FlexPatchDenoiser(one.training, heatmaps)

    def _stacked(self, one: Compared) -> Denoiser:
        unseen = self._images_for_fit()
        if unseen is None:
            return denoisers[STACKED].build(one.training)
        members = [self._cached(f"{name} {one.training_key}", name, one) for name in MEMBERS]
        return StackedDenoiser(
            members,
            unseen,
            bands=self.config.stacked_bands,
            count=unseen.stored,
            levels=self.comparison.sigmas,
            seed=self.comparison.config.seed,
        )

    def _images_for_fit(self) -> ImageSet | None:
        """Held-out images that no input is made from; None where there are too few."""
        images, config = self.comparison.held_out, self.comparison.config
        if images is None or images.stored < config.inputs + 2:
            return None
        order = np.random.default_rng(config.seed).permutation(images.stored)
        return images.subset(order[config.inputs : config.inputs + self.config.stacked_images])

    def _about_stacked(self) -> str:
        images = self._images_for_fit()
        on = "a tenth of the training images" if images is None else f"{images.stored} held-out images, of no input,"
        bands = "" if self.config.stacked_bands == 1 else f" in each of {self.config.stacked_bands} frequency bands"
        return f"{STACKED} mixes {', '.join(MEMBERS)} with coefficients fitted on {on} at every level{bands}"


def levels_with_masks(sigmas: Sequence[float]) -> list[float]:
    """The levels at which `pspc-flex` does not take the whole image, by the paper's shares."""
    shares = ShareSchedule.paper()
    return [sigma for sigma in sigmas if shares.share(sigma) < 1]
