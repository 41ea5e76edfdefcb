"""What the page of critics' question 2 shows, and the rules by which it is answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from scorescope.lenses.drawing import full_contrast
from scorescope.lenses.memorization import COLUMNS
from scorescope.papers.vastola2025.charts_points import clouds, density
from scorescope.papers.vastola2025.estimates import (
    Array,
    Estimate,
    mean_over_runs,
    removed_share,
    removed_share_of_means,
)
from scorescope.papers.vastola2025.point_ensembles import POINT_SETS
from scorescope.papers.vastola2025.targets_on_images import NETWORK, TARGETS, SizeFound
from scorescope.papers.vastola2025.targets_on_points import PointsConfig, PointsFound, pool_words
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results

ON_IMAGES, ON_POINTS = "On images", "On points"
WORDS = {"noisy": "noisy target", "closed-form": "exact target"}
COLOURS = {"noisy": palette.BLUE, "closed-form": palette.ORANGE}
# Written down before any result was looked at.
MOST, LITTLE = 0.5, 0.1
SAME_PSNR = 0.3
SMALLEST = 1e-7


def images(results: Results, found: Sequence[SizeFound], mechanisms: Sequence[str]) -> None:
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


def points(results: Results, found: Sequence[PointsFound], config: PointsConfig) -> None:
    """All that is shown of the part on points."""
    results.introductions[ON_POINTS] = (
        f"{config.ensemble.members} small networks for each target, each with its own P noisy points, drawn once; the fewer"
        " they"
        " are, the more of the target's variance is left in what is learned."
    )
    for model, name in dict.fromkeys((one.model, one.points) for one in found):
        here = [one for one in found if (one.model, one.points) == (model, name)]
        if here[0].samples["noisy"].shape[-1] == 1:
            _densities(results, here)
        else:
            _clouds(results, here)
    rows = []
    for one in found:
        row: dict[str, object] = {"model": one.model, "points": one.points, "draws": pool_words(one.pool)}
        for target in TARGETS:
            row[f"deviation, {WORDS[target]}"] = float(one.to_optimal[target].mean())
            row[f"over models, {WORDS[target]}"] = float(one.run_variance[target].mean())
            row[f"between points, {WORDS[target]}"] = mean_over_runs(one.between[target]).words(".3f")
        rows.append(row)
    results.add_table(
        "points",
        "The two targets on points",
        "Deviation: mean squared distance to the exact denoiser over noise levels. Over models: the part of it that is"
        " variance"
        f" over training runs. Between points: share of the samples farther than {config.radius:g} from every training point.",
        pd.DataFrame(rows),
    )


def claims(
    results: Results, on_images: Sequence[SizeFound], on_points: Sequence[PointsFound], seed: int, conclusive: bool
) -> None:
    """The claims of both sides, each with a rule that was written down first."""
    note = "" if conclusive else "networks this small, trained this briefly, decide nothing"

    def add(sentence: str, source: str, quantity: str, found: Estimate, rule: Rule, unit: str = "") -> None:
        value = found.value if conclusive else None
        results.claims.append(
            Claim(sentence, source, quantity, value, rule, unit, found.interval if conclusive else None, note=note)
        )

    largest = on_images[-1]
    caused = "The variance of the noisy target is what makes a network deviate from memorization."
    most = Rule(at_least=MOST, because="a cause of most of it; 1 would be all")
    for one in on_images:
        add(
            caused,
            "vastola2025, abstract and section 3; critics' question 2",
            f"share of the deviation that is gone with the exact target, forward inputs, images, N = {one.size}",
            deviation_share(one, "forward"),
            most,
        )
    for case in on_points:
        add(
            caused,
            "vastola2025, abstract and section 3; critics' question 2",
            f"share of the deviation that is gone with the exact target, {case.label}",
            removed_share(case.to_optimal["noisy"].mean(1), case.to_optimal["closed-form"].mean(1)),
            most,
        )
        add(
            "The variance of the noisy target is what puts samples between the training points.",
            "vastola2025, figures 2 and 3; critics' question 2",
            f"share of the samples between the points that is gone with the exact target, {case.label}",
            removed_share_of_means(case.between["noisy"], case.between["closed-form"], np.random.default_rng(seed)),
            most,
        )
    add(
        "On images it does not matter whether the target is noisy or exact: networks generalize equally well.",
        "Bertrand et al. 2025, arXiv 2506.03719",
        f"held-out PSNR with the noisy target minus that with the exact one, N = {largest.size}",
        mean_over_runs(largest.held_out_psnr("noisy") - largest.held_out_psnr("closed-form")),
        Rule(at_least=-SAME_PSNR, at_most=SAME_PSNR, because="the curves are one to the eye"),
        "dB",
    )
    add(
        "On images the exact target leaves the deviation from memorization as it is.",
        "Bertrand et al. 2025, arXiv 2506.03719",
        f"share of the deviation that is gone with the exact target, forward inputs, N = {largest.size}",
        deviation_share(largest, "forward"),
        Rule(at_least=-LITTLE, at_most=LITTLE, because="a tenth either way"),
    )


def headline(on_images: Sequence[SizeFound], on_points: Sequence[PointsFound], seed: int, conclusive: bool) -> str:
    """The answer in two sentences: on images at the largest N, on points where the target's variance is largest."""
    if not conclusive:
        return "Networks this small, trained this briefly, decide nothing: choose the preset small or paper."
    largest = on_images[-1]
    share = deviation_share(largest, "forward")
    words = []
    for model in dict.fromkeys(one.model for one in on_points):
        case = min((one for one in on_points if one.model == model), key=lambda one: one.pool or math.inf)
        there = removed_share(case.to_optimal["noisy"].mean(1), case.to_optimal["closed-form"].mean(1))
        between = removed_share_of_means(
            case.between["noisy"], case.between["closed-form"], np.random.default_rng(seed)
        )
        words.append(
            f"{there.words()} of the deviation and {between.words()} of the samples between the points for the {case.label}"
        )
    return (
        f"On images (N = {largest.size}) the exact target takes away {share.words()} of the deviation from memorization: the"
        f" target's variance {verdict(share)}. On points it takes away {'; '.join(words)}."
    )


