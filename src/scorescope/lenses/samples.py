"""Samples: of the network and of every denoiser from the same noise, so that pictures can be laid beside each other.

If a mechanism is what the network computes, it makes the network's picture from the same noise. The optimal denoiser can only
make training images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from scorescope.denoisers import Denoiser
from scorescope.lenses.base import Lens, lens
from scorescope.lenses.drawing import LOWEST_SIGMA, Images, guarded
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.subject import HIGHEST_SIGMA, OPTIMAL, Subject, mean_intensity
from scorescope.noise import edm_sigmas
from scorescope.probes.similarity import cosine_similarity, nearest
from scorescope.sampling import State, heun, last
from scorescope.study import charts, palette, pictures
from scorescope.study.glances import small_chart
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SHOWN = 8
NETWORK = "network"


@lens("samples", question="From the same noise, which denoiser makes the pictures that the network makes?")
class Samples(Lens):
    """Samples of the network and of every mechanism from the same noise."""

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> dict[str, Any]:
        """See `Lens.measure`: ``rows`` of samples by name, the ``nearest`` training images, ``high``, ``steps``."""
        network, training = subject.first, subject.first_training
        low, high = max(network.sigma_range[0], LOWEST_SIGMA), min(network.sigma_range[1], HIGHEST_SIGMA)
        sigmas = edm_sigmas(settings.flow_steps, low, high)
        generator = torch.Generator().manual_seed(settings.seed)
        centre = mean_intensity(training, settings.seed)
        start = centre + high * torch.randn((SHOWN, *network.image_shape), generator=generator)
        denoisers: dict[str, Denoiser] = {NETWORK: network, OPTIMAL: subject.optimal, **subject.mechanisms}

        def sampled(denoiser: Denoiser) -> Images:
            final: State = last(heun(guarded(denoiser, workspace.device), start, sigmas))
            return final.noisy.float().numpy()

        rows = {}
        for name, denoiser in denoisers.items():
            rows[name] = workspace.computed(f"sample sheet/{name}", lambda: sampled(denoiser))  # noqa: B023
        neighbours = training.tensor(nearest(torch.from_numpy(rows[NETWORK]), training).index[:, 0]).numpy()
        return {"rows": rows, "nearest": neighbours, "high": high, "steps": settings.flow_steps}

    def show(self, results: Results, measured: dict[str, Any]) -> None:
        """See `Lens.show`."""
        rows = measured["rows"]
        results.add_sheet(
            "sample-sheet",
            "Samples of every denoiser from the same noise",
            f"Each column starts from the same noise at σ = {measured['high']:.3g} and follows each denoiser's own flow (Heun's"
            f" method, {measured['steps']} levels). A mechanism that is the network makes the network's picture; the optimal"
            " denoiser can only make training images. Below the network's samples: the most similar training images.",
            self.title,
            sample_sheet(rows, measured["nearest"]),
        )
        alike = similarity_to(rows, NETWORK)
        results.add_chart(
            "sample-similarity",
            "Whose samples are the network's",
            "Cosine similarity of centred images between the network's sample and each denoiser's from the same noise, mean"
            f" over {len(measured['nearest'])} starts.",
            self.title,
            charts.bars(alike, "cosine similarity", form=".2f"),
            folded=True,
        )
        known = {name: value for name, value in alike.items() if math.isfinite(value)}
        if known:
            best = max(known, key=lambda name: known[name])
            places = list(range(1, len(known) + 1))
            results.add_glance(
                self.title,
                f"{known[best]:.2f}",
                f"From the same noise {best} makes the pictures most like the network's.",
                small_chart(
                    [charts.Series("similarity", places, sorted(known.values(), reverse=True), colour=palette.BLUE)],
                    "denoisers, best first",
                    x_log=False,
                ),
            )


def similarity_to(rows: Mapping[str, Images], name: str) -> dict[str, float]:
    """Mean cosine similarity of every other denoiser's samples to those of one, start by start; NaN where none is finite."""
    found = {}
    for other, samples in rows.items():
        if other != name:
            known = np.isfinite(samples).all((1, 2, 3)) & np.isfinite(rows[name]).all((1, 2, 3))
            pair = (torch.from_numpy(rows[name][known]), torch.from_numpy(samples[known]))
            found[other] = float(cosine_similarity(*pair).mean()) if known.any() else math.nan
    return found


def sample_sheet(rows: Mapping[str, Images], nearest_to: Images | None = None, columns: int = SHOWN) -> pictures.Sheet:
    """Samples in rows, one a denoiser, one column a start.

    Args:
        rows: name -> samples (n, C, H, W).
        nearest_to: training images nearest to the first row's samples, shown under it; None for none.
        columns: starts shown.
    """
    shown = {name: samples[:columns] for name, samples in rows.items()}
    if nearest_to is not None:
        first = next(iter(shown))
        shown = {first: shown[first], f"nearest to {first}": nearest_to[:columns], **shown}
    return pictures.grid(np.stack(list(shown.values())), row_labels=list(shown))
