"""Samples in one feature space: which statistic, what it would find, which samples are copies, and how much leaks.

Samples, calibration images, planted copies, smoothed unseen images and images of nothing are searched for together, so that
the features of the training and control images are computed once. Which statistic is used follows from the planted copies and
the smoothed images alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import ImageSet, to_float, to_uint8
from scorescope.lenses.audit.sets import AuditSets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit import modelling, planting
from scorescope.probes.audit.copies import (
    CHANCE,
    NEIGHBOURS,
    STATISTICS,
    CopiedShare,
    Statistic,
    conformal,
    copied_share,
    q_values,
    statistic,
)
from scorescope.probes.audit.leakage import Leakage, Sides, leakage, sides
from scorescope.probes.audit.search import Directions, Found, Vectors, block_count, search
from scorescope.probes.proportions import Interval

Floats = npt.NDArray[np.float64]
FEW = 500
"""Unseen images that hosts, smoothed images and images of nothing are made of."""
KEPT_VALUES = 1 << 26
"""Vectors of a set are kept in memory up to so many numbers, and computed anew for every search beyond."""


@dataclass(frozen=True)
class Nearness:
    """Samples in one feature space.

    Attributes:
        space: name of the feature space.
        statistic: which was chosen.
        power: kind of planted copies -> share found, with its interval.
        fooled: statistic -> share of smoothed unseen images above the level that 1 % of unseen ones exceed.
        mean_power: statistic -> mean share found, over the kinds that count for the choice.
        t: the statistic of every sample, (m,).
        t_unseen: of every calibration image, (h,).
        p: of every sample, (m,).
        q: of every sample, (m,).
        similarity: of every sample to its nearest entry of T, (m,).
        index: that entry, (m,).
        control_similarity: to its nearest entry of C, (m,); empty without control images.
        control_index: that entry, (m,).
        unseen_similarity: of every calibration image to its nearest entry of T, (h,).
        copied: share of copies.
        leakage: None without control images.
        nearer_than_nothing: probability that a sample lies nearer to images of the kind than shuffled images and noise do.
    """

    space: str
    statistic: Statistic
    power: Mapping[str, Interval]
    fooled: Mapping[str, float]
    mean_power: Mapping[str, float]
    t: Floats
    t_unseen: Floats
    p: Floats
    q: Floats
    similarity: Floats
    index: npt.NDArray[np.int64]
    control_similarity: Floats
    control_index: npt.NDArray[np.int64]
    unseen_similarity: Floats
    copied: CopiedShare
    leakage: Leakage | None
    nearer_than_nothing: Interval


class SetVectors:
    """The unit vectors of a set in a feature space, kept if they are few.

    Args:
        directions: the feature space.
        images: the set.
    """

    def __init__(self, directions: Directions, images: ImageSet) -> None:
        self.directions = directions
        self.images = images
        self._kept: list[tuple[int, Vectors]] | None = None

    def blocks(self) -> Iterator[tuple[int, Vectors]]:
        """As `search` reads them."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[tuple[int, Vectors]] = []
        values = 0
        for block in self.directions.blocks(self.images):
            values += block[1].size
            if values <= KEPT_VALUES:
                kept.append(block)
            yield block
        if values <= KEPT_VALUES:
            self._kept = kept


def asked_about(sets: AuditSets, settings: AuditSettings) -> dict[str, Tensor]:
    """Planted copies by kind, smoothed unseen images, and images of nothing: floats in 8-bit steps."""
    random = np.random.default_rng(settings.seed + 1)
    training = sets.training
    originals = training.tensor(random.choice(training.stored, settings.planted, replace=True))
    hosts = sets.calibration.tensor(np.resize(random.permutation(sets.calibration.stored), settings.planted))
    unseen = sets.calibration.tensor(random.permutation(sets.calibration.stored)[:FEW])
    generator = torch.Generator().manual_seed(settings.seed)
    found = {f"planted/{kind}": planting.planted(kind, originals, hosts, settings.seed) for kind in planting.KINDS}
    found |= {f"smoothed/{side}": planting.smoothed(unseen, side) for side in planting.SMOOTHED}
    few = unseen[:200]
    found["nothing"] = torch.cat([modelling.shuffled(few, generator), modelling.noise_like(few, generator)])
    return {name: to_float(to_uint8(images)) for name, images in found.items()}


