"""The noisy against the exact target on images: what changes in a network when the target's variance is taken out of it.

A denoiser is trained on ``E w(σ) ‖D(x + σ n, σ) − target‖²``. The *noisy* target is the clean image x, whose mean given the
noisy one is the optimal denoiser's answer D*, with covariance Cov[x | y]; the *exact* target is D* itself. Both losses have
the same minimum, and only the first has a target that varies (vastola2025; Bertrand et al., arXiv 2506.03719). If that
variance makes a network generalize, the same network on the exact target must be closer to D*, which is memorization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import torch

from scorescope.data import DataSplit
from scorescope.data.images import ImageSet
from scorescope.denoisers import NetworkDenoiser, OptimalDenoiser
from scorescope.lenses.deviations import Measured, measure
from scorescope.lenses.drawing import full_contrast
from scorescope.lenses.memorization import COLUMNS
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Subject, Trained, chosen, mechanisms_of
from scorescope.papers.vastola2025.estimates import (
    Array,
    Estimate,
    mean_over_runs,
    removed_share,
)
from scorescope.papers.vastola2025.runs import trained_runs
from scorescope.papers.vastola2025.targets_on_points import (
    COLOURS,
    TARGETS,
    WORDS,
)
from scorescope.probes.errors import forward_inputs
from scorescope.probes.similarity import cosine_similarity
from scorescope.study import charts, palette, pictures
from scorescope.study.pairs import Sizes
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import Selection, TrainingConfig

NETWORK = "network"
ON_IMAGES = "On images"
SMALLEST = 1e-7


class ImagesConfig(pydantic.BaseModel):
    """Settings of the part on images.

    Attributes:
        data: a store, or the name of a built-in data set.
        sizes: numbers of training images, increasing.
        width: channels of the first block of the UNet.
        seeds: runs of each target.
        training: how each network is trained; seed and target are those of the run.
        measurement: how much is measured on each network.
        mechanisms: denoisers that might explain the networks.
        split_seed: of the choice of the training images.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    sizes: Sizes = (30, 300, 3000)
    width: int = pydantic.Field(16, ge=1)
    seeds: int = pydantic.Field(3, ge=2)
    training: TrainingConfig = TrainingConfig(steps=1200)
    measurement: MeasurementConfig = MeasurementConfig(samples=32, psnr_images=256, deviation_levels=8)
    mechanisms: tuple[str, ...] = ("gaussian", "pspc-square")
    split_seed: int = pydantic.Field(0, ge=0)


@dataclass(frozen=True)
class SizeFound:
    """What was found with N training images: S runs of each target.

    Attributes:
        size: N.
        measured: target -> S networks, as the main study measures one.
        sigmas: (L,), from high to low.
        target_variance: ``tr Cov[x | y] / d`` on noisy training images: what the noisy target has and the exact one has not,
            (L,).
        run_variance: target -> variance of the denoised image over the runs, mean a pixel, (L,).
        between_targets: mean squared difference of the two networks of one seed, (S, L).
        distance: target -> distance of samples to the nearest training image, root mean square a pixel, (S, n).
        agreement: similarity of the two samples that the networks of one seed draw from the same noise, (S, n).
    """

    size: int
    measured: Mapping[str, Sequence[Measured]]
    sigmas: Array
    target_variance: Array
    run_variance: Mapping[str, Array]
    between_targets: Array
    distance: Mapping[str, Array]
    agreement: Array

    def deviation(self, target: str, kind: str) -> Array:
        """Mean squared distance to the optimal denoiser, (S, L), on ``forward`` or ``reverse`` inputs."""
        return np.stack([one.deviations[kind].gap() for one in self.measured[target]])

    def psnr_gap(self, target: str) -> Array:
        """Train − held-out PSNR in dB, averaged over σ, (S,)."""
        gaps = [one.psnr_gap for one in self.measured[target]]
        return np.array([np.nan if gap is None else gap for gap in gaps])

    def held_out_psnr(self, target: str) -> Array:
        """PSNR on held-out images in dB, averaged over σ, (S,); NaN where there are none."""
        curves = [one.curves.get("test") for one in self.measured[target]]
        return np.array([np.nan if curve is None else float(curve.mean()) for curve in curves])

    def explained(self, target: str, mechanism: str, kind: str) -> Array:
        """Explained deviation over all levels, (S,)."""
        return np.array([one.deviations[kind].explained_overall(mechanism) for one in self.measured[target]])


def compare_on_images(config: ImagesConfig, images: DataSplit, workspace: Workspace) -> list[SizeFound]:
    """Train and measure every size. Raises UserError if there are not so many images."""
    return [_compare(config, images, size, workspace) for size in config.sizes]


