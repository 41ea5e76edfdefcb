"""Memorization: does the model give its training images back? PSNR on seen and unseen images, and whom its samples resemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from scorescope.lenses.audit.trained import Audited, audit_arrays, audited
from scorescope.lenses.base import Lens, lens
from scorescope.lenses.drawing import draw_samples, full_contrast
from scorescope.lenses.settings import MORE_IMAGES, LensSettings, MeasurementConfig
from scorescope.lenses.subject import Subject, Trained, chosen, mean_intensity
from scorescope.probes.audit.verdict import Evidence, Ruling
from scorescope.probes.errors import denoising_psnr
from scorescope.probes.similarity import cosine_similarity, nearest
from scorescope.study import charts, palette, pictures
from scorescope.study.glances import small_chart
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Arrays = dict[str, npt.NDArray[np.generic]]
SECTION = "Memorization"
COLUMNS = 8
SECOND_LOOK = 1_000_003
"""What is added to the seed of the noise that further samples start from."""


def psnr_of_images(trained: Trained, config: MeasurementConfig) -> Arrays:
    """Output PSNR of every image at every level, for each network on its training images and on held-out ones.

    Returns ``sigma`` (S,) and, for every network NAME, ``train/NAME`` and, with held-out images, ``test/NAME``, each
    (S, `psnr_images`), dB. Image i is the same for both where it is held out, and image i mod N of a set of N.
    """
    sigmas = trained.sigmas(config.psnr_levels)
    found: Arrays = {"sigma": np.array(sigmas)}
    for name, network in trained.networks.items():
        seen = chosen(trained.training[name], config.psnr_images, config.seed)
        found[f"train/{name}"] = denoising_psnr(network, seen, sigmas, config.seed)
        if trained.held_out is not None:
            unseen = chosen(trained.held_out, config.psnr_images, config.seed)
            found[f"test/{name}"] = denoising_psnr(network, unseen, sigmas, config.seed)
    return found


def psnr_curves(trained: Trained, config: MeasurementConfig) -> Arrays:
    """Output PSNR on training and on held-out images, averaged over images and networks; see `averaged`."""
    return averaged(psnr_of_images(trained, config), trained)


def averaged(found: Arrays, trained: Trained) -> Arrays:
    """Curves of what `psnr_of_images` gives: ``sigma`` (S,), ``train`` (S,) and, with held-out images, ``test`` (S,), dB."""
    curves: Arrays = {"sigma": found["sigma"]}
    for kind in ("train", "test"):
        of_networks = [found[f"{kind}/{name}"] for name in trained.networks if f"{kind}/{name}" in found]
        if of_networks:
            curves[kind] = np.mean([values.astype(np.float64).mean(1) for values in of_networks], axis=0)
    return curves


def sample_and_search(trained: Trained, config: MeasurementConfig) -> dict[str, Any]:
    """Samples from shared noise, their nearest training images, and similarities.

    Returns, for every network NAME, ``samples/NAME`` and ``nearest/NAME`` (n, C, H, W), ``similarity/NAME`` (n,) and
    ``converged/NAME``, ``diverged/NAME`` and ``steps/NAME`` (n,): how the search for each sample ended, see `Drawn`;
    with two networks ``agreement`` (n,); and ``reference`` (m,): how similar images that are not copies are to their
    nearest training image, from held-out images if there are any, else from training images and the others of the set.
    """
    centre = mean_intensity(trained.first_training, config.seed)
    found: dict[str, Any] = {}
    for name, network in trained.networks.items():
        training = trained.training[name]
        drawn = draw_samples(network, config.samples, centre, config, trained.first_training)
        neighbours = nearest(drawn.images, training)
        found[f"samples/{name}"] = drawn.images.numpy()
        found |= {f"{what}/{name}": getattr(drawn, what) for what in ("converged", "diverged", "steps")}
        found[f"nearest/{name}"] = training.tensor(neighbours.index[:, 0]).numpy()
        found[f"similarity/{name}"] = neighbours.similarity[:, 0]
    if len(trained.networks) == 2:
        first, second = (torch.from_numpy(found[f"samples/{name}"]) for name in trained.networks)
        found["agreement"] = cosine_similarity(first, second)
    training = trained.first_training
    if trained.held_out is not None:
        reference = nearest(chosen(trained.held_out, 512, config.seed), training)
    else:
        reference = nearest(chosen(training, min(512, training.stored), config.seed), training, exclude_self=True)
    found["reference"] = reference.similarity[:, 0]
    return found


@dataclass(frozen=True)
class Sampled:
    """The samples of one subject.

    Attributes:
        label: what the subject is called ("N = 100").
        networks: names of its networks.
        found: see `sample_and_search`.
    """

    label: str
    networks: tuple[str, ...]
    found: dict[str, Any]

    @property
    def similarity(self) -> npt.NDArray[np.float64]:
        """Of all networks' samples to their nearest training images, (networks · n,)."""
        return np.concatenate([self.found[f"similarity/{name}"] for name in self.networks]).astype(np.float64)

    @property
    def nearest(self) -> float:
        """Mean similarity of a sample to its nearest training image."""
        return float(self.similarity.mean())

    @property
    def agreement(self) -> float | None:
        """Mean similarity of the two networks' samples from the same noise; None with one network."""
        agreement = self.found.get("agreement")
        return None if agreement is None else float(agreement.astype(np.float64).mean())


