"""The audit at a glance, for the top of its page: what is listed, what would be found, whether membership can be told."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from scorescope.lenses.audit.findings import Findings
from scorescope.study import charts, palette
from scorescope.study.glances import small_chart
from scorescope.study.results import Results

PAIRS, REGIONS, FOUND, MEMBERSHIP = "Nearest pairs", "Copied regions", "What would have been found", "Membership"
BINS = 30


def glances(results: Results, found: Findings, regions_first: bool) -> None:
    """For the top of the page: how many are listed, what would have been found, and whether membership can be told."""
    listed = [_copies_at_a_glance(found)]
    if found.regions is not None:
        listed.insert(0 if regions_first else 1, _regions_at_a_glance(found))
    for section, number, sentence, drawing in listed:
        results.add_glance(section, number, sentence, drawing)
    shares = sorted((one.value for one in found.power.values()), reverse=True)
    mostly = sum(share >= 0.5 for share in shares)
    kinds = np.arange(1, len(shares) + 1)
    results.add_glance(
        FOUND,
        f"{mostly} of {len(shares)}",
        f"kinds of copies would mostly have been found. {found.power_words()}.",
        small_chart([charts.Series("found", kinds, shares, colour=palette.BLUE)], "kinds of copies", x_log=False),
    )
    one = found.denoising
    if one is not None and one.by_error is not None:
        area = np.array([[part.value, part.low, part.high] for part in one.auc])
        results.add_glance(
            MEMBERSHIP,
            f"{one.by_error.auc.value:.2f}",
            "is how often a training image is denoised better than an unseen one; 0.5 where nobody could tell.",
            small_chart(
                [
                    charts.Series("AUC", one.sigmas, area[:, 0], area[:, 1], area[:, 2], colour=palette.BLUE),
                    charts.Series("chance", one.sigmas, np.full(len(area), 0.5), colour=palette.ORANGE, dashed=True),
                ],
                charts.SIGMA,
                y_from_zero=False,
            ),
        )


def _copies_at_a_glance(found: Findings) -> tuple[str, str, str, Figure]:
    one = found.chosen
    together = np.concatenate([one.t, one.t_unseen])
    edges = np.linspace(float(together.min()), float(together.max()), BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    of_samples, of_unseen = (np.histogram(values, edges)[0] / len(values) for values in (one.t, one.t_unseen))
    lines = [
        charts.Series("unseen images", middle, of_unseen, colour=palette.ORANGE, dashed=True),
        charts.Series("samples", middle, of_samples, colour=palette.BLUE),
    ]
    return (
        PAIRS,
        f"{int(found.copies.sum())} of {len(found.copies)}",
        "samples are copies of a training image. Nearness of samples, and of unseen images (dashed):",
        small_chart(lines, "nearness", x_log=False),
    )


def _regions_at_a_glance(found: Findings) -> tuple[str, str, str, Figure]:
    local = found.regions
    assert local is not None
    p = np.sort(local.p)
    share, chance = np.arange(1, len(p) + 1) / len(p), np.geomspace(p[0], 1.0, BINS)
    lines = [
        charts.Series("as by chance", chance, chance, colour=palette.ORANGE, dashed=True),
        charts.Series("samples", np.append(p, 1.0), np.append(share, 1.0), colour=palette.BLUE),
    ]
    return (
        REGIONS,
        f"{len(found.region_copies)} of {len(local.p)}",
        "samples have a part that is copied. Share of samples up to each p-value, and by chance (dashed):",
        small_chart(lines, "p-value"),
    )
