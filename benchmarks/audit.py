"""The audit's error rates on real images: false alarms, coverage and power.

Of a data set T, C, H and a pool of further images are drawn twenty times, and of Fashion-MNIST forty times for the largest T.
Of the pool 128 images are dealt out as samples, many times for each: none of them is a copy, so every alarm is false. For
coverage a known share of samples is replaced by training images through JPEG. Images of the pool that are near-duplicates of a
training image are left out as `audit_sets` leaves them out of H, and counted.

All draws of a split share its images, so the uncertainty of every rate is that of the mean over splits. Features are computed
once for all images of a data set, and a split is searched once.

``python -m benchmarks audit``; results are kept in ``benchmarks/results/audit.json``.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, relu

from benchmarks.data import fifty_thousand
from scorescope.data import ImageSet, load_images
from scorescope.data.duplicates import AlikeImages, find_common
from scorescope.lenses.audit.nearness import Nearness, nearness, searched
from scorescope.lenses.audit.sets import AuditSets, audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit.copies import conformal, copied_share, q_values, statistic
from scorescope.probes.audit.leakage import Sides, leakage
from scorescope.probes.audit.planting import LOCAL
from scorescope.probes.audit.search import AT_ONCE, Directions, Found, Vectors
from scorescope.probes.audit.verdict import Evidence, rule
from scorescope.probes.features import FeatureSpace, FunctionFeatures
from scorescope.probes.features_opening import open_features

SETS: Mapping[str, tuple[Callable[[], ImageSet], Mapping[int, int]]] = {
    "fashion-mnist": (lambda: load_images("fashion-mnist").train, {100: 20, 1000: 20, 10000: 40}),
    "CIFAR-10": (fifty_thousand, {100: 20, 1000: 20, 10000: 20}),
    "digits": (lambda: load_images("digits").train, {100: 20, 400: 20}),
}
"""What opens a data set, and in how many splits each number of training images is measured."""
SPACES = ("pixels", "embedded", "random filters")
SAMPLES, DRAWS = 128, 1000
POOL, MOST = 3000, 40_000
SHARES = (0.1, 0.5)
SETTINGS = AuditSettings(planted=20, calibration=2000)
FILE = Path(__file__).parent / "results" / "audit.json"


def random_filters(images: Tensor) -> Tensor:
    """Features of a fixed random network of two layers, as a user's own function would give them."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(32, images.shape[1], 5, 5, generator=generator) / 5
    second = torch.randn(64, 32, 3, 3, generator=generator) / 17
    hidden = avg_pool2d(relu(conv2d(images, first, padding=2)), 2)
    return avg_pool2d(relu(conv2d(hidden, second, padding=1)), 2).flatten(1)


class Known(Directions):
    """Unit vectors of a feature space, computed once for the images that all splits are drawn of.

    Args:
        space: the feature space.
        images: of which all sets are subsets.
    """

    def __init__(self, space: FeatureSpace, images: ImageSet) -> None:
        super().__init__(space)
        self.pixels = images.pixels
        self.vectors: Vectors = super().all_of(images)

    def blocks(self, images: ImageSet) -> Iterator[tuple[int, Vectors]]:
        """See `Directions.blocks`."""
        if images.pixels is not self.pixels or images.indices is None:
            yield from super().blocks(images)
            return
        for start in range(0, len(images), AT_ONCE):
            yield start, self.vectors[images.indices[start : start + AT_ONCE]]


def keep() -> str:
    """Measure everything, write the file after every row, and say it as text."""
    rows: list[dict[str, Any]] = []
    for data in SETS:
        for row in error_rates(data):
            rows.append(row)
            FILE.write_text(json.dumps({"samples": SAMPLES, "error rates": rows}, indent=1) + "\n")
    return text(rows)