@dataclass(frozen=True)
class Memorization(Sampled):
    """The evidence on one subject.

    Attributes:
        curves: see `psnr_curves`.
        audited: the intervals and the verdict.
    """

    curves: Arrays
    audited: Audited

    @property
    def ruling(self) -> Ruling:
        """The verdict."""
        return self.audited.ruling

    @property
    def evidence(self) -> Evidence:
        """What the rule decides on."""
        return self.audited.evidence

    @property
    def psnr_gap(self) -> float | None:
        """Training minus held-out PSNR, averaged over sigma, dB; None without held-out images."""
        if "test" not in self.curves:
            return None
        return float(np.mean(self.curves["train"].astype(np.float64) - self.curves["test"].astype(np.float64)))

    @property
    def copied(self) -> float:
        """Share of the samples that are copies."""
        return 0.0 if self.evidence.copied is None else self.evidence.copied.value


CELLS = ("psnr", "samples", "audit")
"""What `measure_memorization` measures, each a cell of the run; a second look makes three more."""


def measure_memorization(label: str, subject: Trained, config: MeasurementConfig, workspace: Workspace) -> Memorization:
    """PSNR, samples and the audit of one subject, each a cell of the run."""
    psnr_cell, _, audit_cell = (_cell(label, name) for name in CELLS)
    psnr = workspace.computed(psnr_cell, lambda: psnr_of_images(subject, config))
    found = stored_samples(label, subject, config, workspace)
    drawn = {name: found[f"samples/{name}"] for name in subject.networks}
    arrays = workspace.computed(audit_cell, lambda: audit_arrays(subject, drawn, config))
    verdict = audited(arrays, psnr, subject, drawn, config)
    if config.more_samples and verdict.may_be_decided:
        found = found | workspace.computed(_cell(label, "more samples"), lambda: _with_more(found, subject, config))
        drawn = {name: found[f"samples/{name}"] for name in subject.networks}
        wide = config.model_copy(update={"psnr_images": MORE_IMAGES * config.psnr_images})
        psnr = workspace.computed(_cell(label, "second psnr"), lambda: psnr_of_images(subject, wide))
        arrays = workspace.computed(_cell(label, "second audit"), lambda: audit_arrays(subject, drawn, wide))
        verdict = audited(arrays, psnr, subject, drawn, wide, looks=2)
    return Memorization(label, tuple(subject.networks), found, averaged(psnr, subject), verdict)


def stored_samples(label: str, subject: Trained, config: MeasurementConfig, workspace: Workspace) -> dict[str, Any]:
    """What `sample_and_search` finds on one subject, as a cell of the run."""
    found: dict[str, Any] = workspace.computed(_cell(label, CELLS[1]), lambda: sample_and_search(subject, config))
    return found


def _with_more(found: Mapping[str, Any], subject: Trained, config: MeasurementConfig) -> dict[str, Any]:
    """What there is of each sample, with `more_samples` more from other noise."""
    other = {"samples": config.more_samples, "seed": config.seed + SECOND_LOOK}
    more = sample_and_search(subject, config.model_copy(update=other))
    return {key: np.concatenate([found[key], more[key]]) for key in found if key != "reference"}


def _cell(label: str, name: str) -> str:
    return f"{label.replace(' ', '')}/{name}"


@lens("memorization", question="Does it give its training images back?")
class MemorizationLens(Lens):
    """PSNR on seen and unseen images, samples and their nearest training images, and the verdict."""

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> Memorization:
        """See `Lens.measure`."""
        return measure_memorization("the model", subject, settings, workspace)

    def show(self, results: Results, measured: Memorization) -> None:
        """See `Lens.show`."""
        results.add_verdict(measured.label, measured.ruling.state, reason(measured))
        results.add_notes(measured.audited.notes)
        samples(results, [measured])
        psnr(results, [measured])
        similarities(results, [measured])
        evidence_table(results, [measured])
        x = measured.curves["sigma"].astype(np.float64)
        lines = [charts.Series("training images", x, measured.curves["train"], colour=palette.BLUE)]
        if "test" in measured.curves:
            lines.append(charts.Series("held-out", x, measured.curves["test"], colour=palette.ORANGE, dashed=True))
        gap = measured.psnr_gap
        seen = (
            "there are no held-out images to compare with"
            if gap is None
            else f"it denoises images it has seen {_by(gap)}"
        )
        results.add_glance(
            self.title,
            f"{measured.copied:.0%}",
            f"of its samples are copies of training images; {seen}.",
            small_chart(lines, charts.SIGMA, y_from_zero=False),
        )


