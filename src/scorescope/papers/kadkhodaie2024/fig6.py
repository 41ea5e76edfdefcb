"""Figure 6: how alike the two subsets' nearest images are, before and after near-duplicates are removed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.data import ImageSet
from scorescope.data.resolution import at_side
from scorescope.foundation import UserError
from scorescope.lenses.memorization import Arrays
from scorescope.lenses.subject import chosen
from scorescope.papers.kadkhodaie2024.trained import (
    PAPER,
    Material,
    SubsetConfig,
    comparison_side,
    open_material,
    subset_pair,
)
from scorescope.probes.similarity import nearest
from scorescope.study import charts, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.pairs import NETWORKS, choose_pair
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

PAIRS, REMOVED = "Nearest images of the two subsets", "What was removed"
BEFORE, AFTER = "before", "after"
_BLOCK = 4096
ROUNDING = 1e-4


class Fig6Config(SubsetConfig):
    """Settings of figure 6.

    Attributes:
        shown: pairs that are shown as pictures.
    """

    shown: int = pydantic.Field(8, ge=1, le=32)


@study
class Fig6(Study[Fig6Config]):
    """The closest pairs of images across two disjoint subsets."""

    name = "kadkhodaie2024/fig6"
    paper = PAPER
    title = "How disjoint are disjoint subsets?"
    question = "How similar are the most similar images of the two subsets, with and without near-duplicates?"
    Config = Fig6Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"data": "digits", "sizes": (40, 400), "shown": 6},
        "small": {"sizes": (100, 1000, 10000)},
        "paper": {"sizes": (100, 1000, 10000)},
    }

    def run(self, config: Fig6Config, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError for sizes that the data do not allow, or without a threshold."""
        if config.near_duplicates is None:
            raise UserError(
                "this figure is about near-duplicates: set near_duplicates to a cosine similarity, such as 0.95"
            )
        material = open_material(config, workspace)
        found = []
        for size in config.sizes:
            search = functools.partial(_nearest_pairs, material, size, config)
            found.append(workspace.computed(f"N={size}/nearest", search))
        return self._results(config, material, found)

    def _results(self, config: Fig6Config, material: Material, found: list[Arrays]) -> Results:
        results = Results(study=self.name, title=self.title, question=self.question, paper=self.paper)
        last = found[-1]
        share, threshold = _above(last, BEFORE, config), config.near_duplicates
        results.headline = (
            f"Two disjoint subsets of {config.sizes[-1]:,} images of {material.whole.name} share near-duplicates:"
            f" {share:.1%} of the images of one have one more similar than {threshold:g} in the other. With"
            f" {material.whole.stored - material.images.stored:,} of {material.whole.stored:,} images removed,"
            f" {_above(last, AFTER, config):.1%} do; the most similar pair then has {last[AFTER].max():.3f}."
        )
        _charts(results, config, found)
        _sheets(results, config, material, last)
        results.add_table(
            "pairs",
            "Similarity of the nearest pairs",
            "Each image of the first subset and the one of the second that it is most similar to, before and after"
            " near-duplicates are removed from the whole data set.",
            pd.DataFrame(
                [
                    {
                        "N": size,
                        "near-duplicates": when,
                        "median": float(np.median(_similarity(one, when))),
                        "largest": float(one[when].max()),
                        f"above {threshold:g} (%)": 100 * _above(one, when, config),
                    }
                    for size, one in zip(config.sizes, found, strict=True)
                    for when in (BEFORE, AFTER)
                ]
            ),
            formats={"median": ".3f", "largest": ".3f", f"above {threshold:g} (%)": ".2f"},
        )
        results.claims.append(
            Claim(
                "No image of one subset has a near-duplicate in the other.",
                "kadkhodaie2024, figure 6",
                f"largest cosine similarity between images of the two subsets of {config.sizes[-1]}",
                float(last[AFTER].max()),
                Rule(at_most=float(threshold or 0) + ROUNDING, because="the threshold of the removal, and rounding"),
                note=f"before the removal {last[BEFORE].max():.3f}",
            )
        )
        results.methods |= material.methods | {
            "Similarity": "Cosine of images less their own mean, averaged to"
            f" {comparison_side(material.images) or 'their own number of'} pixels a side, as in the removal; nearest"
            " neighbours exactly, by faiss.",
        }
        return results


