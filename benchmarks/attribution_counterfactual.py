"""What taking the first images away changes: how far samples move when a network is trained again without them.

``nice python -m benchmarks.attribution_counterfactual`` takes a few samples of the network of `attribution_networks` that was
trained on all 2,000 images. For each the first twenty images (1 %) by a method are left out, a network is trained again from
the same start, and a sample drawn from the same noise; and without as many images at random. Others take the places of the
images that are gone, so that nothing else changes. The methods are the best of those that ask the network and of those that
do not. Resumable; writes ``results/attribution-counterfactual.json``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import attribution, attribution_networks
from scorescope.foundation import new_file

REMOVED, SAMPLES, RANDOM, RESAMPLES = 20, 4, 4, 2000
METHODS = ("windows of the schedule", "gradients (D-TRAK), λ = 1")
FILE = attribution.RESULTS / "attribution-counterfactual.json"


def keep() -> dict[str, Any]:
    """Train what is missing, and write what was found."""
    samples = attribution_networks.sample(attribution_networks.network_of("full"))
    random = np.random.default_rng(4)
    chosen = [random.permutation(attribution_networks.IMAGES)[:REMOVED] for _ in range(RANDOM)]
    drawn = [_without(f"random {place}", gone) for place, gone in enumerate(chosen)]
    by_chance = [[_distance(other[place], samples[place]) for other in drawn] for place in range(SAMPLES)]
    found: dict[str, Any] = {"removed": REMOVED, "random networks": RANDOM, "random": by_chance, "methods": {}}
    attributions = attribution.attributions()
    for method in METHODS:
        values = attributions[method].mean(0)
        moved = []
        for place in range(SAMPLES):
            first = np.argsort(-values[place], kind="stable")[:REMOVED]
            left = _without(f"without {place} {_slug(method)}", first)
            moved.append(_distance(left[place], samples[place]))
        ratios = np.array(moved) / np.mean(by_chance, axis=1)
        again = ratios[np.random.default_rng(0).integers(0, SAMPLES, (RESAMPLES, SAMPLES))].mean(1)
        ends = np.quantile(again, [0.025, 0.975]).tolist()
        found["methods"][method] = {"moved": moved, "ratio": float(ratios.mean()), "interval": ends}
    with new_file(FILE) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _without(name: str, gone: npt.NDArray[np.int64]) -> torch.Tensor:
    """Samples from the shared noise of a network trained without some images."""
    kept = np.ones(attribution_networks.IMAGES, dtype=np.bool_)
    kept[gone] = False
    entries = attribution_networks.places_taken(kept, 1000)
    found = attribution_networks.sample(attribution_networks.network_of(name, entries, 0))
    print(f"{name}: done", flush=True)
    return found


def _distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).square().mean().sqrt())


def _slug(method: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in method)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(keep(), indent=1))
