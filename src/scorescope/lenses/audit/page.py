"""The audit's page: verdict, error rates and power first, then the pairs from the smallest p-value on, and distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from scorescope.lenses.audit.course import course, curve
from scorescope.lenses.audit.findings import Findings, findings_by
from scorescope.lenses.audit.glances import FOUND, MEMBERSHIP, PAIRS, REGIONS, glances
from scorescope.probes.audit.local_copies import copied_boxes
from scorescope.probes.audit.verdict import RULE
from scorescope.study import charts, palette, pictures
from scorescope.study.results import Results

SHOWN, TWICE = 12, 2
FRAME = (-0.6, 0.9)


def add_audit(results: Results, found: Sequence[Findings], steps: Sequence[float] = ()) -> None:
    """Add everything about several models, or one, to a page; pairs and regions are shown of the last.

    Args:
        results: of the page.
        found: about each model.
        steps: increasing, of the training run whose checkpoints they are; none for models that are no run.
    """
    last = found[-1]
    for one in found:
        results.add_verdict(one.label, one.ruling.state, one.reason(because=len(found) > 1))
    results.headline = headline(found, is_run=len(steps) > 1)
    shared = [note for note in last.warnings if all(note in one.warnings for one in found)]
    results.add_notes(shared)
    for one in found:
        results.add_notes(f"{one.label}: {note}" for note in one.warnings if note not in shared)
    if len(steps) > 2:
        curve(results, found, steps)
    results.introductions[PAIRS] = (
        f"{int(last.copies.sum())} of {len(last.copies)} samples are copies at a false discovery rate of"
        f" {last.settings.fdr:.0%}. p is the share of unseen images that are as near to the training set."
    )
    few = last.regions is not None and len(last.region_copies) > 0 and not last.copies.any()
    for show in (regions, pairs) if few else (pairs, regions):
        show(results, last)
    distributions(results, last)
    power(results, last)
    if last.denoising is not None:
        membership(results, last)
    results.add_table(
        "verdicts",
        "The evidence behind each verdict",
        "Numbers with their 95 % intervals.",
        findings_by({one.label: one for one in found}),
    )
    results.add_table(
        "features",
        "The same in every feature space",
        "The statistic finds most planted copies among those that smoothness does not fool; the verdict uses the space that"
        " finds most.",
        _spaces(last),
    )
    glances(results, last, few)
    results.methods |= methods(last)


def headline(found: Sequence[Findings], *, is_run: bool = True) -> str:
    """The verdict and its error rate; of several models the course of their run, or each one's verdict."""
    if len(found) > 1 and not is_run:
        return f"{'; '.join(f'“{one.label}”: {one.ruling.state}' for one in found)}."
    if len(found) > 1:
        return course(found)
    one = found[0]
    said = {
        "memorizes": f"“{one.label}” memorizes its training images: {one.ruling.because}",
        "in transition": f"“{one.label}” gives something of its training images back: {one.ruling.because}",
        "generalizes": f"“{one.label}” generalizes: {one.ruling.because}",
        "undecided": f"Undecided: {one.ruling.because}",
        "no verdict": f"No verdict: “{one.label}” does not model these images",
    }[one.ruling.state]
    return (
        f"{said}."
        if one.ruling.alarm is None
        else f"{said}. Such a verdict is wrong in at most {one.ruling.alarm_words} of audits."
    )


def pairs(results: Results, found: Findings, key: str = "pairs") -> None:
    """Samples, their nearest training and control images, and the difference, from the smallest p-value on."""
    one = found.chosen
    order = _different(np.lexsort((-one.t, one.p)), one.index)
    samples = found.samples.tensor(order)
    near = found.sets.training.tensor(one.index[order])
    columns = ["sample", "nearest training image"]
    tiles = [samples, near]
    if found.sets.control is not None:
        tiles.append(found.sets.control.tensor(one.control_index[order]))
        columns.append("nearest control image")
    tiles.append((_fitted(samples, near) - near) / 2)
    columns.append("difference, grey is none")
    captions = []
    for place in order:
        mark = "copy, " if found.copies[place] else ""
        row = [f"{mark}p = {one.p[place]:.2g}", f"similarity {one.similarity[place]:.3f}"]
        if found.sets.control is not None:
            row.append(f"similarity {one.control_similarity[place]:.3f}")
        captions.append([*row, _short(found.sets.name(int(one.index[place])))])
    results.add_sheet(
        key,
        "Samples and the images they are nearest to, the most suspicious first",
        f"Similarity in {one.space}. The difference is that from the training image, named below it, once the sample"
        " has its brightness and contrast. A training image that comes back more often is shown twice; all samples are in"
        " samples.csv.",
        PAIRS,
        pictures.grid(np.stack([tile.numpy() for tile in tiles], 1), column_labels=columns, captions=captions),
    )


