"""The audit's error rates on real images, and what it costs: false alarms, coverage and power; time and memory.

*Error rates.* Of a data set T, C and H are drawn, several times; unseen images beyond these are dealt out as samples, many
times for each: none of them is a copy, so every alarm is false. For coverage a known share of samples is replaced by copies
through JPEG. *Costs.* 50,000 samples against 50,000 training and 50,000 control images, in pixels and in embedded features.

``python -m benchmarks audit``; results are kept in ``benchmarks/results/audit.json``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, relu

from scorescope.data import ImageSet, load_images
from scorescope.lenses.audit.nearness import Nearness, nearness, searched
from scorescope.lenses.audit.sets import AuditSets, audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit.copies import conformal, copied_share, q_values
from scorescope.probes.audit.leakage import Sides, leakage
from scorescope.probes.audit.planting import planted
from scorescope.probes.audit.search import Directions, Found
from scorescope.probes.audit.verdict import Evidence, rule
from scorescope.probes.features import FunctionFeatures
from scorescope.probes.features_opening import open_features

SETS = {"fashion-mnist": (100, 1000, 10000), "digits": (100, 400), "natural-patches": (100, 1000)}
SPACES = ("pixels", "embedded", "random filters")
SAMPLES, DRAWS, SPLITS, POOL = 128, 200, 5, 1500
SHARES = (0.1, 0.5)
MANY = 50_000
FILE = Path(__file__).parent / "results" / "audit.json"


def random_filters(images: Tensor) -> Tensor:
    """Features of a fixed random network of two layers, as a user's own function would give them."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(32, images.shape[1], 5, 5, generator=generator) / 5
    second = torch.randn(64, 32, 3, 3, generator=generator) / 17
    hidden = avg_pool2d(relu(conv2d(images, first, padding=2)), 2)
    return avg_pool2d(relu(conv2d(hidden, second, padding=1)), 2).flatten(1)


def keep() -> str:
    """Measure everything, write the file, and say it as text."""
    rows = [row for data in SETS for space in SPACES for row in error_rates(data, space)]
    found = {"error rates": rows, "costs": costs()}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    return text(found)