def psnr(results: Results, measured: Sequence[Memorization]) -> None:
    """Output against input PSNR on training and held-out images, one panel a subject."""
    panels = []
    for one in measured:
        x = 20 * np.log10(2 / one.curves["sigma"].astype(np.float64))
        series = [charts.Series("training images", x, one.curves["train"], colour=palette.BLUE)]
        if "test" in one.curves:
            series.append(charts.Series("held-out images", x, one.curves["test"], colour=palette.ORANGE, dashed=True))
        panels.append(charts.Panel(series, "output PSNR (dB)", one.label))
    results.add_chart(
        "psnr",
        "Denoising images it has seen, and images it has not",
        "A network that memorizes denoises its training images far better than others; once it generalizes, the two curves"
        " are one.",
        SECTION,
        charts.psnr_in_out(panels, columns=2 if len(panels) > 1 else 1),
    )


def samples(results: Results, measured: Sequence[Sampled]) -> None:
    """Samples from shared noise over their nearest training images, one sheet a subject."""
    for one in measured:
        rows, labels = [], []
        for name in one.networks:
            rows.append(full_contrast(one.found[f"samples/{name}"][:COLUMNS]))
            labels.append(network_word(name))
        for name in one.networks:
            rows.append(one.found[f"nearest/{name}"][:COLUMNS])
            labels.append(f"nearest to {name}" if len(one.networks) > 1 else "nearest training image")
        said = [f"mean similarity of a sample to its nearest training image {one.nearest:.2f}"]
        if one.agreement is not None:
            said.append(f"of the two networks' samples to each other {one.agreement:.2f}")
        lost = 1 - min(float(one.found[f"converged/{name}"].mean()) for name in one.networks)
        if lost > 0:
            said.append(f"{lost:.0%} of the ascents did not converge")
        results.add_sheet(
            f"samples-{label_key(one)}",
            f"{one.label}: samples and their nearest training images",
            _samples_caption(one) + " " + (", ".join(said)).capitalize() + ".",
            SECTION,
            pictures.grid(np.stack(rows), row_labels=labels),
        )


def _samples_caption(one: Sampled) -> str:
    if len(one.networks) == 1:
        return "Samples of the network (shown at full contrast), and for each the most similar training image."
    return (
        "Networks A and B start from the same noise but were trained on disjoint images: the same picture in both rows is"
        " something they learned, a picture that equals its nearest training image is one they kept (samples are shown at"
        " full contrast)."
    )


def similarities(results: Results, measured: Sequence[Sampled]) -> None:
    """Histograms of the similarity between samples, and to training images, one panel a subject."""
    panels = {}
    for one in measured:
        values = {}
        if "agreement" in one.found:
            values["between the two networks"] = one.found["agreement"]
        values["to the nearest training image"] = np.concatenate([one.found[f"similarity/{n}"] for n in one.networks])
        values["held-out to the nearest training image"] = one.found["reference"]
        panels[one.label] = values
    results.add_chart(
        "similarity",
        "Whom the samples resemble",
        "With few training images samples coincide with one of them; with many, the samples of two networks that share no"
        " training image coincide with each other instead."
        if len(measured) > 1
        else "Samples that are nearer to a training image than unseen images are, are copies.",
        SECTION,
        charts.histograms(panels, "cosine similarity of centred images", x_range=(0.0, 1.0)),
    )


def evidence_table(results: Results, measured: Sequence[Memorization]) -> None:
    """The numbers behind every verdict."""
    rows = []
    for one in measured:
        found = one.evidence
        intervals = {"share of copies": found.copied, "leakage": found.leakage, "PSNR gap (dB)": found.gap}
        alike = one.audited.agreement
        rows.append(
            {"model": one.label, "verdict": one.ruling.state, "samples": found.samples}
            | {name: "–" if interval is None else interval.words() for name, interval in intervals.items()}
            | {
                "sample to nearest": one.nearest,
                "network to network": "–" if alike is None else alike.same_noise.words(),
                "false alarms": one.ruling.alarm_words,
            }
        )
    results.add_table(
        "verdicts",
        "The evidence behind each verdict",
        "With 95 % intervals. Leakage: how much more often samples than unseen images are nearer to the training images than"
        " to as many others; gap: PSNR of training minus held-out images, averaged over sigma. Similarities are means.",
        pd.DataFrame(rows),
        section=SECTION,
    )


def reason(one: Memorization) -> str:
    """The numbers behind a verdict in a sentence."""
    return one.audited.reason()


def _by(gap: float) -> str:
    return f"{abs(gap):.1f} dB {'better' if gap > 0 else 'worse'} than others"


def network_word(name: str) -> str:
    """A network as a row of pictures calls it."""
    return f"network {name}" if len(name) == 1 else name


def label_key(one: Sampled) -> str:
    """A subject's label as part of the key of a figure."""
    return "".join(letter if letter.isalnum() else "-" for letter in one.label.lower()).strip("-")