def regions(results: Results, found: Findings) -> None:
    """Samples with their copied regions marked, beside the training image that they are of."""
    local = found.regions
    if local is None:
        return
    height, width = found.samples.image_shape[1:]
    order = np.argsort(-local.margin.max(1), kind="stable")[:8]
    places = local.samples[order]
    samples = found.samples.tensor(places)
    theirs = found.sets.training.tensor(local.index[order])
    masks = [copied_boxes(local.margin[row], local.level, list(local.windows), height, width) for row in order]
    marked, pasted = samples.clone(), theirs.clone()
    for row, mask in enumerate(masks):
        marked[row][:, ~mask] = marked[row][:, ~mask] * 0.25 + FRAME[0] * 0.75
        pasted[row][:, ~mask] = pasted[row][:, ~mask] * 0.25 + FRAME[0] * 0.75
    on_list = set(found.region_copies.tolist())
    captions = [
        [
            f"{'copied, ' if int(place) in on_list else ''}p = {local.p[row]:.2g}",
            "",
            _short(found.sets.name(int(local.index[row]))),
            "",
        ]
        for row, place in zip(order, places, strict=True)
    ]
    results.add_sheet(
        "regions",
        "Where a sample is copied, and from which image",
        f"{len(found.region_copies)} of {len(local.p)} samples have a region that is nearer to a training image than in unseen"
        f" images, at a false discovery rate of {found.settings.fdr:.0%}. What is not copied is darkened.",
        REGIONS,
        pictures.grid(
            np.stack([tile.numpy() for tile in (samples, marked, theirs, pasted)], 1),
            column_labels=["sample", "its region", "training image", "the same region"],
            captions=captions,
        ),
    )


def distributions(results: Results, found: Findings) -> None:
    """Statistics and p-values of samples and unseen images."""
    one = found.chosen
    results.add_chart(
        "statistic",
        f"How near samples and unseen images are: {one.statistic}",
        "Where nothing is copied both have the same distribution; copies lie to the right of all unseen images.",
        PAIRS,
        charts.histograms(
            {f"{one.statistic} in {one.space}": {"samples": one.t, "unseen images": one.t_unseen}},
            {"margin": "log ratio of squared distances", "ratio": "log ratio of squared distances"}.get(
                one.statistic, "minus log squared distance"
            ),
        ),
    )
    results.add_chart(
        "similarity",
        "Similarity to the nearest training image",
        "Smooth samples are near to many images, so this alone tells little.",
        PAIRS,
        charts.histograms(
            {one.space: {"samples": one.similarity, "unseen images": one.unseen_similarity}}, "similarity"
        ),
    )
    results.add_chart(
        "p-values",
        "p-values",
        "Flat where nothing is copied; a peak at 0 is copies.",
        PAIRS,
        charts.histograms({"": {"samples": one.p}}, "p-value", x_range=(0.0, 1.0), bins=20),
    )


def power(results: Results, found: Findings) -> None:
    """The share of planted copies found."""
    one = found.chosen
    shares = {kind: value.value for kind, value in one.power.items()}
    if found.regions is not None:
        shares |= {f"{kind}, by windows": value.value for kind, value in found.regions.power.items()}
    turned = "" if found.sets.training.flips else " Mirror images were not searched (--flips does)."
    results.add_chart(
        "power",
        "Of planted copies, the share that would have been found",
        f"{found.settings.planted} training images planted among samples, changed as named.{turned}",
        FOUND,
        charts.bars(shares, "share found", form=".0%", colours=dict.fromkeys(shares, palette.BLUE)),
    )