def searched(
    samples: ImageSet, sets: AuditSets, directions: Directions, settings: AuditSettings, words: str
) -> dict[str, Any]:
    """What is found in T and C for samples, calibration images and all that `asked_about` makes, as arrays by name."""
    parts: dict[str, Vectors] = {"samples": directions.all_of(samples), "unseen": directions.all_of(sets.calibration)}
    parts |= {name: directions.of(images) for name, images in asked_about(sets, settings).items()}
    queries = np.concatenate(list(parts.values()))
    ends = np.cumsum([len(part) for part in parts.values()])
    own = None
    if sets.own is not None:
        own = np.full((len(queries), sets.own.shape[1]), -1, np.int64)
        own[ends[0] : ends[1]] = sets.own
    training = SetVectors(directions, sets.training)
    k = min(NEIGHBOURS + 1, len(sets.training))
    if sets.control is None:
        near = search(queries, training.blocks(), k=k, own=own, words=words, total=block_count(sets.training))
        found = Sides(np.full(len(queries), np.nan), near, _nothing(len(queries)))
    else:
        control = SetVectors(directions, sets.control)
        found = sides(
            queries,
            (training.blocks, len(sets.training)),
            (control.blocks, len(sets.control)),
            k=k,
            mirrored=sets.training.flips,
            words=words,
        )
    arrays: dict[str, Any] = {}
    for (name, part), end in zip(parts.items(), ends, strict=True):
        rows = slice(end - len(part), end)
        arrays |= {
            f"{name}/nearer": found.nearer[rows],
            f"{name}/similarity": found.training.similarity[rows],
            f"{name}/index": found.training.index[rows, 0],
            f"{name}/control similarity": found.control.similarity[rows, 0],
            f"{name}/control index": found.control.index[rows, 0],
        }
    return arrays


def nearness(
    arrays: Mapping[str, Any], space: str, with_control: bool, mirrored: bool, settings: AuditSettings
) -> Nearness:
    """The findings from what was searched, with or without control images and mirror images."""
    kinds = [kind for kind in STATISTICS if _possible(kind, arrays, with_control)]

    def of(name: str, kind: Statistic) -> Floats:
        control = arrays[f"{name}/control similarity"] if with_control else None
        return statistic(kind, arrays[f"{name}/similarity"], control)

    power: dict[Statistic, dict[str, Interval]] = {}
    fooled: dict[Statistic, float] = {}
    counted = [kind for kind in planting.KINDS if kind not in planting.LOCAL and (kind != "mirrored" or mirrored)]
    for kind in kinds:
        unseen = of("unseen", kind)
        others = unseen[: 4 * settings.planted]
        power[kind] = {
            name: planting.detected(of(f"planted/{name}", kind), others, unseen, settings.fdr)
            for name in planting.KINDS
        }
        fooled[kind] = max(
            planting.exceeding(of(f"smoothed/{side}", kind), unseen, CHANCE) for side in planting.SMOOTHED
        )
    mean_power = {kind: [power[kind][name].value for name in counted] for kind in kinds}
    chosen = planting.choose_statistic(mean_power, fooled, CHANCE)
    mine, unseen = of("samples", chosen), of("unseen", chosen)
    p = conformal(mine, unseen)
    q = q_values(p)
    leaked = None
    if with_control:
        leaked = leakage(_sides(arrays, "samples"), _sides(arrays, "unseen"), q <= settings.fdr)
    real, nothing = (
        np.fmax(_first(arrays[f"{name}/similarity"]), _first(arrays[f"{name}/control similarity"]))
        for name in ("samples", "nothing")
    )
    return Nearness(
        space=space,
        statistic=chosen,
        power=power[chosen],
        fooled={str(kind): value for kind, value in fooled.items()},
        mean_power={str(kind): float(np.mean(values)) for kind, values in mean_power.items()},
        t=mine,
        t_unseen=unseen,
        p=p,
        q=q,
        similarity=_first(arrays["samples/similarity"]),
        index=arrays["samples/index"],
        control_similarity=_first(arrays["samples/control similarity"]) if with_control else np.zeros(0),
        control_index=arrays["samples/control index"],
        unseen_similarity=_first(arrays["unseen/similarity"]),
        copied=copied_share(mine, unseen),
        leakage=leaked,
        nearer_than_nothing=modelling.nearer_than(real, nothing),
    )


def _possible(kind: Statistic, arrays: Mapping[str, Any], with_control: bool) -> bool:
    if kind == "margin":
        return with_control
    second = arrays["unseen/similarity"]
    return kind == "similarity" or (second.shape[1] > 1 and bool((second[:, 1] > -1.5).all()))


def _sides(arrays: Mapping[str, Any], name: str) -> Sides:
    def one(prefix: str) -> Found:
        similarity = np.asarray(arrays[f"{name}/{prefix}similarity"], np.float32)
        index = np.asarray(arrays[f"{name}/{prefix}index"], np.int64)
        none = np.zeros(len(index), np.int64)
        return Found(similarity.reshape(len(index), -1), index[:, None], none, none)

    return Sides(np.asarray(arrays[f"{name}/nearer"], np.float64), one(""), one("control "))


def _nothing(count: int) -> Found:
    none = np.zeros(count, np.int64)
    return Found(np.full((count, 1), np.nan, np.float32), np.full((count, 1), -1, np.int64), none, none)


def _first(similarity: npt.ArrayLike) -> Floats:
    values = np.asarray(similarity, dtype=np.float64)
    return values[:, 0] if values.ndim == 2 else values
