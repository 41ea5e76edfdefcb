"""When samples become good and when copies begin, over the number of training images: two times of one training run.

Bonnaire et al. (arXiv 2505.17638) and Favero et al. (arXiv 2505.16959): the step τ_gen at which samples become good does not
depend on the number N of training images, while the step τ_mem at which memorization begins grows in proportion to N. Between
the two a network generalizes, and the more images, the longer.

Each time is told in two ways, by what a network makes and by how it denoises. With levels that are the same for all N:

- *samples are good* when their Fréchet distance to unseen images (in pixels) is within 10 % of the best that every network
  reaches at some step; *unseen images are denoised well* when their PSNR is within 0.5 dB of the best that every network
  reaches.
- *copies begin* when 5 % of the samples are three times nearer to one training image than to any other; *the gap opens* when
  training images are denoised 0.3 dB better by the network that has seen them than by the one of the pair that has not, so that
  it is the same images that are compared, and how hard they are does not count.

A time that a run does not come to enters as later than its last step, in the fit of the exponent too (`probes.power_law`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.data import ImageSet
from scorescope.foundation.progress import track
from scorescope.lenses.subject import chosen
from scorescope.papers.newer.training_runs import (
    PUBLISHED,
    TINY,
    Runs,
    RunsConfig,
    Watched,
    distance_to,
    open_runs,
    own_flow,
)
from scorescope.probes.errors import denoising_psnr
from scorescope.probes.nearest_ratio import copied_share
from scorescope.probes.power_law import PowerLaw, Reached, first_reach, power_law
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.pairs import NETWORKS
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
BONNAIRE = "bonnaire2025; favero2025"
SECTION = "Two times of a training run"
WITHIN, BEHIND = 1.1, 0.5  # of the best distance; dB below the best PSNR
COPIES, GAP = 0.05, 0.3  # share of samples; dB, the audit's bound of a network that generalizes
SAMPLES_GOOD, DENOISED_WELL, COPIES_BEGIN, GAP_OPENS = (
    "samples are good",
    "unseen images are denoised well",
    "copies begin",
    "the gap opens",
)
TIMES = (SAMPLES_GOOD, DENOISED_WELL, COPIES_BEGIN, GAP_OPENS)
GENERALIZATION = (SAMPLES_GOOD, DENOISED_WELL)
SENTENCES = {
    SAMPLES_GOOD: "The step at which samples become good does not depend on the number of training images.",
    DENOISED_WELL: "The step at which unseen images are denoised well does not depend on the number of training images.",
    COPIES_BEGIN: "The step at which copies begin grows in proportion to the number of training images.",
    GAP_OPENS: "The step at which training images are denoised better than unseen ones grows in proportion to their number.",
}
ENOUGH_SIZES = 3


class TrainingTimesConfig(RunsConfig):
    """Settings.

    Attributes:
        images: noisy images of each kind that errors are averaged over, a level.
        levels: their noise levels, in units of [-1, 1].
    """

    images: int = pydantic.Field(64, ge=2)
    levels: tuple[pydantic.PositiveFloat, ...] = pydantic.Field((0.2, 0.5, 1.0), min_length=1)


@study
class TrainingTimes(Study[TrainingTimesConfig]):
    """Steps at which samples become good and copies begin, for several numbers of training images."""

    name = "newer/training-times"
    title = "When generalization and memorization begin"
    question = (
        "At which step of training do samples become good, at which do copies begin, and how do both grow with N?"
    )
    paper = "Bonnaire et al. 2025, arXiv 2505.17638; Favero et al. 2025, arXiv 2505.16959"
    Config = TrainingTimesConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY, "images": 8},
        "small": {},
        "paper": {**PUBLISHED, "images": 1000},
    }

    def run(self, config: TrainingTimesConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        runs = open_runs(config, config.sizes, workspace)
        curves: dict[int, dict[str, Floats]] = {}
        for size in track(config.sizes, "looking at checkpoints"):
            pair = runs.pairs[size]
            curves[size] = workspace.computed(
                f"curves/{size}",
                lambda pair=pair: _measured(pair, runs.unseen, config, workspace),  # type: ignore[misc]
            )
        times = reached_times(curves, config.steps)
        laws = {
            name: power_law([size for size, _ in found], [one for _, one in found]) for name, found in times.items()
        }
        results = Results(study=self.name, title=self.title)
        results.arrays |= {f"{name} {size}": value for size, found in curves.items() for name, value in found.items()}
        _show_times(results, times, laws, config)
        _show_curves(results, curves, config)
        _claims(results, times, laws, config)
        results.headline = _headline(laws)
        results.methods |= runs.methods | _methods(curves, runs, config)
        return results


def _measured(pair: Watched, unseen: ImageSet, config: TrainingTimesConfig, workspace: Workspace) -> dict[str, Floats]:
    """Curves of one N: ``distance`` and ``copied`` (networks, steps), ``unseen`` (networks, steps), ``gap`` (steps,), dB."""
    own = {name: chosen(images, config.images, config.seed) for name, images in pair.training.items()}
    clean = {**own, "unseen": chosen(unseen, config.images, config.seed)}
    distance, copied, psnr = [], [], []
    for name in NETWORKS:
        rows = []
        for network in pair.networks(name, workspace.device):
            states = own_flow(network, unseen, config)
            made = None if states is None else states[-1].noisy.cpu()
            rows.append(
                [
                    math.nan if made is None else distance_to(unseen, made),
                    math.nan if made is None else copied_share(made, pair.training[name]),
                    *(
                        float(denoising_psnr(network, images.to(workspace.device), config.levels, config.seed).mean())
                        for images in clean.values()
                    ),
                ]
            )
        table = np.array(rows)
        distance.append(table[:, 0])
        copied.append(table[:, 1])
        psnr.append(dict(zip(clean, table[:, 2:].T, strict=True)))
    first, second = NETWORKS
    gaps = (psnr[0][first] - psnr[1][first], psnr[1][second] - psnr[0][second])
    return {
        "distance": np.stack(distance),
        "copied": np.stack(copied),
        "unseen": np.stack([one["unseen"] for one in psnr]),
        "gap": np.mean(gaps, axis=0),
    }


def common_levels(curves: Mapping[int, Mapping[str, Floats]]) -> tuple[float, float]:
    """The distance and the PSNR from which on samples are good and unseen images are denoised well, for all N."""
    distance = max(float(np.nanmin(row)) for found in curves.values() for row in found["distance"])
    psnr = min(float(np.nanmax(row)) for found in curves.values() for row in found["unseen"])
    return WITHIN * distance, psnr - BEHIND


def reached_times(curves: Mapping[int, Mapping[str, Floats]], steps: list[int]) -> dict[str, list[tuple[int, Reached]]]:
    """What -> (N, when) of each run; the gap has one a pair."""
    distance, psnr = common_levels(curves)
    found: dict[str, list[tuple[int, Reached]]] = {name: [] for name in TIMES}
    for size, curve in curves.items():
        for row in curve["distance"]:
            found[SAMPLES_GOOD].append((size, first_reach(steps, row, distance, rising=False)))
        for row in curve["unseen"]:
            found[DENOISED_WELL].append((size, first_reach(steps, row, psnr, rising=True)))
        for row in curve["copied"]:
            found[COPIES_BEGIN].append((size, first_reach(steps, row, COPIES, rising=True)))
        found[GAP_OPENS].append((size, first_reach(steps, curve["gap"], GAP, rising=True)))
    return found


def mean_time(found: list[Reached]) -> float:
    """The geometric mean of the times of one N; NaN unless all of them were observed."""
    if any(one.state != "observed" for one in found):
        return math.nan
    return math.exp(sum(math.log(one.time) for one in found) / len(found))


def words(one: Reached) -> str:
    """A time as a table has it: "310", "> 5,000", "< 40"."""
    sign = {"observed": "", "later": "> ", "earlier": "< "}[one.state]
    return f"{sign}{one.time:,.0f}"


def _show_times(
    results: Results,
    times: Mapping[str, list[tuple[int, Reached]]],
    laws: Mapping[str, PowerLaw | None],
    config: TrainingTimesConfig,
) -> None:
    colours = dict(zip(TIMES, (palette.BLUE, palette.TEAL, palette.RED, palette.ORANGE), strict=True))
    means = {
        name: [mean_time([one for size, one in found if size == wanted]) for wanted in config.sizes]
        for name, found in times.items()
    }
    lines = [
        charts.Series(name, config.sizes, values, colour=colours[name], dashed=name in (DENOISED_WELL, GAP_OPENS))
        for name, values in means.items()
    ]
    results.add_chart(
        "times",
        "Generalization and memorization times",
        "The step of each, geometric mean of the two networks; nothing is drawn where a network did not come to it within its"
        " steps, or before the first look.",
        SECTION,
        charts.lines(
            charts.Panel(lines, "training step", y_log=True, levels={config.training.steps: "last step"}),
            "training images",
        ),
    )
    rows = [
        {"N": size, **{name: ", ".join(words(one) for n, one in found if n == size) for name, found in times.items()}}
        for size in config.sizes
    ]
    results.add_table("times", "Steps", "Of each network, and of the pair for the gap.", pd.DataFrame(rows))
    fits = [
        {
            "time": name,
            "exponent of N": law.exponent.value if law else math.nan,
            "low": law.exponent.low if law else math.nan,
            "high": law.exponent.high if law else math.nan,
            "observed": sum(one.state == "observed" for _, one in times[name]),
            "runs": len(times[name]),
        }
        for name, law in laws.items()
    ]
    results.add_table(
        "exponents",
        "Growth with the number of training images",
        "Exponent of N with its 95 % interval; runs whose time was not observed count as later, or earlier, and no more.",
        pd.DataFrame(fits),
    )


def _show_curves(results: Results, curves: Mapping[int, Mapping[str, Floats]], config: TrainingTimesConfig) -> None:
    distance, psnr = common_levels(curves)
    colours = palette.sequence(len(curves))

    def series(name: str) -> list[charts.Series]:
        return [
            charts.Series(f"N = {size:,}", config.steps, np.atleast_2d(found[name]).mean(0), colour=colours[k])
            for k, (size, found) in enumerate(curves.items())
        ]

    results.add_chart(
        "curves",
        "The course of training",
        "Means of the two networks. Dashed: the levels at which samples are good, unseen images denoised well, copies have"
        " begun and the gap has opened.",
        SECTION,
        charts.lines(
            [
                charts.Panel(series("distance"), "Fréchet distance", "Samples", y_log=True, levels={distance: "good"}),
                charts.Panel(series("unseen"), "PSNR (dB)", "Unseen images", levels={psnr: "well"}),
                charts.Panel(series("copied"), "share of samples", "Copies", levels={COPIES: "begin"}),
                charts.Panel(series("gap"), "PSNR gap (dB)", "Seen against unseen", levels={GAP: "open"}),
            ],
            "training step",
            columns=2,
        ),
    )


def _claims(
    results: Results,
    times: Mapping[str, list[tuple[int, Reached]]],
    laws: Mapping[str, PowerLaw | None],
    config: TrainingTimesConfig,
) -> None:
    constant = Rule(at_least=-0.25, at_most=0.25, because="a quarter around 0")
    proportional = Rule(at_least=0.75, at_most=1.25, because="a quarter around 1")
    for name, law in laws.items():
        early = name in GENERALIZATION
        found = times[name]
        seen = {size for size, one in found if one.state == "observed"}
        reason = config.untested
        if not reason and (law is None or len(seen) < ENOUGH_SIZES):
            reason = f"the time was observed for {len(seen)} of {len(config.sizes)} N; {ENOUGH_SIZES} are asked for."
        counted = f"Observed in {sum(one.state == 'observed' for _, one in found)} of {len(found)} runs."
        interval = None
        if law is not None:
            low, high = law.exponent.low, law.exponent.high
            interval = (low, high) if math.isfinite(low) and math.isfinite(high) else None
            if interval is None:
                counted += f" The interval is open: {low:.2f} to {high:.2f}."
        results.claims.append(
            Claim(
                SENTENCES[name],
                BONNAIRE,
                f"exponent of N in the step at which {name}",
                None if reason or law is None else law.exponent.value,
                constant if early else proportional,
                interval=None if reason else interval,
                note=reason or counted,
            )
        )


def _headline(laws: Mapping[str, PowerLaw | None]) -> str:
    parts = []
    for name in (SAMPLES_GOOD, GAP_OPENS, COPIES_BEGIN):
        law = laws[name]
        if law is not None:
            parts.append(f"{name} at a step that grows as N^{law.exponent.words()}".replace("^-", "^−"))
    if not parts:
        return "No time was observed in enough runs to say how it grows with N."
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _methods(curves: Mapping[int, Mapping[str, Floats]], runs: Runs, config: TrainingTimesConfig) -> dict[str, str]:
    distance, psnr = common_levels(curves)
    levels = ", ".join(f"{level:g}" for level in config.levels)
    return {
        "Samples": f"Fréchet distance in pixels, each image less its own mean, to {runs.unseen.stored} unseen images. Good:"
        f" {distance:.3g} or less, {WITHIN:g} times the best that every network reaches.",
        "Denoising": f"Mean PSNR of {config.images} noisy images at σ = {levels}. Well: {psnr:.2f} dB or more, {BEHIND:g} dB"
        " below the best that every network reaches.",
        "Copies": f"Samples three times nearer to one training image than to any other; begun: {COPIES:.0%}.",
        "Gap": f"PSNR of the training images of each network, minus that of the other network of the pair on the same noisy"
        f" images; open: {GAP:g} dB.",
        "Times": "When a curve first reaches its level, linear in the logarithm of the step between checkpoints.",
        "Exponents": "ln τ = a + b ln N + noise by maximum likelihood; a time that did not come within the steps enters as"
        " later than the last. Interval: profile likelihood with the quantile of F, the t interval where nothing is censored.",
    }
