"""The field's protocol: whose samples are a network's samples, from the same noise, by every quantity that is called r².

Papers on analytic models of diffusion sample a network and a training-free denoiser from the same noise and report how well
one predicts the other (Kamb & Ganguli, arXiv 2412.20292; Lukoianov et al., arXiv 2509.09672; Shang et al., arXiv 2602.16498).
They compute different numbers under one name, on 8 to 128 samples, and none says how certain they are. Here all are computed
on the same samples, by name, with intervals over samples, for every theory that there is, and beside them the explained
deviation: how much of the network's distance to memorization a denoiser removes at each noise level.

Published for CIFAR-10 (coefficient of determination): optimal −0.401, Wiener 0.553, ELS 0.411, PCA locality 0.670, GoldDiff
0.683.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.denoisers import Denoiser
from scorescope.lenses.against import Against, compare, levels_table, overall_table
from scorescope.lenses.comparison import ENOUGH_INPUTS, Compared
from scorescope.lenses.inputs import HELD_OUT, IN_WORDS, REVERSE
from scorescope.lenses.mechanisms import GAUSSIAN, PCA, describe, show_explained
from scorescope.lenses.rivals import EVERYWHERE, FLEX
from scorescope.lenses.samples import sample_sheet
from scorescope.lenses.subject import OPTIMAL
from scorescope.papers.niedoba2025.compared import ComparedConfig, OwnTraining, open_comparison
from scorescope.papers.protocols.contenders import BATCHED, COMMITTEE, NEW, ROWS, ContenderConfig, Contenders
from scorescope.papers.protocols.shared_noise import Sampled, SamplingConfig, sample, sigmas_of
from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.probes.sample_agreement import QUANTITIES, Agreement, agreement
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.deciding import key_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

ARCHITECTURE = "ddpm-unet-no-attention"
SOURCES = "lukoianov2025, table 1; golddiff2026"
ENOUGH_SAMPLES = 64
OWN = "this project"


class SharedNoiseConfig(ComparedConfig):
    """Settings of the protocol; `sigmas` follow from `sampling.times` and are not set.

    Attributes:
        sampling: how all are sampled.
        contenders: the training-free denoisers.
    """

    training: OwnTraining = OwnTraining(architectures=(ARCHITECTURE,), steps=3000)
    sampling: SamplingConfig = SamplingConfig()
    contenders: ContenderConfig = ContenderConfig()


@study
class SamplesFromSharedNoise(Study[SharedNoiseConfig]):
    """A network and every training-free denoiser, sampled from the same noise by the field's protocol."""

    name = "protocols/samples-from-shared-noise"
    title = "Whose samples are the network's"
    question = "From the same noise, how much of a network's sample does each theory predict, and by which measure?"
    paper = "Kamb & Ganguli 2025; Lukoianov et al. 2025; Shang et al. 2026"
    Config = SharedNoiseConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "inputs": 4,
            "training": {"steps": 40},
            "sampling": {"count": 6, "at_once": 4, "times": (900, 500, 200, 0)},
            "contenders": {"heatmap_images": 1, "everywhere_images": 60, "stacked_images": 16},
        },
        "small": {},
        "paper": {
            "data": "cifar10",
            "flips": True,
            "inputs": 100,
            "training": {"published": True, "steps": 80_000, "batch": 128, "learning_rate": 2e-4, "ema_decay": 0.9999},
            "contenders": {
                "threshold": 0.05,
                "heatmap_images": 100,
                "everywhere_images": 50_000,
                "stacked_images": 1000,
            },
        },
    }

    def run(self, config: SharedNoiseConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        sigmas = sigmas_of(config.sampling.times)
        comparison = open_comparison(config.model_copy(update={"sigmas": tuple(sigmas)}), workspace)
        contenders = Contenders(comparison, config.contenders, workspace)
        results = Results(study=self.name, title=self.title)
        headlines = []
        for one in comparison.networks:
            built = contenders.of(one)
            denoisers: dict[str, Denoiser] = {one.name: one.denoiser, OPTIMAL: one.optimal, **built.denoisers}
            # What two networks with the same training images are compared with is sampled once.
            keys = {one.name: one.name, OPTIMAL: f"{OPTIMAL} {one.training_key}", **built.keys}
            sampled = sample(denoisers, keys, sigmas, config.sampling, config.seed, workspace)
            agreements = {
                name: agreement(made, sampled.images[one.name])
                for name, made in sampled.images.items()
                if name != one.name
            }
            headlines.append(_show(results, one, sampled, agreements, config))
            _claims(results, one, agreements, config)
        against, built_all = compare(comparison, contenders, workspace, (HELD_OUT, REVERSE))
        _show_deviations(results, against, config)
        results.headline = " ".join(headlines)
        comparison.describe(results, _section(comparison.networks[0].name))
        describe(results, built_all)
        results.methods["Sampling"] = (
            f"{config.sampling.count} samples of each denoiser in {len(sigmas)} DDIM steps (η = 0), t ="
            f" {', '.join(map(str, config.sampling.times))} of the linear table of 1,000 (β from 0.0001 to 0.02), which is σ ="
            f" {', '.join(f'{sigma:.3g}' for sigma in sigmas)}. The denoised image is clipped to [−1, 1] in each step, and the"
            " noise taken from what is left; the sample is the denoised image of the last step. All start from the same unit"
            " noise."
        )
        results.methods["Quantities"] = (
            "Of each sample and the network's from the same noise, then averaged over samples. MSE: of images in [0, 1]."
            " Coefficient of determination: 1 − Σ(x − y)² / Σ(y − ȳ)² over all pixels and channels of the image, y the"
            " network's, ȳ its one mean. Pearson correlation of the same pixels, and its square. Intervals: 95 %, percentile"
            " bootstrap over samples. Seconds: processor seconds a step of one sample, what is set up once left out."
        )
        return results


def _section(network: str) -> str:
    return f"Against {network}"


def estimate(values: npt.NDArray[np.float64]) -> Estimate:
    """Mean over the samples that have a number, with its interval; NaN where none has."""
    known = values[np.isfinite(values)]
    return mean_over_images(known[None] if len(known) else np.full((1, 1), np.nan))


def agreement_table(
    network: str, agreements: Mapping[str, Agreement], seconds: Mapping[str, float], count: int
) -> pd.DataFrame:
    """One row a denoiser, the best coefficient of determination first."""
    rows = []
    for name, found in agreements.items():
        row: dict[str, object] = {"network": network, "denoiser": name}
        for attribute, title in QUANTITIES.items():
            value = estimate(getattr(found, attribute))
            row |= {title: value.value[0], f"{title}, low": value.low[0], f"{title}, high": value.high[0]}
        row["median Pearson correlation"] = _median(found.correlation)
        rows.append(row | {"seconds a step": seconds[name], "samples": count})
    frame = pd.DataFrame(rows)
    return frame.sort_values(QUANTITIES["determination"], ascending=False, na_position="last")


def _median(values: npt.NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _show(
    results: Results,
    one: Compared,
    sampled: Sampled,
    agreements: Mapping[str, Agreement],
    config: SharedNoiseConfig,
) -> str:
    """Charts, table and pictures of one network; returns the headline."""
    section, key, count = _section(one.name), key_of(one.name), config.sampling.count
    frame = agreement_table(one.name, agreements, sampled.seconds, count)
    title = QUANTITIES["determination"]
    best = frame.iloc[0]
    for attribute, folded in (("determination", False), ("squared_correlation", True), ("correlation", True)):
        label = QUANTITIES[attribute]
        means = {str(name): float(value) for name, value in zip(frame["denoiser"], frame[label], strict=True)}
        results.add_chart(
            f"{attribute.replace('_', '-')}-{key}",
            f"How much of {one.name}'s samples each theory predicts: {label}",
            f"Mean {label} of samples from the same noise over {count} starts. 1 is the same picture.",
            section,
            charts.bars(means, label, form=".3f"),
            folded=folded,
        )
    results.add_sheet(
        f"samples-{key}",
        "Samples from the same noise",
        "One column a start, one row a denoiser, none left out.",
        section,
        sample_sheet({one.name: sampled.images[one.name], **{n: sampled.images[n] for n in frame["denoiser"]}}),
    )
    results.add_table(
        f"agreement-{key}",
        f"Samples of {one.name} and of every denoiser",
        f"{count} samples; means with 95 % intervals over samples, and processor seconds a step of one sample.",
        frame,
        formats=dict.fromkeys([c for c in frame.columns if frame[c].dtype == float and "seconds" not in c], ".4f"),
        section=section,
    )
    for name, found in agreements.items():
        results.arrays[f"determination {one.name} {name}"] = found.determination
    return (
        f"From the same noise {best['denoiser']} predicts {one.name}'s samples best: {title} {best[title]:.3f}"
        f" ({best[f'{title}, low']:.3f} to {best[f'{title}, high']:.3f}) over {count} samples, Pearson correlation"
        f" {best[QUANTITIES['correlation']]:.3f}."
    )


def _show_deviations(results: Results, against: Sequence[Against], config: SharedNoiseConfig) -> None:
    """What every denoiser explains of the network's deviation on held-out images and on its own states."""
    for network in dict.fromkeys(one.network for one in against):
        show_explained(results, [one for one in against if one.network == network], config.inputs, _section(network))
    results.add_table(
        "explained",
        "Explained deviation over all levels",
        "1 minus the summed squared distance to the denoiser over that to the optimal one, with its 95 % interval.",
        overall_table(against),
    )
    results.add_table(
        "levels",
        "Every denoiser at every level",
        "Mean squared difference to the network, cosine similarity and explained deviation, with 95 % intervals.",
        levels_table(against),
    )
    _deviation_claims(results, against, config)


def _claims(results: Results, one: Compared, agreements: Mapping[str, Agreement], config: SharedNoiseConfig) -> None:
    """The published order, and whether what is new goes beyond it; every rule is on the lower end of the interval."""
    pairs = (
        ("PCA locality", PCA, "the Gaussian", GAUSSIAN, SOURCES),
        ("the Gaussian", GAUSSIAN, "the equivariant local score", EVERYWHERE[0], SOURCES),
        ("the equivariant local score", EVERYWHERE[0], "the optimal denoiser", OPTIMAL, SOURCES),
        ("PCA locality with weights normalized within batches", BATCHED, "the exact one", PCA, OWN),
    )
    for words, name, rival_words, rival, source in pairs:
        results.claims.append(
            _ahead(
                f"{words[0].upper()}{words[1:]} predicts {one.name}'s samples better than {rival_words} does.",
                source,
                agreements,
                (name,),
                (rival,),
                config,
            )
        )
    unseeing = tuple(name for name in (OPTIMAL, *ROWS) if name in agreements and name not in (COMMITTEE, FLEX))
    for whom, rivals in (
        ("every other denoiser that has seen no network", unseeing),
        ("PSPC-Flex that has seen it", (FLEX,)),
    ):
        sentence = f"A committee of theories that decide late predicts {one.name}'s samples better than {whom}."
        results.claims.append(_ahead(sentence, OWN, agreements, (COMMITTEE,), rivals, config))


def _ahead(
    sentence: str,
    source: str,
    agreements: Mapping[str, Agreement],
    names: Sequence[str],
    rivals: Sequence[str],
    config: SharedNoiseConfig,
) -> Claim:
    """Whether the best of some is ahead of the best of others by more than the interval of the difference, start by start."""
    rule = Rule(above=0.0, because="the lower end of the 95 % interval decides")
    best, rival = (_best(agreements, group) for group in (names, rivals))
    quantity = "coefficient of determination, difference on the same starts: lower end of its 95 % interval"
    if best is None or rival is None:
        return Claim(sentence, source, quantity, None, rule, note="one of the two was not sampled.")
    difference = estimate(agreements[best].determination - agreements[rival].determination)
    found = f"{best} minus {rival}: {difference.value[0]:+.3f} ({difference.low[0]:+.3f} to {difference.high[0]:+.3f})"
    count = config.sampling.count
    if count < ENOUGH_SAMPLES:
        note = f"{count} samples; at least {ENOUGH_SAMPLES} are asked for. {found}."
        return Claim(sentence, source, quantity, None, rule, note=note)
    return Claim(sentence, source, quantity, float(difference.low[0]), rule, note=f"{found}.")


def _best(agreements: Mapping[str, Agreement], names: Sequence[str]) -> str | None:
    means = {name: float(estimate(agreements[name].determination).value[0]) for name in names if name in agreements}
    known = {name: value for name, value in means.items() if np.isfinite(value)}
    return max(known, key=lambda name: known[name]) if known else None


def _deviation_claims(results: Results, against: Sequence[Against], config: SharedNoiseConfig) -> None:
    """Whether what is new explains more than everything else, on unseen images and on the network's own states."""
    for one in against:
        if one.kind not in (HELD_OUT, REVERSE):
            continue
        sentence = (
            f"On {IN_WORDS[one.kind]} a mixture of Gaussians, or a committee with them, explains more of what {one.network}"
            " does instead of memorizing than every other training-free denoiser does."
        )
        quantity = "explained deviation over all levels: the best of these minus the best other's"
        rule = Rule(above=0.0)
        shares = {name: float(one.overall(name).value[0]) for name in one.names if name in ROWS}  # no other network
        known = {name: share for name, share in shares.items() if np.isfinite(share)}
        new, others = ({n: s for n, s in known.items() if (n in NEW) is inside} for inside in (True, False))
        if not new or not others or config.inputs < ENOUGH_INPUTS:
            note = f"{config.inputs} inputs a level; at least {ENOUGH_INPUTS} are asked for, and both to be compared."
            results.claims.append(Claim(sentence, OWN, quantity, None, rule, note=note))
            continue
        first, second = (max(group, key=lambda name: group[name]) for group in (new, others))
        note = f"{first} {new[first]:.3f}, {second} {others[second]:.3f}."
        results.claims.append(Claim(sentence, OWN, quantity, new[first] - others[second], rule, note=note))