def _compare(config: ImagesConfig, images: DataSplit, size: int, workspace: Workspace) -> SizeFound:
    training = Selection(total=images.train.stored, size=size, count=1, seed=config.split_seed).choose(images.train)
    networks = _networks(config, training, workspace)
    optimal, mechanisms = OptimalDenoiser(training), mechanisms_of(training, config.mechanisms)
    measured: dict[str, list[Measured]] = {target: [] for target in TARGETS}
    for target in TARGETS:
        for seed, network in enumerate(networks[target]):
            subject = Subject({NETWORK: network}, {NETWORK: training}, images.test, given=mechanisms)
            label = f"N = {size}, {target} target, seed {seed}"
            measured[target].append(measure(label, subject, config.measurement, workspace))
    outputs = workspace.computed(f"N={size}/outputs", lambda: _outputs(config, training, networks, optimal))
    samples = {t: [torch.from_numpy(one.found[f"samples/{NETWORK}"]) for one in measured[t]] for t in TARGETS}
    return SizeFound(
        size=size,
        measured=measured,
        sigmas=outputs["sigma"],
        target_variance=outputs["target variance"],
        run_variance={target: outputs[f"run variance/{target}"] for target in TARGETS},
        between_targets=outputs["between targets"],
        distance={t: np.stack([nearest_distance(drawn, training) for drawn in samples[t]]) for t in TARGETS},
        agreement=np.stack([cosine_similarity(*pair) for pair in zip(*samples.values(), strict=True)]).astype(float),
    )


def _networks(config: ImagesConfig, training: ImageSet, workspace: Workspace) -> dict[str, list[NetworkDenoiser]]:
    """target -> one network a seed; those of one seed differ in nothing but the target."""
    runs = []
    for seed in range(config.seeds):
        for target in TARGETS:
            objective = config.training.objective.model_copy(update={"target": target})
            runs.append(config.training.model_copy(update={"seed": seed, "objective": objective}))
    said = f"training on both targets, N = {training.stored}"
    networks = trained_runs([training] * len(runs), runs, config.width, workspace, said)
    return {target: networks[place :: len(TARGETS)] for place, target in enumerate(TARGETS)}


def _outputs(
    config: ImagesConfig,
    training: ImageSet,
    networks: Mapping[str, Sequence[NetworkDenoiser]],
    optimal: OptimalDenoiser,
) -> dict[str, Any]:
    """All networks on the same noisy training images: how they differ over runs, and from target to target."""
    subject = Trained({NETWORK: networks[TARGETS[0]][0]}, {NETWORK: training}, None)
    sigmas = subject.sigmas(config.measurement.deviation_levels)
    clean = chosen(training, config.measurement.deviation_inputs, config.measurement.seed)
    dimension = clean[0].numel()
    variance: dict[str, list[float]] = {target: [] for target in TARGETS}
    between, of_target = [], []
    with torch.no_grad():
        for noisy, sigma in zip(forward_inputs(clean, sigmas, config.measurement.seed), sigmas, strict=True):
            found = {t: torch.stack([network(noisy, sigma).double() for network in networks[t]]) for t in TARGETS}
            for target, outputs in found.items():
                variance[target].append(float(outputs.var(0).mean()))
            between.append((found[TARGETS[0]] - found[TARGETS[1]]).square().mean((1, 2, 3, 4)).numpy())
            of_target.append(float(optimal.describe(noisy, sigma).covariance_trace.mean()) / dimension)
    return {
        "sigma": np.array(sigmas),
        "target variance": np.array(of_target),
        "between targets": np.stack(between, axis=1),
        **{f"run variance/{target}": np.array(values) for target, values in variance.items()},
    }


def nearest_distance(samples: torch.Tensor, images: ImageSet) -> Array:
    """Distance of every sample to the nearest image of a set, root mean square a pixel: (n, C, H, W) -> (n,)."""
    flat = samples.flatten(1).double()
    best = torch.full((len(flat),), torch.inf, dtype=torch.float64)
    for start in range(0, len(images), 4096):
        part = images.tensor(np.arange(start, min(start + 4096, len(images)))).flatten(1).double()
        best = torch.minimum(best, torch.cdist(flat, part).min(1).values)
    return np.asarray((best / flat.shape[1] ** 0.5).numpy())


def show_images(results: Results, found: Sequence[SizeFound], mechanisms: Sequence[str]) -> None:
    """All that is shown of the part on images."""
    results.introductions[ON_IMAGES] = (
        "The same network, the same initial weights, the same noisy images in the same order: one is told the clean image, the"
        " other the exact mean of all clean images that the noisy one may come from. Only the first target has a variance."
    )
    _over_sizes(results, found)
    _over_levels(results, found)
    _samples(results, found)
    results.add_table(
        "images",
        "The two targets side by side",
        "Means over seeds. Deviation: mean squared distance a pixel to the optimal denoiser of the training images, averaged"
        " over"
        " noise levels; share: how much of it is gone with the exact target, with its 95 % interval.",
        pd.DataFrame([_row(one, mechanisms) for one in found]),
    )


def deviation_share(found: SizeFound, kind: str) -> Estimate:
    """The share of the deviation from the optimal denoiser, over all levels, that is gone with the exact target."""
    return removed_share(found.deviation("noisy", kind).mean(1), found.deviation("closed-form", kind).mean(1))