def verdict(share: Estimate) -> str:
    """What an interval of a share says by the rule: most of it, not at all, or neither."""
    if share.interval is None:
        return "cannot be judged by one run"
    if share.low >= MOST:
        return "causes most"
    if share.high <= LITTLE:
        return "causes next to nothing"
    if share.low > 0:
        return "causes a part"
    return "causes a part, or nothing: the interval holds both"


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
    row["verdicts, noisy / exact"] = " / ".join(one.measured[target][0].evidence.verdict() for target in TARGETS)
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


def _clouds(results: Results, here: Sequence[PointsFound]) -> None:
    panels = {
        f"{pool_words(one.pool)}, {WORDS[target].split()[0]}": one.samples[target].reshape(-1, 2)
        for one in here
        for target in TARGETS
    }
    members = here[0].samples[TARGETS[0]].shape[0]
    results.add_chart(
        f"clouds-{_key(here[0])}",
        f"Samples of all {here[0].model}s, {here[0].points}",
        "Left: trained on the noisy target, right: on the exact one. What lies between the crosses, the training points, is"
        f" generalization. Samples of {members} {here[0].model}s from the same noise.",
        ON_POINTS,
        clouds(panels, POINT_SETS[here[0].points]),
    )


def _densities(results: Results, here: Sequence[PointsFound]) -> None:
    edges = np.linspace(-1.75, 1.75, 71)
    centres = (edges[1:] + edges[:-1]) / 2
    panels = []
    for one in here:
        series = [
            charts.Series(
                WORDS[target],
                centres,
                density(one.samples[target], edges),
                colour=COLOURS[target],
                dashed=target != TARGETS[0],
            )
            for target in TARGETS
        ]
        panels.append(charts.Panel(series, "density", pool_words(one.pool)))
    members = here[0].samples[TARGETS[0]].shape[0]
    results.add_chart(
        f"densities-{_key(here[0])}",
        f"Average learned density, {here[0].model}s, {here[0].points}",
        f"Samples of {members} {here[0].model}s for each target, in bins of 0.05; memorization has peaks at the training points"
        " and nothing between them.",
        ON_POINTS,
        charts.lines(panels, "x", x_log=False),
    )


def _key(one: PointsFound) -> str:
    return f"{one.model} {one.points}".lower().replace(" ", "-")