def _nearest_pairs(material: Material, size: int, config: Fig6Config) -> Arrays:
    """Similarity of each image of A to its nearest in B, and which that is, without and with near-duplicates removed."""
    found: Arrays = {}
    pairs = {BEFORE: choose_pair(material.whole, size, config.seed), AFTER: subset_pair(material, size, config)}
    for when, pair in pairs.items():
        first, second = (_compared(pair.training[name]) for name in NETWORKS)
        parts = [
            nearest(first.tensor(np.arange(start, min(start + _BLOCK, size))), second)
            for start in range(0, size, _BLOCK)
        ]
        found[when] = np.concatenate([part.similarity[:, 0] for part in parts])
        found[f"{when} index"] = np.concatenate([part.index[:, 0] for part in parts])
    return found


def _compared(images: ImageSet) -> ImageSet:
    side = comparison_side(images)
    return at_side(images, side) if side else images


def _similarity(found: Arrays, when: str) -> npt.NDArray[np.float64]:
    return found[when].astype(np.float64)


def _above(found: Arrays, when: str, config: Fig6Config) -> float:
    """Share of the images that have a near-duplicate in the other subset."""
    return float((_similarity(found, when) > (config.near_duplicates or 1.0) + ROUNDING).mean())


def _charts(results: Results, config: Fig6Config, found: Sequence[Arrays]) -> None:
    panels = {
        f"N = {size:,}": {f"{when} the removal": one[when] for when in (BEFORE, AFTER)}
        for size, one in zip(config.sizes, found, strict=True)
    }
    lowest = min(float(_similarity(one, when).min()) for one in found for when in (BEFORE, AFTER))
    results.add_chart(
        "nearest",
        "Similarity to the nearest image of the other subset",
        f"For each of the N images of the first subset, the most similar one of the second. What lies above"
        f" {config.near_duplicates:g} are repeats of one image, by which two networks would share training images after all;"
        " the larger the subsets, the more of them there are.",
        PAIRS,
        charts.histograms(
            panels, "cosine similarity of centred images", x_range=(np.floor(10 * lowest) / 10, 1.0), bins=40
        ),
    )


def _sheets(results: Results, config: Fig6Config, material: Material, last: Arrays) -> None:
    size = config.sizes[-1]
    pairs = {BEFORE: choose_pair(material.whole, size, config.seed), AFTER: subset_pair(material, size, config)}
    for when, pair in pairs.items():
        closest = np.argsort(-_similarity(last, when))[: config.shown]
        twins = last[f"{when} index"].astype(np.int64)[closest]
        rows = [
            pair.training[NETWORKS[0]].tensor(closest),
            pair.training[NETWORKS[1]].tensor(twins),
        ]
        results.add_sheet(
            f"closest-{when}",
            f"The most similar pairs {when} near-duplicates are removed",
            f"Images of the first subset of {size:,} over their nearest of the second, the {len(closest)} most similar pairs.",
            PAIRS,
            pictures.grid(
                np.stack([row.numpy() for row in rows]),
                row_labels=["first subset", "second subset"],
                captions=[[f"{last[when][place]:.3f}" for place in closest], [""] * len(closest)],
            ),
        )
    gone = _removed(material)
    if gone is None:
        return
    removed = chosen(gone, min(config.shown, gone.stored), config.seed)
    left = nearest(removed, material.images)
    results.add_sheet(
        "removed",
        "Some of the images that were removed",
        "A random choice of removed images, and for each the image that is left that resembles it most.",
        REMOVED,
        pictures.grid(
            np.stack([removed.numpy(), material.images.tensor(left.index[:, 0]).numpy()]),
            row_labels=["removed", "kept"],
            captions=[[""] * len(removed), [f"{value:.3f}" for value in left.similarity[:, 0]]],
        ),
    )


def _removed(material: Material) -> ImageSet | None:
    """The images of the whole set that are not among those left; None if all are."""
    whole, left = (
        np.arange(images.stored) if images.indices is None else images.indices
        for images in (material.whole, material.images)
    )
    gone = np.flatnonzero(~np.isin(whole, left))
    return material.whole.subset(gone) if gone.size else None
