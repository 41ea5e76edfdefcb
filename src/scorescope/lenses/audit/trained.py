"""The audit of networks under the microscope: one, or two trained on disjoint halves, from samples that were drawn already.

Of two networks each has the other's training images as control images, if they share none: then the two runs are mirror images
of each other, and which images chance put into which half cancels. Searches are in pixels; `scorescope audit` looks in other
features and for copied regions as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.duplicates import AlikeImages
from scorescope.data.images import ImageSet, to_uint8
from scorescope.denoisers import GaussianDenoiser
from scorescope.lenses.audit.denoising import LARGEST_COVARIANCE
from scorescope.lenses.audit.nearness import Nearness, nearness, searched
from scorescope.lenses.audit.sets import AuditSets, audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Trained, chosen
from scorescope.probes.audit.agreement import Agreement, agreement
from scorescope.probes.audit.membership import gap
from scorescope.probes.audit.modelling import Modelling, mean_errors, share_below, worth_denoising
from scorescope.probes.audit.search import Directions
from scorescope.probes.audit.verdict import Evidence, Ruling, rule
from scorescope.probes.errors import denoising_psnr
from scorescope.probes.proportions import Interval

Arrays = dict[str, npt.NDArray[np.generic]]
CALIBRATION = 2000


@dataclass(frozen=True)
class Audited:
    """What the verdict on one subject rests on.

    Attributes:
        nearness: of the samples of all networks, in pixels.
        evidence: the intervals.
        ruling: the verdict.
        agreement: of two networks; None with one.
        notes: about duplicates and unseen images, in sentences.
        looks: how often the verdict was asked for, each time on more samples.
    """

    nearness: Nearness
    evidence: Evidence
    ruling: Ruling
    agreement: Agreement | None
    notes: tuple[str, ...]
    looks: int = 1

    @property
    def may_be_decided(self) -> bool:
        """Whether more samples and images can decide what these leave undecided."""
        evidence = self.evidence
        return self.ruling.state == "undecided" and evidence.leakage is not None and not evidence.flat

    def reason(self) -> str:
        """The numbers behind the verdict in a sentence."""
        parts = [self.ruling.because]
        if self.ruling.state == "no verdict":
            return parts[0]
        evidence = self.evidence
        if evidence.copied is not None:
            parts.append(f"share of copies {evidence.copied.words()}")
        if evidence.leakage is not None:
            parts.append(f"leakage {evidence.leakage.words()}")
        if evidence.gap is not None:
            parts.append(f"PSNR gap {evidence.gap.words('.1f')} dB")
        if self.agreement is not None:
            parts.append(
                f"the two networks' samples from the same noise agree {self.agreement.same_noise.words()}, from other noise"
                f" {self.agreement.other_noise.value:.2f}"
            )
        if self.ruling.alarm is not None:
            parts.append(f"said wrongly in at most {self.ruling.alarm_words} of cases")
        return "; ".join(parts)


def audit_arrays(trained: Trained, samples: Mapping[str, Any], config: MeasurementConfig) -> dict[str, Any]:
    """Everything that takes time, as arrays by name and the notes.

    Args:
        trained: one network or two.
        samples: network -> its samples (n, C, H, W), the same noise for all.
        config: how many images and noise levels.
    """
    settings = _settings(config, trained)
    per_network: list[dict[str, Any]] = []
    notes: list[str] = []
    offset = 0
    sets = None
    alike = AlikeImages(settings.near, mirrored=settings.flips)
    plain = {name: images.without_flips() for name, images in trained.training.items()}
    for name in trained.networks:
        sets = _sets(trained, plain, name, settings, alike)
        notes += [note for note in sets.notes if note not in notes]
        drawn = ImageSet(to_uint8(torch.nan_to_num(torch.from_numpy(samples[name]))), name=f"samples of {name}")
        arrays = searched(drawn, sets, Directions(), settings, "searching")
        # The images of another network's run count as others: so do the two runs.
        for key in list(arrays):
            if key.endswith("index"):
                arrays[key] = np.where(arrays[key] < 0, -1, arrays[key] + offset)
        offset += len(sets.training) + (0 if sets.control is None else len(sets.control))
        per_network.append(arrays)
    assert sets is not None
    found: dict[str, Any] = {
        f"near/{key}": np.concatenate([_padded(arrays[key], per_network, key) for arrays in per_network])
        for key in per_network[0]
    }
    found |= {"control": sets.control is not None, "few": sets.few, "flat": sets.flat, "notes": notes}
    for name in trained.networks:
        found |= {f"reference/{name}/{key}": value for key, value in _references(trained, name, config).items()}
    return found


def audited(
    arrays: Mapping[str, Any],
    psnr: Mapping[str, Any],
    trained: Trained,
    samples: Mapping[str, Any],
    config: MeasurementConfig,
    looks: int = 1,
) -> Audited:
    """The verdict from what `audit_arrays` found.

    Args:
        arrays: of `audit_arrays`.
        psnr: of `psnr_of_images`.
        trained: the networks.
        samples: network -> its samples.
        config: how many images and noise levels.
        looks: how often the verdict is asked for, this time included.
    """
    settings = _settings(config, trained)
    near = nearness(
        {key.removeprefix("near/"): value for key, value in arrays.items() if key.startswith("near/")},
        "pixels",
        bool(arrays["control"]),
        trained.first_training.flips,
        settings,
    )
    evidence = Evidence(
        copied=near.copied.share,
        leakage=None if near.leakage is None else near.leakage.leakage,
        gap=_gap(psnr, trained),
        modelling=_modelling(arrays, psnr, trained, near.nearer_than_nothing),
        listed=(int((near.q <= settings.fdr).sum()), 0),
        samples=len(near.p),
        calibration=len(near.t_unseen),
        few_images=arrays["few"],
        flat=bool(arrays["flat"]),
    )
    alike = None
    if len(trained.networks) == 2:
        first, second = (Directions().of(torch.from_numpy(samples[name])) for name in trained.networks)
        alike = agreement(first, second) if len(first) > 2 else None
    ruling = rule(evidence, settings.bound, allow_wider=True, looks=looks)
    return Audited(near, evidence, ruling, alike, tuple(arrays["notes"]), looks)


def _settings(config: MeasurementConfig, trained: Trained) -> AuditSettings:
    few = min(100, max(20, 2 * config.samples))
    return AuditSettings(
        features=("pixels",), flips=trained.first_training.flips, planted=few, calibration=CALIBRATION, seed=config.seed
    )


def _sets(
    trained: Trained, plain: Mapping[str, ImageSet], name: str, settings: AuditSettings, alike: AlikeImages
) -> AuditSets:
    """What the samples of network `name` are compared with; `plain` are the training images without their mirror images."""
    training = plain[name]
    control = None
    if trained.held_out is not None and len(trained.networks) == 2:
        other = next(one for other, one in plain.items() if other != name)
        if not alike.between(training, other).equal.any():
            control = other
    return audit_sets(
        training,
        trained.held_out,
        alike=alike,
        calibration=settings.calibration or CALIBRATION,
        seed=settings.seed,
        control=control,
    )


def _padded(values: npt.NDArray[Any], per_network: list[dict[str, Any]], key: str) -> npt.NDArray[Any]:
    """With as many nearest images as the network that has fewest: sets can differ by a duplicate."""
    return values[:, : min(one[key].shape[1] for one in per_network)] if values.ndim == 2 else values


def _references(trained: Trained, name: str, config: MeasurementConfig) -> Arrays:
    """Errors of the mean image and of the Gaussian denoiser on the images that `psnr_of_images` looks at."""
    training = trained.training[name]
    sigmas = trained.sigmas(config.psnr_levels)
    gaussian = GaussianDenoiser(training) if math.prod(training.image_shape) <= LARGEST_COVARIANCE else None
    mean = torch.from_numpy(np.mean([block.mean(0) for _, block in training.chunks(1 << 20)], 0) / 127.5 - 1)
    found: Arrays = {}
    for kind, images in (("train", training), ("test", trained.held_out)):
        if images is not None:
            clean = chosen(images, config.psnr_images, config.seed)
            constant = mean_errors(clean, mean, len(sigmas))
            found[f"{kind}/mean"] = constant
            found[f"{kind}/gaussian"] = (
                constant if gaussian is None else _errors(denoising_psnr(gaussian, clean, sigmas, config.seed))
            )
    return found


def _errors(psnr: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.asarray(4 * 10 ** (-np.asarray(psnr, np.float64) / 10))


def _gap(psnr: Mapping[str, Any], trained: Trained) -> Interval | None:
    """The PSNR gap with its interval, each image once however often it was noised."""
    if trained.held_out is None:
        return None
    seen = [_each_once(psnr[f"train/{name}"], trained.training[name]) for name in trained.networks]
    unseen = np.mean([_each_once(psnr[f"test/{name}"], trained.held_out) for name in trained.networks], axis=0)
    return gap(np.concatenate(seen), unseen)


def _each_once(psnr: npt.ArrayLike, images: ImageSet) -> npt.NDArray[np.float64]:
    means = np.asarray(psnr, dtype=np.float64).mean(0)
    places = np.arange(len(means)) % images.stored
    return np.asarray(np.bincount(places, means) / np.bincount(places))


def _modelling(arrays: Mapping[str, Any], psnr: Mapping[str, Any], trained: Trained, nearer: Interval) -> Modelling:
    """The worse of two networks, each on the better of training and unseen images."""
    pairs = []
    for name in trained.networks:
        best = (0.0, 0.0)
        for kind in ("train", "test"):
            if f"{kind}/{name}" not in psnr:
                continue
            errors = _errors(psnr[f"{kind}/{name}"])
            mean, gaussian = (arrays[f"reference/{name}/{kind}/{what}"] for what in ("mean", "gaussian"))
            worth = worth_denoising(gaussian, mean)
            best = max(best, (share_below(errors[worth], gaussian[worth]), share_below(errors[worth], mean[worth])))
        pairs.append(best)
    below_gaussian, below_mean = min(pairs)
    return Modelling(below_mean, below_gaussian, nearer)