def _row(one: SizeFound, mechanisms: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {"N": one.size}
    for target in TARGETS:
        said = WORDS[target].split()[0]
        row[f"PSNR gap, {said} (dB)"] = float(one.psnr_gap(target).mean())
        row[f"held-out PSNR, {said} (dB)"] = float(one.held_out_psnr(target).mean())
        row[f"deviation, {said}"] = float(one.deviation(target, "forward").mean())
        row[f"sample to nearest, {said}"] = float(one.distance[target].mean())
        for mechanism in mechanisms:
            row[f"{mechanism} explains, {said}"] = float(one.explained(target, mechanism, "forward").mean())
    row["share, forward"] = deviation_share(one, "forward").words()
    row["share, reverse"] = deviation_share(one, "reverse").words()
    row["between targets"] = float(one.between_targets.mean())
    row["between seeds"] = float(2 * one.run_variance["noisy"].mean())
    row["verdicts, noisy / exact"] = " / ".join(one.measured[target][0].ruling.state for target in TARGETS)
    return row


def _over_sizes(results: Results, found: Sequence[SizeFound]) -> None:
    """PSNR gap, distance of samples and deviation over N, one line a target."""
    sizes = [one.size for one in found]
    panels = []
    measures: dict[str, Callable[[SizeFound, str], Array]] = {
        "train − held-out PSNR (dB)": lambda one, target: one.psnr_gap(target),
        "sample to nearest (RMS)": lambda one, target: one.distance[target].mean(1),
        "deviation (MSE)": lambda one, target: one.deviation(target, "forward").mean(1),
    }
    for label, values in measures.items():
        series = []
        for target in TARGETS:
            means = [mean_over_runs(values(one, target)) for one in found]
            series.append(
                charts.Series(
                    WORDS[target],
                    sizes,
                    [mean.value for mean in means],
                    [mean.low for mean in means],
                    [mean.high for mean in means],
                    colour=COLOURS[target],
                    dashed=target != TARGETS[0],
                )
            )
        panels.append(charts.Panel(series, label))
    seeds = len(found[0].measured[TARGETS[0]])
    results.add_chart(
        "sizes",
        "From memorization to generalization, with and without the target's variance",
        "If the variance of the target made networks generalize, the dashed line would stay at memorization: a large gap,"
        f" samples near training images, no deviation. Means over {seeds} seeds with 95 % intervals; deviation on noisy"
        " training"
        " images, mean squared distance a pixel to the optimal denoiser.",
        ON_IMAGES,
        charts.lines(panels, "number of training images N"),
    )


def _over_levels(results: Results, found: Sequence[SizeFound]) -> None:
    """Deviation and variance over noise levels at every N."""
    panels = []
    for one in found:
        series = []
        for target in TARGETS:
            gap = one.deviation(target, "forward").mean(0)
            series.append(
                charts.Series(WORDS[target], one.sigmas, gap, colour=COLOURS[target], dashed=target != TARGETS[0])
            )
        series.append(
            charts.Series("between the two targets", one.sigmas, one.between_targets.mean(0), colour=palette.GREEN)
        )
        twice = 2 * one.run_variance["noisy"]
        series.append(charts.Series("between seeds", one.sigmas, twice, colour=palette.PURPLE))
        series.append(charts.Series("target's variance", one.sigmas, _seen(one.target_variance), colour=palette.GREY))
        panels.append(charts.Panel(series, "squared distance", f"N = {one.size}", y_log=True))
    inputs = found[0].measured[TARGETS[0]][0].deviations["forward"].to_optimal.shape[1]
    results.add_chart(
        "levels",
        "Deviation from memorization at every noise level",
        "Distance of the networks from the optimal denoiser, of the two networks of one seed from each other, of two seeds on"
        " the"
        f" noisy target from each other, and the variance that the exact target lacks. {inputs} noisy training images a level.",
        ON_IMAGES,
        charts.lines(panels),
    )


def _seen(variance: Array) -> Array:
    """The values that a logarithmic axis can show beside the others."""
    return np.where(variance > SMALLEST, variance, np.nan)


def _samples(results: Results, found: Sequence[SizeFound]) -> None:
    for one in found:
        rows = []
        for target in TARGETS:
            rows.append(full_contrast(one.measured[target][0].found[f"samples/{NETWORK}"][:COLUMNS]))
            rows.append(one.measured[target][0].found[f"nearest/{NETWORK}"][:COLUMNS])
        labels = ["noisy target", "nearest image", "exact target", "nearest image"]
        results.add_sheet(
            f"samples-{one.size}",
            f"N = {one.size}: samples from the same noise",
            "Samples of the networks of the first seed over their nearest training images; similarity of the two networks'"
            " samples"
            f" {one.agreement.mean():.2f} on average over {one.agreement.size}.",
            ON_IMAGES,
            pictures.grid(np.stack(rows), row_labels=labels),
        )
