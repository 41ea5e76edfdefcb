"""Copied regions of samples: which samples have one, where, and whose it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data import ImageSet
from scorescope.lenses.audit.nearness import asked_about
from scorescope.lenses.audit.sets import AuditSets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit import planting
from scorescope.probes.audit.copies import CHANCE, CopiedShare, conformal, copied_share, q_values
from scorescope.probes.audit.local_copies import Window, local_margins, windows_of
from scorescope.probes.proportions import Interval

Floats = npt.NDArray[np.float64]
COMPARISONS = 2e10
"""Windows compared with windows at most; fewer samples are looked at beyond that."""
LEAST = 100


@dataclass(frozen=True)
class Regions:
    """Copied regions of samples.

    Attributes:
        samples: which samples were looked at, (n,).
        p: of each, (n,).
        q: of each, (n,).
        margin: of each in every window, (n, W).
        index: the nearest training entry in its best window, (n,).
        windows: the windows.
        level: margin that 1 % of unseen images exceed somewhere.
        unseen: how many calibration images were looked at.
        copied: share of samples with a copied region.
        power: kind of planted copies -> share found.
    """

    samples: npt.NDArray[np.int64]
    p: Floats
    q: Floats
    margin: npt.NDArray[np.float32]
    index: npt.NDArray[np.int64]
    windows: tuple[Window, ...]
    level: float
    unseen: int
    copied: CopiedShare
    power: Mapping[str, Interval]


def regions_possible(sets: AuditSets) -> bool:
    """Whether regions can be looked for: there are control images, and images are large enough for a window."""
    return sets.control is not None and bool(windows_of(*sets.training.image_shape[1:]))


def searched_regions(samples: ImageSet, sets: AuditSets, settings: AuditSettings) -> dict[str, Any]:
    """Margins of samples, calibration images and planted parts, as arrays by name."""
    assert sets.control is not None
    windows = windows_of(*sets.training.image_shape[1:])
    entries = (len(sets.training) + len(sets.control)) * len(windows)
    most = int(max(2 * LEAST, min(settings.region_images, COMPARISONS / entries)))
    half = most // 2
    many = min(samples.stored, max(half, most - sets.calibration.stored))
    unseen = min(sets.calibration.stored, most - many)
    chosen = np.unique(np.linspace(0, samples.stored - 1, many).astype(np.int64))
    planted = {kind: asked_about(sets, settings)[f"planted/{kind}"] for kind in planting.LOCAL}
    parts = {"samples": samples.tensor(chosen), "unseen": sets.calibration.tensor(np.arange(unseen)), **planted}
    found = local_margins(torch.cat(list(parts.values())), sets.training, sets.control, windows)
    arrays: dict[str, Any] = {"chosen": chosen}
    start = 0
    for name, part in parts.items():
        rows = slice(start, start + len(part))
        arrays |= {f"{name}/margin": found.margin[rows], f"{name}/index": found.index[rows]}
        start += len(part)
    return arrays


def regions(arrays: Mapping[str, Any], sets: AuditSets, settings: AuditSettings) -> Regions:
    """The findings from what was searched."""
    margin, unseen = arrays["samples/margin"], arrays["unseen/margin"].max(1)
    mine = margin.max(1)
    p = conformal(mine, unseen)
    best = margin.argmax(1)
    others = unseen[: 4 * settings.planted]
    ranked = np.sort(unseen)
    return Regions(
        samples=arrays["chosen"],
        p=p,
        q=q_values(p),
        margin=margin,
        index=arrays["samples/index"][np.arange(len(best)), best].astype(np.int64),
        windows=tuple(windows_of(*sets.training.image_shape[1:])),
        level=float(ranked[-max(1, math.floor(CHANCE * (len(ranked) + 1)))]),
        unseen=len(unseen),
        copied=copied_share(mine, unseen),
        power={
            kind: planting.detected(arrays[f"{kind}/margin"].max(1), others, unseen, settings.fdr)
            for kind in planting.LOCAL
        },
    )
