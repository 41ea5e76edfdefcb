"""Everything that was found about one model or one folder of samples, and the ruling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.data import ImageSet
from scorescope.data.duplicates import digest
from scorescope.data.store import name_of
from scorescope.lenses.audit.denoising import Denoising, modelled
from scorescope.lenses.audit.nearness import Nearness
from scorescope.lenses.audit.regions import Regions
from scorescope.lenses.audit.sets import AuditSets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit.agreement import Agreement
from scorescope.probes.audit.copies import calibration_needed
from scorescope.probes.audit.verdict import Evidence, Ruling, rule
from scorescope.probes.proportions import Interval


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        label: what the model or the folder is called.
        settings: with what it was measured.
        sets: what it was compared with.
        samples: the samples.
        spaces: samples in every feature space.
        chosen: the feature space that the verdict uses.
        regions: copied regions; None if they were not looked for.
        denoising: of a network; None for a folder.
        agreement: with a second network; None without.
        same_bytes: which samples are training images byte for byte, bool (m,).
        from_files: whether the samples came as files.
        ruling: the verdict.
    """

    label: str
    settings: AuditSettings
    sets: AuditSets
    samples: ImageSet
    spaces: tuple[Nearness, ...]
    chosen: Nearness
    regions: Regions | None
    denoising: Denoising | None
    agreement: Agreement | None
    same_bytes: npt.NDArray[np.bool_]
    from_files: bool
    ruling: Ruling

    @property
    def copies(self) -> npt.NDArray[np.bool_]:
        """Which samples are on the list of copies, bool (m,); none if they are noise.

        Noise is as far from few training images as from many control images, which no image of the kind is: all of it would
        be on the list.
        """
        return np.asarray((self.chosen.q <= self.settings.fdr) & (not self._noise))

    @property
    def region_copies(self) -> npt.NDArray[np.int64]:
        """Which samples are on the list of those with a copied region; none as with `copies`."""
        if self.regions is None or self._noise:
            return np.zeros(0, np.int64)
        return self.regions.samples[self.regions.q <= self.settings.fdr]

    @property
    def _noise(self) -> bool:
        modelling = self.evidence.modelling
        return modelling is not None and modelling.noise

    @property
    def smallest_list(self) -> int:
        """How many copies there must be among the samples for any to be on the list: p-values go down to 1/(h + 1) only."""
        return self._smallest(len(self.chosen.p), len(self.chosen.t_unseen))

    @property
    def smallest_region_list(self) -> int:
        """The same for copied regions; 0 if they were not looked for."""
        return 0 if self.regions is None else self._smallest(len(self.regions.p), self.regions.unseen)

    def _smallest(self, samples: int, calibration: int) -> int:
        return max(1, math.ceil(samples / (self.settings.fdr * (calibration + 1)) - 1e-9))

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing anything."""
        found = list(self.sets.notes)
        count = int(self.same_bytes.sum())
        if count:
            kind = (
                "these files are copies of training files and no generations"
                if self.from_files
                else "a network hardly ever hits every byte: its samples may have been read from its data"
            )
            found.append(f"{count} of the {len(self.same_bytes)} samples are training images byte for byte: {kind}")
        unseen = len(self.chosen.t_unseen)
        needed = calibration_needed(self.settings.fdr)
        if unseen < needed:
            found.append(
                f"{unseen} calibration images are too few for a false discovery rate of {self.settings.fdr:g}: no list can name"
                f" a copy with fewer than {needed}"
            )
        elif self.smallest_list > 1 and not self.copies.any():
            found.append(
                f"with {unseen:,} calibration images the list of copies stays empty unless at least {self.smallest_list} of the"
                f" {len(self.chosen.p):,} samples are copies"
            )
        if (
            self.regions is not None
            and self.smallest_region_list > max(1, self.smallest_list)
            and not len(self.region_copies)
        ):
            found.append(
                f"with {self.regions.unseen:,} calibration images the list of copied regions stays empty unless at least"
                f" {self.smallest_region_list} of the {len(self.regions.p):,} samples have one"
                " (measurement.region_images sets how many are looked at)"
            )
        if self.regions is not None and len(self.regions.samples) < self.samples.stored:
            found.append(
                f"copied regions were looked for in {len(self.regions.samples):,} of the {self.samples.stored:,} samples"
            )
        return found

    @property
    def evidence(self) -> Evidence:
        """What the rule decides on."""
        return _evidence(self.sets, self.chosen, self.regions, self.denoising, self.settings.fdr)

    def rows(self) -> pd.DataFrame:
        """One row a sample, as the CSV file has it."""
        one, kept = self.chosen, len(self.sets.kept)
        frame = pd.DataFrame(
            {
                "sample": np.arange(len(one.p)),
                "name": [name_of(self.samples, place) for place in range(len(one.p))],
                "p": one.p,
                "q": one.q,
                "copy": self.copies,
                one.statistic: one.t,
                "similarity": one.similarity,
                "training_index": self.sets.places(one.index),
                "training_name": [self.sets.name(int(entry)) for entry in one.index],
                "mirrored": one.index >= kept,
                "control_similarity": one.control_similarity if len(one.control_similarity) else np.nan,
                "same_bytes": self.same_bytes,
            }
        )
        for other in self.spaces:
            if other is not one:
                frame[f"p_{other.space}"] = other.p
        if self.regions is not None:
            found = self.regions
            places = {int(sample): row for row, sample in enumerate(found.samples)}
            rows = [places.get(sample) for sample in range(len(one.p))]
            frame["region_p"] = [np.nan if row is None else found.p[row] for row in rows]
            frame["region_q"] = [np.nan if row is None else found.q[row] for row in rows]
            frame["region_training_name"] = [
                "" if row is None else self.sets.name(int(found.index[row])) for row in rows
            ]
        return frame

    def reason(self, because: bool = True) -> str:
        """The numbers behind the verdict, in a sentence, as a card of the page shows them, after why it is so."""
        parts = [self.ruling.because] if because or self.ruling.state == "no verdict" else []
        evidence = self.evidence
        if self.ruling.state != "no verdict" and evidence.copied is not None:
            parts.append(f"share of copies {evidence.copied.words()}")
            if evidence.leakage is not None:
                parts.append(f"leakage {evidence.leakage.words()}")
            if evidence.local is not None:
                parts.append(f"with a copied region {evidence.local.words()}")
            if evidence.gap is not None:
                parts.append(f"PSNR gap {evidence.gap.words('.2f')} dB")
            if self.agreement is not None:
                parts.append(f"two networks agree {self.agreement.same_noise.words()}")
        if self.ruling.alarm is not None:
            parts.append(f"wrong in at most {self.ruling.alarm_words} of audits")
        return "; ".join(parts)

    @property
    def power(self) -> Mapping[str, Interval]:
        """The share of planted copies that would have been found, by kind, parts by windows where those were looked at."""
        return {**self.chosen.power, **({} if self.regions is None else self.regions.power)}

    def power_words(self) -> str:
        """What would have been found, in a sentence."""
        alike: dict[str, list[str]] = {}
        for kind, found in sorted(self.power.items(), key=lambda one: -one[1].value):
            alike.setdefault(f"{found.value:.0%}", []).append(kind)
        named = [f"{share} of {', '.join(kinds)}" for share, kinds in alike.items()]
        where = f"in {self.chosen.space} by {self.chosen.statistic}"
        local = "" if self.regions is None else "; parts by windows"
        return f"Of planted copies it finds ({where}{local}): {'; '.join(named)}"

    def to_json(self) -> dict[str, Any]:
        """The findings as a JSON object, without the samples."""
        evidence = self.evidence
        numbers = {
            "copied": evidence.copied,
            "leakage": evidence.leakage,
            "regions": evidence.local,
            "gap_dB": evidence.gap,
        }
        record: dict[str, Any] = {
            "label": self.label,
            "verdict": self.ruling.state,
            "because": self.ruling.because,
            "bound": self.ruling.bound,
            "false_alarms_at_most": self.ruling.alarm,
            "samples_needed": self.ruling.samples_needed,
            "samples": len(self.chosen.p),
            "calibration_images": len(self.chosen.t_unseen),
            "copies": int(self.copies.sum()),
            "copied_regions": len(self.region_copies),
            "same_bytes": int(self.same_bytes.sum()),
            "features": self.chosen.space,
            "statistic": self.chosen.statistic,
            "power": {kind: one.value for kind, one in self.chosen.power.items()},
            "power_words": self.power_words(),
            "notes": self.warnings,
        }
        record |= {
            name: None if one is None else {"value": one.value, "low": one.low, "high": one.high}
            for name, one in numbers.items()
        }
        if self.denoising is not None and self.denoising.by_error is not None:
            record["membership_auc"] = vars(self.denoising.by_error.auc)
            record["membership_p"] = self.denoising.by_error.p_value
        return record


def conclude(
    label: str,
    settings: AuditSettings,
    sets: AuditSets,
    samples: ImageSet,
    spaces: Sequence[Nearness],
    regions: Regions | None = None,
    denoising: Denoising | None = None,
    agreement: Agreement | None = None,
    from_files: bool = False,
) -> Findings:
    """Choose the feature space by measured power, and apply the rule."""
    best = max(spaces, key=lambda one: round(one.mean_power[one.statistic], 2))
    ruling = rule(
        _evidence(sets, best, regions, denoising, settings.fdr), settings.bound, allow_wider=settings.allow_wider
    )
    return Findings(
        label=label,
        settings=settings,
        sets=sets,
        samples=samples,
        spaces=tuple(spaces),
        chosen=best,
        regions=regions,
        denoising=denoising,
        agreement=agreement,
        same_bytes=same_bytes(samples, sets),
        from_files=from_files,
        ruling=ruling,
    )


def same_bytes(samples: ImageSet, sets: AuditSets) -> npt.NDArray[np.bool_]:
    """Which samples are training images byte for byte, mirror images among them if they count: bool (m,)."""
    known = {digest(pixels) for _, block in sets.training.chunks(4096) for pixels in block}
    return np.array([digest(pixels) in known for _, block in samples.chunks(4096) for pixels in block])


def _evidence(
    sets: AuditSets, best: Nearness, regions: Regions | None, denoising: Denoising | None, fdr: float
) -> Evidence:
    return Evidence(
        copied=best.copied.share,
        leakage=None if best.leakage is None else best.leakage.leakage,
        gap=None if denoising is None else denoising.gap,
        local=None if regions is None else regions.copied.share,
        listed=(int((best.q <= fdr).sum()), 0 if regions is None else int((regions.q <= fdr).sum())),
        fdr=fdr,
        modelling=modelled(denoising, best.nearer_than_nothing),
        samples=len(best.p),
        calibration=len(best.t_unseen),
        few_images=sets.few,
        flat=sets.flat,
    )


def findings_by(rows: Mapping[str, Findings]) -> pd.DataFrame:
    """The numbers behind every verdict, one row a model."""
    table = []
    for label, one in rows.items():
        evidence = one.evidence
        row: dict[str, Any] = {"model": label, "verdict": one.ruling.state, "samples": len(one.chosen.p)}
        named = (
            ("share of copies", evidence.copied),
            ("leakage", evidence.leakage),
            ("with a copied region", evidence.local),
            ("PSNR gap (dB)", evidence.gap),
        )
        for name, interval in named:
            row[name] = "–" if interval is None else interval.words()
        row["membership (AUC)"] = "–"
        if one.denoising is not None and one.denoising.by_error is not None:
            row["membership (AUC)"] = one.denoising.by_error.auc.words()
        row["false alarms"] = one.ruling.alarm_words
        table.append(row)
    return pd.DataFrame(table)