def error_rates(data: str, space: str) -> list[dict[str, Any]]:
    """False alarms, coverage and power for every size of a data set, in one feature space."""
    images = load_images(data)
    pool = images.train
    directions = Directions(
        FunctionFeatures(random_filters, space) if space == "random filters" else open_features(space)
    )
    rows = []
    for size in SETS[data]:
        counts: dict[str, list[float]] = {}
        splits = 1 if size >= 10000 else SPLITS
        started = time.process_time()
        for split in range(splits):
            _one_split(pool, size, split, directions, counts, SPLITS * DRAWS // splits)
        row: dict[str, Any] = {"data": data, "features": space, "N": size, "draws": SPLITS * DRAWS}
        row |= {name: round(float(np.mean(values)), 4) for name, values in counts.items()}
        row["processor seconds"] = round(time.process_time() - started, 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _one_split(
    images: ImageSet, size: int, seed: int, directions: Directions, counts: dict[str, list[float]], draws: int
) -> None:
    random = np.random.default_rng(seed)
    order = random.permutation(images.stored)
    pool_size = min(POOL, (images.stored - size) // 4)
    pool, rest = (
        images.subset(order[size : size + pool_size]),
        images.subset(order[size + pool_size :][: 2 * size + 4000]),
    )
    settings = AuditSettings(planted=50, calibration=2000)
    sets = audit_sets(images.subset(order[:size]), rest, near=settings.near, flips=False, calibration=2000, seed=seed)
    originals = sets.training.tensor(random.integers(0, sets.training.stored, 100))
    copies = planted("JPEG", originals, originals)
    both = torch.cat([pool.tensor(), copies])
    samples = ImageSet(((both + 1) * 127.5).round().to(torch.uint8).numpy(), name="pool")
    arrays = searched(samples, sets, directions, settings, "")
    found = nearness(arrays, directions.name, sets.control is not None, sets.training.flips, settings)
    for kind in ("exact", "shifted 1 pixel", "brighter", "noisy", "JPEG"):
        counts.setdefault(f"power {kind}", []).append(found.power[kind].value)
    for _ in range(draws):
        chosen = random.choice(pool_size, min(SAMPLES, pool_size), replace=False)
        _one_draw(found, arrays, sets, chosen, counts)
        for share in SHARES:
            mixed = chosen.copy()
            copied = random.random(len(mixed)) < share
            mixed[copied] = pool_size + random.integers(0, len(copies), int(copied.sum()))
            interval = copied_share(found.t[mixed], found.t_unseen).share
            # The share drawn, not the share intended, is what there was; the interval is about the latter.
            counts.setdefault(f"covers {share:g}", []).append(interval.low <= share <= interval.high)


def _one_draw(
    found: Nearness, arrays: dict[str, Any], sets: AuditSets, chosen: np.ndarray, counts: dict[str, list[float]]
) -> None:
    q = q_values(conformal(found.t[chosen], found.t_unseen))
    leaked = leakage(_sides(arrays, "samples", chosen), _sides(arrays, "unseen", None), q <= 0.05)
    share = copied_share(found.t[chosen], found.t_unseen).share
    ruling = rule(Evidence(share, leaked.leakage, listed=(int((q <= 0.05).sum()), 0)), allow_wider=True)
    counts.setdefault("alarm list", []).append(bool((q <= 0.05).any()))
    counts.setdefault("alarm verdict", []).append(ruling.state in ("in transition", "memorizes"))
    counts.setdefault("memorizes", []).append(ruling.state == "memorizes")
    counts.setdefault("leakage covers 0", []).append(leaked.leakage.low <= 0 <= leaked.leakage.high)
    counts.setdefault("leakage ±", []).append((leaked.leakage.high - leaked.leakage.low) / 2)


def _sides(arrays: dict[str, Any], name: str, chosen: np.ndarray | None) -> Sides:
    rows = slice(None) if chosen is None else chosen

    def one(prefix: str) -> Found:
        index = arrays[f"{name}/{prefix}index"][rows]
        similarity = arrays[f"{name}/{prefix}similarity"][rows].reshape(len(index), -1)
        none = np.zeros(len(index), np.int64)
        return Found(similarity, index[:, None], none, none)

    return Sides(arrays[f"{name}/nearer"][rows], one(""), one("control "))


def costs() -> list[dict[str, Any]]:
    """Time and memory in a process of its own for each feature space."""
    rows = []
    for space in ("pixels", "embedded"):
        words = [sys.executable, "-c", f"from benchmarks.audit import cost; cost({space!r})"]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return rows


def cost(space: str, many: int = MANY) -> None:
    """Search for `many` samples among `many` training and `many` control images, and print what it took."""
    images = load_images("fashion-mnist").train
    started, processor = time.perf_counter(), time.process_time()
    everything = _enough(images, 3 * many + 5000)
    training, control = everything.subset(range(many)), everything.subset(range(many, 2 * many))
    samples = everything.subset(range(2 * many, 3 * many))
    unseen = everything.subset(range(3 * many, 3 * many + 5000))
    settings = AuditSettings(features=(space,))
    sets = AuditSets(training, training, np.arange(many), control, unseen, None, 0, 0, ())
    arrays = searched(samples, sets, Directions(open_features(space)), settings, "searching")
    nearness(arrays, space, sets.control is not None, sets.training.flips, settings)
    record = {
        "features": space,
        "samples": many,
        "training": many,
        "control": many,
        "seconds": round(time.perf_counter() - started, 1),
        "processor seconds": round(time.process_time() - processor, 1),
        "memory (MB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(record))


def _enough(images: ImageSet, count: int) -> ImageSet:
    """So many different images of a kind: shifted by a pixel where there are not enough."""
    pixels = images.read(0, images.stored)
    parts = [np.roll(pixels, (place // 3, place % 3), (2, 3)) for place in range(-(-count // len(pixels)))]
    return ImageSet(np.concatenate(parts)[:count], name=images.name)


def text(found: dict[str, Any]) -> str:
    """The tables as text."""
    lines = ["", "audit: error rates"]
    lines += ["  ".join(f"{key} {value}" for key, value in row.items()) for row in found["error rates"]]
    lines += ["audit: costs", *("  ".join(f"{key} {value}" for key, value in row.items()) for row in found["costs"])]
    return "\n".join(lines)