def membership(results: Results, found: Findings) -> None:
    """How well denoising errors tell training from unseen images, over noise levels."""
    one = found.denoising
    assert one is not None
    lines = [charts.Series("training images", one.sigmas, one.training_psnr, colour=palette.BLUE)]
    if len(one.unseen_psnr):
        lines.append(charts.Series("unseen images", one.sigmas, one.unseen_psnr, colour=palette.ORANGE, dashed=True))
    results.add_chart(
        "psnr",
        "Denoising training and unseen images",
        "A network that memorizes denoises its training images better."
        if one.gap is None
        else f"Gap {one.gap.words()} dB.",
        MEMBERSHIP,
        charts.lines(charts.Panel(lines, "PSNR (dB)")),
    )
    if not one.auc or one.by_error is None or one.by_noise is None:
        return
    results.add_chart(
        "membership",
        "Do errors tell training from unseen images?",
        f"All levels together {one.by_error.auc.words()}, {one.by_error.true_positives.value:.0%} of the training images found"
        f" at 1 % false positives, p = {one.by_error.p_value:.2g} that this set was not trained on; by the noise seen in clean"
        f" images {one.by_noise.auc.words()}.",
        MEMBERSHIP,
        charts.lines(
            charts.Panel(
                [
                    charts.Series(
                        "by denoising error",
                        one.sigmas,
                        [part.value for part in one.auc],
                        [part.low for part in one.auc],
                        [part.high for part in one.auc],
                        colour=palette.BLUE,
                    )
                ],
                "area under the ROC curve",
                levels={0.5: "cannot tell"},
            )
        ),
    )


def methods(found: Findings) -> dict[str, str]:
    """What was compared with what, by which rule."""
    sets, one = found.sets, found.chosen
    control = "none" if sets.control is None else f"{sets.control.stored} images of {sets.control.name}"
    said = {
        "The rule": RULE,
        "Images": f"T: {len(sets.kept)} different training images of {sets.given.name}"
        f"{', and their mirror images' if sets.training.flips else ''}. C, control: {control}. H, calibration:"
        f" {sets.calibration.stored} images of {sets.calibration.name}.",
        "Copies": "p-values are conformal: the rank of a sample's statistic among those of calibration images. The list is"
        f" Benjamini and Hochberg's at {found.settings.fdr:.0%}. Statistics: margin (how much nearer the nearest training"
        " image is than the nearest control image), ratio (than the 20 nearest training images are), similarity.",
        "What is not promised": "Copies of kinds that the planted ones do not resemble may be missed; regions that were moved"
        " are. A model may give images back that it was not asked for here. Agreement of two networks does not show that they"
        " have learned the truth (Maillard & Goldt, arXiv 2605.21402).",
    }
    if one.leakage is not None:
        said["Leakage"] = (
            f"{one.leakage.samples:.1%} of the samples and {one.leakage.unseen:.1%} of the unseen images are nearer to the"
            " training than to as many control images; leakage is twice the difference. Its interval is Newcombe's, widened by"
            f" what dealing out both sets anew would change (standard deviation {one.leakage.by_chance:.3f})."
        )
    if found.evidence.modelling is not None:
        said["Does it model these images"] = f"{found.evidence.modelling.words().capitalize()}."
    return said


def _different(order: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first samples in this order, two of them beside one training image: a memorizer gives one back again and again."""
    seen: Counter[int] = Counter()
    found = []
    for place in order.tolist():
        seen[int(index[place])] += 1
        if seen[int(index[place])] <= TWICE:
            found.append(place)
    return np.array(found[:SHOWN], dtype=np.int64)


def _fitted(samples: Tensor, near: Tensor) -> Tensor:
    """Samples with the brightness and contrast that bring each closest to its image: (n, C, H, W) both."""
    mine, theirs = samples.flatten(1), near.flatten(1)
    centred = mine - mine.mean(1, keepdim=True)
    slope = (centred * theirs).sum(1, keepdim=True) / centred.square().sum(1, keepdim=True).clamp_min(1e-12)
    return (theirs.mean(1, keepdim=True) + slope * centred).reshape(samples.shape)


def _spaces(found: Findings) -> pd.DataFrame:
    rows = []
    for one in found.spaces:
        rows.append(
            {
                "features": one.space + (" (verdict)" if one is found.chosen else ""),
                "statistic": one.statistic,
                "planted copies found": float(np.mean([value.value for value in one.power.values()])),
                "fooled by smoothness": one.fooled[one.statistic],
                "on the list": int((one.q <= found.settings.fdr).sum()),
                "share of copies": one.copied.share.words(),
                "leakage": "–" if one.leakage is None else one.leakage.leakage.words(),
                "mean similarity": float(one.similarity.mean()),
                "of unseen images": float(one.unseen_similarity.mean()),
            }
        )
    return pd.DataFrame(rows)


def _short(name: str) -> str:
    return name if len(name) <= 22 else "…" + name[-21:]
