"""What an audit costs: processor time and memory for 50,000 samples, and against a million training images on disk.

*50,000*: as many samples, training and control images, and 5,000 calibration images, in pixels and in embedded features.
*A million*: 1,000 samples against 1,000,000 training images in a store, Fashion-MNIST moved by up to two pixels; duplicates
within the training images and between them and the unseen ones are looked for first, as an audit does.

Every case runs in a process of its own. Processor seconds are those of all threads; memory is the most that was resident, and
of that what is not mapped from files. ``python -m benchmarks audit-costs``; kept in ``benchmarks/results/audit-costs.json``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.memory import anonymous_megabytes, watched
from scorescope.data import ImageSet, ImageStore, Provenance, cache_folder, load_images, writing_store
from scorescope.data.duplicates import AlikeImages
from scorescope.foundation.progress import track
from scorescope.lenses.audit.nearness import nearness, searched
from scorescope.lenses.audit.sets import AuditSets, audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit.search import Directions
from scorescope.probes.features_opening import open_features

CASES = {
    "50,000 in pixels": ("fifty_thousand", "pixels"),
    "50,000 in embedded features": ("fifty_thousand", "embedded"),
    "1,000 against a million, in pixels": ("a_million", "pixels"),
    "duplicates within a million": ("a_million_apart", "pixels"),
}
MANY, MILLION, SAMPLES = 50_000, 1_000_000, 1000
WANTED = "50,000: 180 seconds on two cores and 2,000 MB"
FILE = Path(__file__).parent / "results" / "audit-costs.json"


def keep() -> str:
    """Measure everything, write the file, and say it as text."""
    rows = []
    shifted_million()
    for case, (function, word) in CASES.items():
        words = [sys.executable, "-c", f"from benchmarks import audit_costs as a; a.measured(a.{function}, {word!r})"]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"case": case, **json.loads(done.stdout.strip().splitlines()[-1])})
        print(json.dumps(rows[-1]), flush=True)
        FILE.write_text(json.dumps({"wanted": WANTED, "rows": rows}, indent=1) + "\n")
    return "\n".join(["audit: costs", *("  ".join(f"{key} {value}" for key, value in row.items()) for row in rows)])


def measured(function: Callable[[str], None], word: str) -> None:
    """Run a case, and print what it took as JSON."""
    started, processor, before = time.perf_counter(), time.process_time(), anonymous_megabytes()
    with watched() as peak:
        function(word)
    record: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - started, 1),
        "processor seconds": round(time.process_time() - processor, 1),
        "resident (MB)": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "not mapped (MB)": round(before + peak[0]),
    }
    print(json.dumps(record))


def fifty_thousand(word: str) -> None:
    """50,000 samples against as many training and control images."""
    images = load_images("fashion-mnist").train
    everything = _enough(images, 3 * MANY + 5000)
    training, control = everything.subset(range(MANY)), everything.subset(range(MANY, 2 * MANY))
    samples = everything.subset(range(2 * MANY, 3 * MANY))
    unseen = everything.subset(range(3 * MANY, 3 * MANY + 5000))
    sets = AuditSets(training, training, np.arange(MANY), control, unseen, None, 0, 0, ())
    _search(samples, sets, word)


def a_million(word: str) -> None:
    """1,000 samples against a million training images, 4,000 control and 5,000 calibration images."""
    training, test = shifted_million(), load_images("fashion-mnist").test
    assert test is not None
    samples, control, unseen = (
        test.subset(range(first, last)) for first, last in ((0, SAMPLES), (SAMPLES, 5000), (5000, 10000))
    )
    sets = AuditSets(training, training, np.arange(training.stored), control, unseen, None, 0, 0, ())
    _search(samples, sets, word)


def a_million_apart(word: str) -> None:
    """Duplicates within a million training images, and between them and 9,000 unseen ones."""
    test = load_images("fashion-mnist").test
    assert test is not None
    audit_sets(shifted_million(), test, alike=AlikeImages(AuditSettings().near), calibration=5000, seed=0)


def shifted_million() -> ImageStore:
    """Fashion-MNIST moved by up to two pixels in both directions, a million images, made once."""
    path = cache_folder() / "benchmarks" / "shifted-million"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        images = load_images("fashion-mnist").train
        pixels = images.read(0, images.stored)
        steps = [(down, across) for down in range(-2, 3) for across in range(-2, 3)]
        with writing_store(path) as writer:
            for place in track(range(-(-MILLION // images.stored)), "a million images"):
                moved = np.roll(pixels, steps[place], (2, 3))
                writer.append(moved[: MILLION - place * images.stored])
            writer.provenance = Provenance(source=f"{images.name}, moved by up to two pixels", colour="grey")
    return ImageStore.open(path)


def _search(samples: ImageSet, sets: AuditSets, word: str) -> None:
    settings = AuditSettings(features=(word,))
    arrays = searched(samples, sets, Directions(open_features(word)), settings, "searching")
    nearness(arrays, word, sets.control is not None, False, settings)


def _enough(images: ImageSet, count: int) -> ImageSet:
    """So many different images of a kind: shifted by a pixel where there are not enough."""
    pixels = images.read(0, images.stored)
    parts = [np.roll(pixels, (place // 3, place % 3), (2, 3)) for place in range(-(-count // len(pixels)))]
    return ImageSet(np.concatenate(parts)[:count], name=images.name)
