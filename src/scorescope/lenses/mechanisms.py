"""Mechanisms: which training-free denoiser computes what the network computes instead of memorizing?

The network is compared with every rival explanation on noisy training images, noisy held-out images and the states of its
own sampling: how much of its distance to the optimal denoiser does each remove?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from scorescope.denoisers import denoisers
from scorescope.lenses.against import Against, compare, levels_table, overall_table
from scorescope.lenses.base import Lens, lens
from scorescope.lenses.comparison import Comparison, comparison_of
from scorescope.lenses.deviations import best_mechanism, mechanism_claims
from scorescope.lenses.inputs import HELD_OUT, IN_WORDS, REVERSE, TRAIN
from scorescope.lenses.rivals import FLEX, Builder, MechanismConfig, Mechanisms
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.subject import OPTIMAL, Subject
from scorescope.probes.attribution import NEGLIGIBLE_GAP, Deviation
from scorescope.study import charts, palette, pictures
from scorescope.study.deciding import key_of, series_of
from scorescope.study.glances import small_chart
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SQUARE, GAUSSIAN, PCA = "pspc-square", "gaussian", "pca-locality"
GAP = "network to optimal"
PATCHES = (
    SQUARE,
    FLEX,
    "local-score",
    "equivariant-local-score",
    "border-local-score",
    PCA,
)


@dataclass(frozen=True)
class MechanismsFound:
    """One network against every mechanism.

    Attributes:
        against: on each kind of inputs.
        built: what it was compared with, by the network's name.
        inputs: of each kind, a level.
    """

    against: list[Against]
    built: dict[str, Mechanisms]
    inputs: int

    @property
    def deviations(self) -> dict[str, Deviation]:
        """The distances on forward (noisy training images) and reverse inputs."""
        kinds = {TRAIN: "forward", REVERSE: "reverse"}
        return {
            kinds[one.kind]: Deviation(one.sigmas, one.distance[OPTIMAL], {n: one.distance[n] for n in one.names})
            for one in self.against
            if one.kind in kinds
        }


@lens("mechanisms", question="Which training-free denoiser computes what it computes instead of memorizing?")
class MechanismsLens(Lens):
    """The network against every rival explanation."""

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> MechanismsFound:
        """See `Lens.measure`."""
        comparison, builder = rivals(subject, settings, workspace)
        found, built = compare(comparison, builder, workspace)
        return MechanismsFound([one for one in found if len(one.sigmas)], built, settings.deviation_inputs)

    def show(self, results: Results, measured: MechanismsFound) -> None:
        """See `Lens.show`."""
        found, deviations = measured.against, measured.deviations
        show_explained(results, found, measured.inputs, self.title)
        results.add_table(
            "mechanisms",
            "What every mechanism explains, over all noise levels",
            f"1 minus the summed squared distance over the summed distance to the optimal denoiser, with its 95 % interval over"
            f" {measured.inputs} images a level.",
            overall_table(found),
            section=self.title,
        )
        results.add_table(
            "levels",
            "Every denoiser at every level",
            "Mean squared difference to the network, cosine similarity and explained deviation, with 95 % intervals.",
            levels_table(found),
            section=self.title,
        )
        describe(results, measured.built)
        mechanism_claims(results, "the model", deviations)
        forward = deviations["forward"]
        shares = {name: forward.explained_overall(name) for name in forward.to_mechanism}
        known = {name: share for name, share in shares.items() if np.isfinite(share)}
        best = max(known, key=lambda name: known[name]) if known else None
        lines = [charts.Series(OPTIMAL, forward.sigmas, forward.gap(), colour=palette.INK, dashed=True)]
        if best is not None:
            lines.append(charts.Series(best, forward.sigmas, forward.to_mechanism[best].mean(1)))
        results.add_glance(
            self.title,
            f"{known[best]:.0%}" if best is not None else "–",
            f"of its distance to the optimal denoiser (dashed) is gone with {best} in its place."
            if best is not None
            else best_mechanism(forward) + ".",
            small_chart(lines, charts.SIGMA),
        )


def rivals(subject: Subject, settings: LensSettings, workspace: Workspace) -> tuple[Comparison, Builder]:
    """The first network of a subject at the levels of the settings, and what builds the denoisers that it is compared with.

    Some are fitted, which takes long: what the same run asked before with the same settings is answered with the same.
    """
    key = f"rivals in {workspace.folder}: {settings.model_dump_json()}"
    if key not in subject.shared:
        subject.shared[key] = _rivals(subject, settings, workspace)
    found: tuple[Comparison, Builder] = subject.shared[key]
    return found


def _rivals(subject: Subject, settings: LensSettings, workspace: Workspace) -> tuple[Comparison, Builder]:
    comparison = comparison_of(subject, settings.deviation_levels, settings.deviation_inputs, settings.seed)
    config = MechanismConfig(
        names=subject.names,
        heatmap_images=settings.heatmap_images,
        everywhere_images=settings.everywhere_images,
        stacked_images=settings.stacked_images,
    )
    _, height, width = subject.first.image_shape
    lacking = {}
    if not settings.costly_mechanisms:
        slow = [name for name, entry in denoisers.items() if entry.costly and name not in subject.names]
        lacking = dict.fromkeys(slow, "it takes long (measurement.costly_mechanisms, or name it in mechanisms)")
    if settings.heatmap_pixels is not None and settings.heatmap_pixels < height * width:
        lacking[FLEX] = f"it takes the heatmaps of all {height * width} output pixels (measurement.heatmap_pixels)"
    return comparison, Builder(comparison, config, workspace, lacking)


def show_explained(results: Results, found: Sequence[Against], inputs: int, section: str) -> None:
    """What explains one network: the chart, and pictures of what every denoiser makes."""
    found = [one for one in found if len(one.sigmas)]
    if not found:
        return
    network = found[0].network
    results.add_chart(
        f"explained-{key_of(network)}",
        f"What explains {network}",
        f"Top: how far {network} is from the optimal denoiser. Below: the share of that distance which each denoiser removes,"
        " on three kinds of inputs; left those that look at patches, right the others. 1: it is the network, 0: no better than"
        f" memorization. Left out where the distance is below {NEGLIGIBLE_GAP:g}, cut off below −1. {inputs} noisy images a"
        " level; bands: 95 % intervals.",
        section,
        explained_chart(found),
    )
    show_examples(results, found, section)


def show_examples(results: Results, found: Sequence[Against], section: str) -> None:
    """One image at several levels as every denoiser sees it, from held-out images where there are some."""
    one = next((each for each in found if each.kind == HELD_OUT), found[0])
    if one.shown:
        results.add_sheet(
            f"examples-{key_of(one.network)}",
            f"One image as {one.network} and every denoiser see it",
            f"From {IN_WORDS[one.kind]}, noise falling from left to right.",
            section,
            pictures.grid(
                np.stack(list(one.examples.values())),
                row_labels=list(one.examples),
                column_labels=[f"σ = {one.sigmas[place]:.2g}" for place in one.shown],
            ),
        )


def halves(one: Against) -> dict[str, list[str]]:
    """What looks at patches, and the rest."""
    return {"patches": [n for n in one.names if n in PATCHES], "others": [n for n in one.names if n not in PATCHES]}


def explained_chart(found: Sequence[Against]) -> Figure:
    """The gap, and below it the explained deviation of every denoiser, one row for each kind of inputs."""
    kinds = {
        "forward": [one for one in found if one.kind != REVERSE],
        "reverse": [o for o in found if o.kind == REVERSE],
    }
    panels = [
        charts.Panel(
            [
                series_of(GAP, one.sigmas, one.distances(OPTIMAL), dashed=one.kind == HELD_OUT, colour=palette.INK)
                for one in rows
            ],
            "squared difference",
            f"gap, {kind}" if len(rows) < 2 else "gap; dashed: held-out",
        )
        for kind, rows in kinds.items()
    ]
    for one in found:
        for title, names in halves(one).items():
            panels.append(
                charts.Panel(
                    [series_of(name, one.sigmas, one.explained(name)) for name in names],
                    "explained deviation",
                    f"{one.kind}, {title}",
                    y_range=(-1.0, 1.1),
                    levels={0.0: "memorization", 1.0: "the network"},
                )
            )
    return charts.lines(panels, columns=2, heights=[1.3] + [1.75] * len(found))


def describe(results: Results, built: Mapping[str, Mechanisms]) -> None:
    """How the denoisers were built, and what was left out."""
    for network, mechanisms in built.items():
        results.methods[f"Denoisers, {network}"] = (
            mechanisms.said or "Each from all training images, with its defaults."
        )
        if mechanisms.left_out:
            reasons = "\n\n".join(f"{name}: {reason}." for name, reason in mechanisms.left_out.items())
            results.methods[f"Not compared, {network}"] = reasons
