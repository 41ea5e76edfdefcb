"""The page of an attribution: the sample, its images, where each pixel comes from, leaving one image out, and trust."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scorescope.lenses.attribution.baselines import EMBEDDED, PIXELS
from scorescope.lenses.attribution.findings import PATCHES, Findings, first
from scorescope.lenses.attribution.pictures_of import COLOURS, colour_map, framed, in_colour, most_used, put_together
from scorescope.lenses.attribution.tracing import ANYWHERE, WHOLE
from scorescope.lenses.drawing import full_contrast
from scorescope.study import charts, palette, pictures
from scorescope.study.glances import small_chart
from scorescope.study.results import Results

IMAGES, MAP, WITHOUT, TRUST = (
    "Its training images",
    "Where each pixel comes from",
    "Without one image",
    "How far to trust this",
)
COLUMNS = 6
AMPLIFIED = 4


def add_attribution(results: Results, found: Findings) -> None:
    """Add everything about one sample to a page."""
    results.headline = headline(found)
    results.opened += [IMAGES, MAP]
    top_images(results, found)
    where_from(results, found)
    if found.left is not None:
        without(results, found)
    trust(results, found)
    results.methods |= methods(found)


def headline(found: Findings) -> str:
    """Of how many images it is made, how well that is what the model does, and what to beware of."""
    entry = int(first(found.share, 1)[0])
    mean = float(found.match.mean())
    said = (
        f"This {'sample' if found.states.drawn else 'image'} is made of pieces of about {_number(found.effective_images)}"
        f" training images; the largest part, {found.share[entry]:.1%}, is from {found.name(entry)}. The estimate that says so"
        f" matches what the model answers by {mean:.2f} (1: the same; 0: no better than a trivial answer)."
    )
    warned = "".join(f" Warning: {warning}." for warning in found.warnings)
    return said + warned


def top_images(results: Results, found: Findings) -> None:
    """The sample, and the first training images of every method."""
    blank = np.full_like(found.states.sample, np.nan)
    rows, labels, captions = [], [], []
    # methods that say nothing of any image have no row
    scores = [one for one in found.scores if len(first(one.score, 1))]
    for one in scores:
        entries = first(one.score, COLUMNS)
        tiles = [full_contrast(found.states.sample[None])[0], *found.training.tensor(entries).numpy()]
        texts = ["the sample", *(f"{found.name(int(e))}: {_score(one.name, float(one.score[e]))}" for e in entries)]
        missing = COLUMNS - len(entries)
        rows.append(np.stack([*tiles, *[blank] * missing]))
        captions.append([*texts, *[""] * missing])
        labels.append(_short_name(one.name))
    results.introductions[IMAGES] = (
        "Which training images have a hand in this picture? The first rows are exact: the weight of every training image in an"
        " estimate that knows nothing but the training set. Of whole images; of patches, each at its own place; of patches from"
        " any place. Such weights are parts of the picture and sum to one. The other rows are other people's methods: likeness,"
        " and gradients of the network; their numbers compare with others of the same row only."
    )
    results.add_sheet(
        "top-images",
        "The first training images, by method",
        f"Beside the sample, at full contrast, the {COLUMNS} training images with the largest scores, mean over noise"
        " levels; under"
        " each its number and score. attribution.csv has more of them.",
        IMAGES,
        pictures.grid(np.stack(rows), row_labels=labels, captions=captions),
    )
    notes = [f"{_short_name(one.name)}: {one.note}" for one in found.scores if one.note]
    results.add_table(
        "methods",
        "Do the methods agree?",
        "Rank correlation (Spearman) of the scores of the training images that both methods scored."
        + (f" {'; '.join(notes)}." if notes else ""),
        _agreement(found),
        section=IMAGES,
    )


def where_from(results: Results, found: Findings) -> None:
    """Which image each pixel comes from, at a few levels, and how many images there are behind it."""
    best, levels = found.best, shown_levels(len(found.states.sigmas))
    named = most_used(best, levels)
    rows, labels, captions = [], [], []
    for level in levels:
        one = best[level]
        tiles = [
            in_colour(found.states.noisy[level]),
            in_colour(found.states.denoised[level]),
            in_colour(one.mean[level].astype(np.float32)),
            colour_map(one, level, named),
            in_colour(put_together(found.training, one, level)),
        ]
        rows.append(np.stack(tiles))
        labels.append(f"σ = {found.states.sigmas[level]:.2g}")
        behind = float(np.median(one.effective_number[level]))
        texts = ["noisy", "the model", f"estimate, match {one.match[level]:.2f}", f"{_number(behind)} images a pixel"]
        captions.append([*texts, f"from {_short_name(one.name)}"])
    results.introductions[MAP] = (
        "On the way from noise to picture the model answers with a cleaner picture at every noise level σ. Beside its"
        " answer stands"
        " the estimate from the training images that comes closest to it, and then, pixel by pixel, the training image that has"
        " most of the weight there: as a colour (the legend is below; grey: some other image; pale: it has only a small part)"
        " and as the pixel of that image itself."
    )
    results.add_sheet(
        "where-from",
        "Which training image each pixel comes from",
        "From high noise, where the plan is made, to low noise, where details are.",
        MAP,
        pictures.grid(np.stack(rows), row_labels=labels, captions=captions),
    )
    legend = [
        framed(found.training.tensor([entry])[0].numpy(), COLOURS[place]) for place, entry in enumerate(named.tolist())
    ]
    results.add_sheet(
        "legend",
        "The images behind the colours",
        "Those that come first at most pixels of the pictures above.",
        MAP,
        pictures.strip(np.stack(legend), [found.name(entry) for entry in named.tolist()], COLUMNS),
    )
    chosen = [WHOLE, *(one.name for one in found.traced if one.name not in (WHOLE, ANYWHERE)), ANYWHERE]
    traced = {one.name: one for one in found.traced}
    windows = [name for name in chosen if name in traced]
    colours = dict(zip(windows, [palette.INK, *palette.sequence(max(1, len(windows) - 2)), palette.RED], strict=False))
    series = [
        charts.Series(
            name, found.states.sigmas, np.median(traced[name].effective_number, axis=(1, 2)), colour=colours[name]
        )
        for name in windows
    ]
    results.add_chart(
        "images-behind",
        "How many training images are behind a pixel",
        "Median over pixels of exp of the entropy of the weights. 1: the pixel is one image's. The smaller the"
        " windows, the more"
        " images can give a piece.",
        MAP,
        charts.lines(charts.Panel(series, "images", y_log=True)),
        folded=True,
    )
    results.add_glance(
        IMAGES,
        _number(found.effective_images),
        "training images are behind the whole picture, counted by their shares.",
        small_chart(
            [
                charts.Series(
                    "images", found.states.sigmas, found.levels()["images behind the picture"], colour=palette.BLUE
                )
            ],
            charts.SIGMA,
        ),
    )


def without(results: Results, found: Findings) -> None:
    """What the estimate would be without one of its images, where that changes most; and the change at every level."""
    left = found.left
    assert left is not None, "asked only where images were left out"
    best = found.best
    level = int(np.argmax(left.moved.max(1)))
    mean = best[level].mean[level]
    rows, captions = [], []
    for place in np.argsort(-left.moved[level], kind="stable"):
        entry = int(left.entries[level, place])
        other = left.without[level, place]
        tiles = [found.training.tensor([entry])[0].numpy(), mean, other, AMPLIFIED * (other - mean) / 2]
        rows.append(np.stack(tiles).astype(np.float32))
        share = f"share {best[level].share[level, entry]:.1%}"
        captions.append([found.name(entry), share, "without it", f"changes by {left.moved[level, place]:.3f}"])
    results.introductions[WITHOUT] = (
        "If this image had not been in the training set, what would the estimate have been? That is known exactly,"
        " without training"
        " again: the other images take over its weight. A large change means that the picture hangs on this one image."
        " It is the"
        " estimate's answer, not the network's: how far networks follow it is measured in docs/attribution.md."
    )
    results.add_sheet(
        "without",
        f"The estimate at σ = {found.states.sigmas[level]:.2g} without its largest images",
        f"The noise level where leaving one out changes most. Last column: the change, {AMPLIFIED} times as large; grey"
        " is none.",
        WITHOUT,
        pictures.grid(
            np.stack(rows),
            column_labels=["left out", "estimate", "without it", f"{AMPLIFIED} × change"],
            captions=captions,
        ),
    )
    series = [
        charts.Series("the image with the largest share", found.states.sigmas, left.moved[:, 0], colour=palette.RED)
    ]
    results.add_chart(
        "without-by-level",
        "How much one image changes, level by level",
        "Root mean square change of the best estimate, in units of [-1, 1], when the image with the largest share is left out.",
        WITHOUT,
        charts.lines(charts.Panel(series, "change"), legend=False),
        folded=True,
    )
    results.add_glance(
        WITHOUT,
        f"{left.moved.max():.2g}",
        "is the most that the estimate changes when one of its largest training images is left out; black to white is 2.",
        small_chart(series, charts.SIGMA),
    )


def trust(results: Results, found: Findings) -> None:
    """The match of every estimate with the model's answers."""
    results.introductions[TRUST] = (
        "Weights are exact for the estimate, and the estimate is not the network. The match says how near the two are"
        " at this very"
        " picture: 1, they are the same; 0 or less, a grey picture or the noisy picture itself is as near. Where the"
        " match is low,"
        " the attribution is that of something else."
    )
    traced = found.traced
    values = np.stack([one.match for one in traced])
    shown = np.maximum(values, -1)
    chosen = shown_columns(len(found.states.sigmas))
    results.add_chart(
        "match",
        "How well each estimate is what the model answers",
        "Match by noise level; numbers below −1 are shown as −1.",
        TRUST,
        charts.heat_table(
            shown[:, chosen],
            [one.name for one in traced],
            [f"{found.states.sigmas[level]:.2g}" for level in chosen],
            x_label=charts.SIGMA,
            value_range=(0, 1),
        ),
    )
    results.add_glance(
        TRUST,
        f"{found.match.mean():.2f}",
        "is how well the best estimate at each level matches what the model answers; 1 is the same.",
        small_chart([charts.Series("match", found.states.sigmas, found.match, colour=palette.GREEN)], charts.SIGMA),
    )
    results.add_table(
        "levels", "Level by level", "At every noise level, the estimate that matches best.", found.levels()
    )
    results.add_table("matches", "Match of every estimate", "See “How far to trust this”.", found.matches())
    if found.warnings:
        results.methods["Warnings"] = "\n\n".join(f"{warning[0].upper()}{warning[1:]}." for warning in found.warnings)