def error_rates(data: str) -> Iterator[dict[str, Any]]:
    """False alarms, coverage and power for every feature space and size of a data set."""
    opened, sizes = SETS[data]
    images = opened()
    some = np.random.default_rng(0).permutation(images.stored)[:MOST]
    images = ImageSet(images.take(some), name=images.name)
    splits = {(size, seed): split_of(images, size, seed) for size, many in sizes.items() for seed in range(many)}
    for word in SPACES:
        space = FunctionFeatures(random_filters, word) if word == "random filters" else open_features(word)
        directions = Known(space, images)
        for size, many in sizes.items():
            started, counts = time.process_time(), [Split() for _ in range(many)]
            for seed, split in enumerate(counts):
                measure(*splits[size, seed], directions, np.random.default_rng(seed), split, DRAWS // len(counts))
            row = {"data": images.name, "features": word, "N": size, **summary(counts)}
            row["near-duplicates left out"] = sum(splits[size, seed][2] for seed in range(len(counts)))
            row["processor seconds"] = round(time.process_time() - started, 1)
            print(json.dumps(row), flush=True)
            yield row


class Split:
    """What was counted in one split.

    Attributes:
        rates: name -> one number a draw.
        power: kind of planted copies -> share found.
        statistic: which was chosen.
    """

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        self.power: dict[str, float] = {}
        self.statistic = ""

    def add(self, **values: float) -> None:
        """One draw; names are written with underscores for spaces."""
        for name, value in values.items():
            self.rates.setdefault(name.replace("_", " "), []).append(float(value))


def split_of(images: ImageSet, size: int, seed: int) -> tuple[AuditSets, ImageSet, int]:
    """T, C and H; the pool; and how many near-duplicates of T were left out of the pool."""
    order = np.random.default_rng(seed).permutation(images.stored)
    many = min(POOL, (images.stored - size) // 4)
    training, pool = images.subset(order[:size]), images.subset(order[size : size + many])
    rest = images.subset(order[size + many :][: 2 * max(size, 500) + 4000])
    sets = audit_sets(
        training, rest, alike=AlikeImages(SETTINGS.near), calibration=SETTINGS.calibration or 2000, seed=seed
    )
    near = np.unique(find_common(training, pool, SETTINGS.near).second)
    return sets, pool.subset(np.setdiff1d(np.arange(many), near)), len(near)


def measure(
    sets: AuditSets,
    pool: ImageSet,
    left_out: int,
    directions: Directions,
    random: np.random.Generator,
    split: Split,
    draws: int,
) -> None:
    """Search once, draw many times."""
    arrays = searched(pool, sets, directions, SETTINGS, "")
    found = nearness(arrays, directions.name, sets.control is not None, False, SETTINGS)
    split.statistic = found.statistic
    split.power = {kind: one.value for kind, one in found.power.items() if kind not in (*LOCAL, "mirrored")}
    copies = statistic(
        found.statistic, arrays["planted/JPEG/similarity"], np.ravel(arrays["planted/JPEG/control similarity"])
    )
    beyond = float(np.mean(arrays["planted/JPEG/nearer"]) - np.mean(arrays["samples/nearer"]))
    for _ in range(draws):
        chosen = random.choice(pool.stored, min(SAMPLES, pool.stored), replace=False)
        _clean(found, arrays, chosen, split)
        for share in SHARES:
            copied = random.random(len(chosen)) < share
            places = random.integers(0, len(copies), len(chosen))
            mixed = np.where(copied, copies[places], found.t[chosen])
            interval = copied_share(mixed, found.t_unseen).share
            q = q_values(conformal(mixed, found.t_unseen))
            mine = _joined(_sides(arrays, "planted/JPEG", places), _sides(arrays, "samples", chosen), copied)
            leaked = leakage(mine, _sides(arrays, "unseen"), q <= SETTINGS.fdr).leakage
            split.add(
                **{
                    f"copies_cover_{share:g}": interval.low <= share <= interval.high,
                    f"leakage_covers_{share:g}": leaked.low <= 2 * share * beyond <= leaked.high,
                }
            )


def _clean(found: Nearness, arrays: Mapping[str, Any], chosen: np.ndarray, split: Split) -> None:
    """One draw without copies: which interval, list or verdict raises a false alarm."""
    q = q_values(conformal(found.t[chosen], found.t_unseen))
    listed = int((q <= SETTINGS.fdr).sum())
    leaked = leakage(_sides(arrays, "samples", chosen), _sides(arrays, "unseen"), q <= SETTINGS.fdr).leakage
    share = copied_share(found.t[chosen], found.t_unseen).share
    states = {
        lists: rule(Evidence(share, leaked, listed=(lists, 0), samples=len(chosen)), allow_wider=True).state
        for lists in {0, listed}
    }
    split.add(
        alarm_copies=share.low > 0,
        alarm_leakage=leaked.low > 0,
        alarm_intervals=states[0] in ("in transition", "memorizes"),
        alarm_list=listed > 0,
        alarm_verdict=states[listed] in ("in transition", "memorizes"),
        memorizes=states[listed] == "memorizes",
        generalizes=states[listed] == "generalizes",
        leakage_covers_0=leaked.low <= 0 <= leaked.high,
        half_width_of_leakage=(leaked.high - leaked.low) / 2,
    )


def summary(counts: list[Split]) -> dict[str, Any]:
    """Means over all draws, and the standard errors that the means of the splits give."""
    row: dict[str, Any] = {"splits": len(counts), "draws": sum(len(one.rates["memorizes"]) for one in counts)}
    row["statistic"] = Counter(one.statistic for one in counts).most_common(1)[0][0]
    for name in counts[0].rates:
        means = [float(np.mean(one.rates[name])) for one in counts]
        row[name] = round(float(np.mean(means)), 4)
        if name.startswith(("alarm", "copies", "leakage")):
            row[f"{name} ±"] = round(float(np.std(means, ddof=1) / len(means) ** 0.5), 4)
    row["power"] = {kind: round(float(np.mean([one.power[kind] for one in counts])), 3) for kind in counts[0].power}
    return row


def _sides(arrays: Mapping[str, Any], name: str, chosen: np.ndarray | None = None) -> Sides:
    rows = slice(None) if chosen is None else chosen

    def one(prefix: str) -> Found:
        index = arrays[f"{name}/{prefix}index"][rows]
        similarity = arrays[f"{name}/{prefix}similarity"][rows].reshape(len(index), -1)
        none = np.zeros(len(index), np.int64)
        return Found(similarity, index[:, None], none, none)

    return Sides(arrays[f"{name}/nearer"][rows], one(""), one("control "))


def _joined(copies: Sides, others: Sides, copied: np.ndarray) -> Sides:
    """The sides of copies where `copied` is true, of others elsewhere."""

    def one(first: Found, second: Found) -> Found:
        index = np.where(copied[:, None], first.index, second.index)
        none = np.zeros(len(index), np.int64)
        return Found(np.where(copied[:, None], first.similarity, second.similarity), index, none, none)

    return Sides(
        np.where(copied, copies.nearer, others.nearer),
        one(copies.training, others.training),
        one(copies.control, others.control),
    )


def text(rows: list[dict[str, Any]]) -> str:
    """The tables of the documentation, as Markdown: error rates, then power."""
    heads = [
        "data",
        "features",
        "N",
        "splits",
        "intervals",
        "list",
        "any alarm",
        "leakage covers",
        "10% copies",
        "50% copies",
    ]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        rates = [
            f"{row[f'alarm {name}']:.1%} ± {row[f'alarm {name} ±']:.1%}" for name in ("intervals", "list", "verdict")
        ]
        covers = [f"{row[name]:.1%}" for name in ("leakage covers 0", "copies cover 0.1", "copies cover 0.5")]
        lines.append(_line([row["data"], row["features"], f"{row['N']:,}", str(row["splits"]), *rates, *covers]))
    kinds = list(rows[0]["power"])
    lines += ["", _line(["data", "features", "N", *kinds]), _line(["---"] * (3 + len(kinds)))]
    for row in rows:
        lines.append(
            _line([row["data"], row["features"], f"{row['N']:,}", *(f"{row['power'][kind]:.0%}" for kind in kinds)])
        )
    return "\n".join(lines).replace("%", " %")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
