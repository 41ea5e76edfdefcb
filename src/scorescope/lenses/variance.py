"""Variance: how noisy the model's training target was along its own sampling path (Vastola 2025).

The target's variance is measured at the states that the model itself visits, from the exact posterior of its training images.
With two or more networks that were trained on different draws, the variance of what they answer stands beside it: the model's
own.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from scorescope.lenses.base import Lens, lens
from scorescope.lenses.settings import LensSettings, MeasurementConfig
from scorescope.lenses.subject import Subject, mean_intensity
from scorescope.probes.errors import reverse_inputs
from scorescope.study import charts, palette
from scorescope.study.glances import small_chart
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.variance.ensemble import Ensemble, together
from scorescope.variance.image_proxy import ImageProxy
from scorescope.variance.processes import VarianceExploding

SECTION = "Variance"
MOST_INPUTS = 16
LEAST_VARIANCE = 1e-8


@lens(
    "variance", question="How noisy was its training target where it samples, and does that explain how it generalizes?"
)
class Variance(Lens):
    """The relative variance of the training target along the model's sampling, and the models' own where there are several."""

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> dict[str, Any]:
        """See `Lens.measure`: what `variance_along` returns, and the numbers of networks and training images."""
        found: dict[str, Any] = workspace.computed(
            "variance", functools.partial(variance_along, subject, settings, settings.flows)
        )
        return found | {"networks": len(subject.networks), "images": subject.first_training.stored}

    def show(self, results: Results, measured: dict[str, Any]) -> None:
        """See `Lens.show`."""
        flows = measured["fraction"].shape[1]
        results.introductions[self.title] = (
            "A network is trained on noisy targets; where a noisy image may come from several training images, the target"
            " varies, and what is learned from finitely many of them varies as well (Vastola, ICLR 2025)."
        )
        fraction = measured["fraction"]
        results.add_chart(
            "proxy-variance",
            "How noisy its training target is along its own sampling",
            "Share of the target score's size that is noise, tr C / (tr C + ‖s‖²), at the states of the model's own flow: 0"
            f" where one training image is certain. Median and quartiles over {flows} flows.",
            self.title,
            charts.lines(
                charts.Panel(
                    [
                        charts.Series(
                            "noise in the target",
                            measured["sigma"],
                            np.median(fraction, axis=1),
                            np.quantile(fraction, 0.25, axis=1),
                            np.quantile(fraction, 0.75, axis=1),
                            colour=palette.ORANGE,
                        )
                    ],
                    "share of noise",
                    y_range=(-0.03, 1.03),
                ),
                legend=False,
            ),
        )
        if "model" in measured:
            _beside(results, measured, measured["networks"])
        columns = {
            "σ": measured["sigma"],
            "share of noise": fraction.mean(1),
            "target's variance": measured["target"].mean(1),
        }
        if "model" in measured:
            columns["models' variance"] = measured["model"].mean(1)
        results.add_table(
            "variance",
            "Variance along the model's sampling",
            f"Means over {flows} flows; variances of the clean image given the noisy one, and of the models' answers, a pixel.",
            pd.DataFrame(columns),
            section=self.title,
        )
        results.methods["Variance of the target"] = (
            f"From the exact posterior over the {measured['images']} training images, at the states of the first"
            f" network's own probability flow (Heun), {flows} trajectories; in the process y = x + σ n, so that"
            " C = Cov[x | y] / σ⁴."
        )
        share = np.median(fraction, axis=1)
        results.add_glance(
            self.title,
            f"{share.max():.0%}",
            "of the training target's size is noise where it is noisiest along the model's own sampling.",
            small_chart([charts.Series("share", measured["sigma"], share, colour=palette.ORANGE)], charts.SIGMA),
        )


def variance_along(subject: Subject, config: MeasurementConfig, most: int = MOST_INPUTS) -> dict[str, Any]:
    """The variances at the states of the first network's flow.

    Args:
        subject: one network, or several that were trained on different draws; the first one's flow is followed, and the
            posterior is that of its training images.
        config: noise levels, inputs and seed.
        most: flows that are followed at most.

    Returns:
        ``sigma`` (L,), from high to low; ``fraction`` and ``target``, ``tr Cov[x | y] / d``, (L, B); with several networks also
        ``model``, the variance over them a pixel, (L, B).
    """
    training = subject.first_training
    sigmas = subject.sigmas(config.deviation_levels)
    # The posterior is computed where the network is.
    device = next((weights.device for weights in subject.first.parameters()), None)
    proxy = ImageProxy(VarianceExploding(sigmas[-1] / 2, 2 * sigmas[0]), subject.optimal, device=device)
    centre = mean_intensity(training, config.seed)
    count, pixels = min(most, config.deviation_inputs), math.prod(training.image_shape)
    states = reverse_inputs(subject.first, training.image_shape, sigmas, count, config.seed, centre)
    rows: dict[str, list[Any]] = {"fraction": [], "target": []}
    for state in states:
        at = torch.full((count,), state.sigma, dtype=torch.float64)
        noisy = state.noisy.double()
        rows["fraction"].append(proxy.fraction(noisy, at).cpu().numpy())
        rows["target"].append(proxy.trace(noisy, at).cpu().numpy() * state.sigma**4 / pixels)
    if len(subject.networks) > 1:
        ensemble = Ensemble(together(list(subject.networks.values())), len(subject.networks))
        rows["model"] = [ensemble.variance(state.noisy, state.sigma).cpu().numpy() / pixels for state in states]
    return {"sigma": np.array(sigmas), **{name: np.stack(values) for name, values in rows.items()}}


def _beside(results: Results, found: dict[str, Any], networks: int) -> None:
    def seen(values: Any) -> Any:
        means = values.mean(1)
        return np.where(means > LEAST_VARIANCE, means, np.nan)

    series = [
        charts.Series("of the training target", found["sigma"], seen(found["target"]), colour=palette.ORANGE),
        charts.Series(f"of {networks} networks", found["sigma"], seen(found["model"]), colour=palette.BLUE),
    ]
    results.add_chart(
        "model-variance",
        "Variance of the networks beside that of their target",
        "If the target's noise makes the networks differ, the two rise and fall together. Where the networks differ and the"
        " target does not vary, something else does: their data, their start, the order of training."
        f" Means over {found['model'].shape[1]} flows, a pixel.",
        SECTION,
        charts.lines(charts.Panel(series, "variance", y_log=True)),
    )