def shown_levels(count: int) -> list[int]:
    """The levels whose maps are shown: from near the beginning to near the end."""
    return sorted({round(share * (count - 1)) for share in (0.15, 0.5, 0.85)})


def shown_columns(count: int, most: int = 7) -> list[int]:
    """As many levels as a table of a phone's width has room for, evenly spread."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(most, count))})


def methods(found: Findings) -> dict[str, str]:
    """What was measured, on what, by which formula."""
    states, settings = found.states, found.settings
    flow = (
        f"The model drew the sample by its flow (Heun's method, {settings.flow_steps} levels, seed {settings.seed});"
        f" {len(states.sigmas)} of the states on the way are looked at."
        if states.drawn
        else f"The image was given and has no trajectory: noise of every level was added to it (seed {settings.seed})."
    )
    said = {
        "The sample": flow,
        "Weights": "Exact posteriors over the training images: softmax of −‖y − x‖²/2σ² over whole images; over every window by"
        " itself, a pixel's weight of an image being the mean over the windows that cover it (Niedoba et al. 2025);"
        " over windows"
        " from all places (Kamb & Ganguli 2024), whose sum over positions is NDA (Zhao et al., arXiv 2510.14269). A"
        " score is the"
        " mean weight over pixels, and over noise levels.",
        "The best estimate": "At every level that of whole images or of windows of one side whose match is largest.",
        "Match": "1 − ‖M − D‖² / min(‖y − D‖², ‖D − mean(D)‖²), M the estimate, D the model's answer at the noisy picture y.",
        "Leaving one out": "D₋ᵢ = (D − wᵢxᵢ)/(1 − wᵢ) for every window; where an image has more than 99 % of a"
        " window's weight, the"
        " estimate is computed again without it. A mirror image leaves with its image.",
        "Other methods": "Cosines of the images and of fixed features. D-TRAK (Zheng et al., arXiv 2311.00500):"
        " gradients of the"
        " squared norm of the network's noise estimate, randomly projected, φᵀ(ΦᵀΦ + λI)⁻¹φᵢ.",
    }
    if found.familiarity is not None:
        one = found.familiarity
        said["Is it a sample of this model?"] = (
            f"The model denoises it {one.error:.2f} times as badly as a typical training image with the same noise; of"
            f" {len(one.training)} training images the worst, {one.training.max():.2f} times."
        )
    if found.notes:
        said["Notes"] = " ".join(found.notes)
    return said


def _agreement(found: Findings) -> pd.DataFrame:
    scores = [one for one in found.scores if np.isfinite(one.score).sum() > 2]
    names = [_short_name(one.name) for one in scores]
    frame = pd.DataFrame({name: one.score for name, one in zip(names, scores, strict=True)})
    table = frame.corr(method="spearman")
    table.insert(0, "method", names)
    return table


def _short_name(name: str) -> str:
    return "patches" if name == PATCHES else name.removeprefix("cosine of ").replace("gradients (D-TRAK)", "gradients")


def _score(method: str, value: float) -> str:
    """A share in percent, a cosine as it is, a gradient's product by its size."""
    if method in (PIXELS, EMBEDDED):
        return f"{value:.2f}"
    return f"{value:.1%}" if method in (PATCHES, WHOLE, ANYWHERE) else f"{value:.2g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
