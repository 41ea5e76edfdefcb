"""All training-free denoisers that a network's samples are laid beside, also those in two versions.

To what the lenses build from a network's training images come PSPC-Flex with the data's own heatmaps (the other one has the
network's, and so has seen it), and PCA locality with the threshold that was published for the data, exact and with weights
normalized within batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pydantic

from scorescope.denoisers import BatchedPcaLocalityDenoiser, Denoiser, FlexPatchDenoiser, PcaLocalityDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.names import unknown_name
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.mechanisms import GAUSSIAN, PCA, SQUARE
from scorescope.lenses.rivals import EVERYWHERE, FLEX, STACKED, Builder, MechanismConfig, Mechanisms
from scorescope.study.workspace import Workspace

DATA_FLEX, BATCHED, CLOSED_FORM = "pspc-flex, data's heatmaps", "pca-locality-batched", "closed-form"
MIXTURE, LOCAL_MIXTURES, COMMITTEE = "gaussian-mixture", "local-mixtures", "committee"
ROWS = (
    GAUSSIAN,
    MIXTURE,
    CLOSED_FORM,
    SQUARE,
    COMMITTEE,
    LOCAL_MIXTURES,
    STACKED,
    PCA,
    BATCHED,
    FLEX,
    DATA_FLEX,
    *EVERYWHERE,
)
"""The quickest first."""
NEW = (MIXTURE, LOCAL_MIXTURES, COMMITTEE)
"""Those that this project adds."""
_OWN = (DATA_FLEX, PCA, BATCHED)


class ContenderConfig(pydantic.BaseModel):
    """Which training-free denoisers take part beside the optimal one, and what the costly ones get.

    Attributes:
        names: of `ROWS`; all by default.
        threshold: θ of PCA locality's masks. Published: 0.05 for CIFAR-10, 0.005 for Fashion-MNIST (Lukoianov et al.); 0.03
            and 0.02 (GoldDiff).
        batch: training images within which `pca-locality-batched` normalizes weights.
        heatmap_images: noisy training images that a network's heatmaps, for `pspc-flex`, are averaged over.
        everywhere_images: training images of the denoisers that look in every place of them.
        stacked_images: held-out images that `stacked` is fitted on.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...] = ROWS
    threshold: float = pydantic.Field(0.02, ge=0, le=1)
    batch: int = pydantic.Field(512, ge=1)
    heatmap_images: int = pydantic.Field(2, ge=1)
    everywhere_images: int = pydantic.Field(500, ge=1)
    stacked_images: int = pydantic.Field(128, ge=1)


class Contenders(Builder):
    """Builds them for each network of a comparison.

    Args:
        comparison: networks and images.
        config: what to build.
        workspace: of the run.

    Raises:
        UserError: an unknown name, or the optimal denoiser's, which always takes part.
    """

    def __init__(self, comparison: Comparison, config: ContenderConfig, workspace: Workspace) -> None:
        for name in config.names:
            if name not in ROWS:
                raise UserError(unknown_name("row of this protocol", name, list(ROWS)))
        self.rows = config
        built = tuple(name for name in config.names if name not in _OWN)
        settings = config.model_dump(include={"heatmap_images", "everywhere_images", "stacked_images"})
        super().__init__(comparison, MechanismConfig(names=built, **settings), workspace)
        self.names = list(built)  # none, where none is asked for

    def of(self, one: Compared) -> Mechanisms:
        """See `Builder.of`."""
        found = super().of(one)
        own = {name: self._own(name, one) for name in _OWN if name in self.rows.names}
        keys = {name: f"{name} {one.training_key}" for name in own}
        said = [found.said, self._about(own)]
        together = found.denoisers | own
        return dataclasses.replace(
            found,
            denoisers={name: together[name] for name in ROWS if name in together},
            keys=found.keys | keys,
            said=" ".join(filter(None, said)),
        )

    def _own(self, name: str, one: Compared) -> Denoiser:
        if name == DATA_FLEX:
            return FlexPatchDenoiser(one.training)
        if name == PCA:
            return PcaLocalityDenoiser(one.training, self.rows.threshold)
        return BatchedPcaLocalityDenoiser(one.training, self.rows.threshold, batch=self.rows.batch)

    def _about(self, own: Mapping[str, Denoiser]) -> str:
        said = []
        if {PCA, BATCHED} & set(own):
            said.append(f"The masks of PCA locality have the threshold {self.rows.threshold:g}")
        if BATCHED in own:
            said.append(f"{BATCHED} normalizes weights within batches of {self.rows.batch} training images")
        if DATA_FLEX in own:
            said.append("the data's heatmaps are those of the Wiener filter of the training images")
        return "; ".join(said) + "." if said else ""
