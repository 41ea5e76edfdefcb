"""The course of a training run by the audits of its checkpoints: where it generalizes, and where it begins to memorize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scorescope.lenses.audit.findings import Findings
from scorescope.study import charts, palette
from scorescope.study.results import Results

CURVE = "Over training"
TURNS = ("generalization is there", "memorization begins")


def course(found: Sequence[Findings]) -> str:
    """Where generalization is there, and where memorization begins, over checkpoints in order."""
    general, begins = turns(found)
    parts = [
        "No checkpoint is surely one that generalizes"
        if general is None
        else f"Generalization is there at {found[general].label}",
        "and none at the end surely gives images back"
        if begins is None
        else f"memorization begins at {found[begins].label} and stays to the last",
    ]
    return f"{parts[0]}; {parts[1]}. At {found[-1].label}: {found[-1].ruling.state}."


def turns(found: Sequence[Findings]) -> tuple[int | None, int | None]:
    """The first checkpoint that generalizes, and the first from which on all give something back; None without."""
    states = [one.ruling.state for one in found]
    general = states.index("generalizes") if "generalizes" in states else None
    begins = len(states)
    while begins and states[begins - 1] in ("in transition", "memorizes"):
        begins -= 1
    return general, begins if begins < len(states) else None


def curve(results: Results, found: Sequence[Findings], steps: Sequence[float]) -> None:
    """Leakage, copies, membership and quality over the checkpoints of one training run."""
    x = np.asarray(steps, dtype=float)

    def series(name: str, intervals: Sequence[object], colour: str) -> charts.Series:
        values = np.array(
            [[np.nan] * 3 if one is None else [one.value, one.low, one.high] for one in intervals]  # type: ignore[attr-defined]
        )
        return charts.Series(name, x, values[:, 0], values[:, 1], values[:, 2], colour=colour)

    evidence = [one.evidence for one in found]
    aucs = [
        None if one.denoising is None or one.denoising.by_error is None else one.denoising.by_error.auc for one in found
    ]
    panels = [
        charts.Panel(
            [
                series("leakage", [one.leakage for one in evidence], palette.ORANGE),
                series("share of copies", [one.copied for one in evidence], palette.BLUE),
            ],
            "share",
            "Leakage and copies",
        ),
        charts.Panel([series("membership", aucs, palette.BLUE)], "AUC", "Membership", levels={0.5: "cannot tell"}),
        charts.Panel(
            [
                charts.Series(
                    "unseen images",
                    x,
                    [
                        np.nan
                        if one.denoising is None or not len(one.denoising.unseen_psnr)
                        else one.denoising.unseen_psnr.mean()
                        for one in found
                    ],
                    colour=palette.BLUE,
                )
            ],
            "PSNR (dB)",
            "Quality: denoising unseen images",
        ),
    ]
    figure = charts.lines(panels, "training step", x_log=bool(x.min() > 0 and x.max() > 20 * x.min()))
    marked = []
    for place, words, stroke, dashes in zip(turns(found), TURNS, ("dotted", "dashed"), (":", "--"), strict=True):
        if place is not None:
            marked.append(f"{words} at step {x[place]:,.0f} ({stroke} line)")
            for axis in figure.axes:
                axis.axvline(x[place], color=palette.SOFT, linewidth=0.9, linestyle=dashes, zorder=0.8)
    results.add_chart(
        "curve",
        "Leakage, copies, membership and quality over training",
        "Quality comes first, copies later: between the two a network generalizes (Bonnaire et al. 2025)."
        + (f" By the verdicts {', '.join(marked)}." if marked else ""),
        CURVE,
        figure,
    )
