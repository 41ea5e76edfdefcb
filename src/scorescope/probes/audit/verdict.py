"""The verdict, from intervals and not from points, with its false alarm rate.

| word | when |
| --- | --- |
| ``memorizes`` | the lower ends of the share of copies and of leakage are at least ½ |
| ``generalizes`` | the upper ends of both are at most a bound (0.1, or the user's), the PSNR gap's at most 0.3 dB |
| ``in transition`` | some lower end is above 0 (the gap's above 0.3 dB), or a sample is on a list of copies |
| ``undecided`` | the intervals are too wide for any of these: it says how many samples would do |
| ``no verdict`` | the model does not model these images, so that none of the above means anything |

Intervals hold 95 %, so a lower end is too high in 2.5 % of cases. Where any one of several lower ends decides, all are moved
down so far that together they are too high in at most 5 %. What could not be measured is left out, and said. Where only
few samples can be had, the verdict may be given at the bound that they allow, and says the bound. Where an undecided
verdict is given again on more samples, either look can err: the rates of both are added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scorescope.probes.audit.leakage import samples_for
from scorescope.probes.audit.modelling import REASONS, Modelling
from scorescope.probes.proportions import Interval, z_of

State = Literal["memorizes", "in transition", "generalizes", "undecided", "no verdict"]
MANY = 0.5
BOUND = 0.1
GAP = 0.3
TAIL, TOGETHER = 0.025, 0.05
WIDEST = 0.25
"""The largest bound at which anything is said to generalize."""

RULE = (
    "From 95 % intervals. memorizes: the lower ends of the share of copies and of leakage are at least ½. generalizes: their"
    " upper ends are at most the bound, and the PSNR gap's is at most 0.3 dB. in transition: a lower end is above 0, or the"
    " gap's above 0.3 dB, these ends moved down so that all together err in at most 5 % of audits; or a sample is on the list"
    " of copies, or of copied regions. undecided: the intervals are too wide for any of these. no verdict: the model does not"
    " denoise, or does not sample, such images better than what knows nothing of them. Leakage is twice the difference between"
    " the share of samples and of unseen images that lie nearer to the training images than to as many control images. What"
    " could not be measured is left out of the rule."
)


@dataclass(frozen=True)
class Evidence:
    """What the rule decides on.

    Attributes:
        copied: share of copies among the samples; None if no sample was looked at.
        leakage: None without control images.
        gap: PSNR of training minus unseen images, dB; None without a network or without unseen images.
        local: share of samples with a copied region; None if that was not looked at.
        listed: how many samples are on the list of copies, and how many on that of copied regions.
        fdr: false discovery rate of both lists.
        modelling: whether the model models such images; None where there are only samples.
        samples: how many samples were looked at.
        calibration: how many calibration images there were.
        few_images: why the training set itself is too small for any p-value; empty if it is not.
        flat: whether every training image is of one colour, so that other samples are near to none of them.
    """

    copied: Interval | None
    leakage: Interval | None = None
    gap: Interval | None = None
    local: Interval | None = None
    listed: tuple[int, int] = (0, 0)
    fdr: float = 0.05
    modelling: Modelling | None = None
    samples: int = 0
    calibration: int = 0
    few_images: str = ""
    flat: bool = False


@dataclass(frozen=True)
class Ruling:
    """A verdict with its reasons.

    Attributes:
        state: the word.
        bound: up to which share nothing was ruled out, where it generalizes; the bound asked for otherwise.
        alarm: how often this word would be said of a model that does not deserve it, at most; None where there is no such rate.
        samples_needed: how many samples would decide, where it is undecided and they can.
        because: why, in one sentence.
    """

    state: State
    bound: float
    alarm: float | None
    samples_needed: int | None
    because: str

    @property
    def alarm_words(self) -> str:
        """The rate in percent, or a dash where there is none."""
        return "–" if self.alarm is None else f"{100 * self.alarm:g} %"


def rule(evidence: Evidence, bound: float = BOUND, *, allow_wider: bool = False, looks: int = 1) -> Ruling:
    """Apply the rule.

    Args:
        evidence: what was measured.
        bound: share of copies, and leakage, up to which a model generalizes.
        allow_wider: whether a wider bound is taken where the samples allow no narrower one; it is said then.
        looks: how often the rule is applied, this time included; all but this one said "undecided".
    """
    if evidence.few_images or evidence.copied is None:
        return Ruling("undecided", bound, None, None, evidence.few_images or "no sample was looked at")
    if evidence.modelling is not None and not evidence.modelling.holds:
        because = f"{evidence.modelling.words()}. Likely reasons: {'; '.join(REASONS)}"
        return Ruling("no verdict", bound, None, None, because)
    copied, leakage, gap = evidence.copied, evidence.leakage, evidence.gap
    if copied.low >= MANY and (leakage is None or leakage.low >= MANY):
        also = "" if leakage is None else f" and {_percent(leakage.low)} leakage"
        alarm = TAIL * looks
        return Ruling(
            "memorizes", bound, alarm, None, f"at least {_percent(copied.low)} of the samples are copies{also}"
        )
    above = _above(evidence)
    if above:
        return Ruling(
            "in transition", bound, looks * (TOGETHER + evidence.fdr * _lists(evidence)), None, "; ".join(above)
        )
    if evidence.flat:
        because = (
            "every training image is of one colour: a sample that is not cannot be near to one, whatever was learned"
        )
        return Ruling("undecided", bound, None, None, because)
    upper = max(copied.high, -1.0 if leakage is None else leakage.high)
    reached = bound
    if allow_wider and bound < upper <= WIDEST:
        reached = math.ceil(round(upper * 100, 6)) / 100
    if upper <= reached and (gap is None or gap.high <= GAP):
        if leakage is None:
            because = (
                f"at most {_percent(copied.high, up=True)} of the samples are copies; leakage could not be measured"
            )
            return Ruling("undecided", bound, None, None, because)
        return Ruling(
            "generalizes", reached, TAIL * looks, None, f"no more than {_percent(upper, up=True)} leakage or copies"
        )
    return _undecided(evidence, bound, reached, upper)


def _undecided(evidence: Evidence, bound: float, reached: float, upper: float) -> Ruling:
    if upper <= reached and evidence.gap is not None:
        because = f"the PSNR gap may be {evidence.gap.high:.2f} dB, and {GAP:g} dB is the most: more images would tell"
        return Ruling("undecided", bound, None, None, because)
    needed = samples_for(bound)
    with_these = samples_for(bound, evidence.calibration) if evidence.calibration else None
    if evidence.leakage is None:
        because = "there are no control images, so leakage could not be measured, and too few samples are surely copies"
        return Ruling("undecided", bound, None, None, because)
    what = f"up to {_percent(min(upper, 1.0), up=True)} leakage or copies cannot be ruled out"
    if with_these is not None and with_these > evidence.samples:
        return Ruling(
            "undecided",
            bound,
            None,
            with_these,
            f"{what}: about {with_these:,} samples would decide at {_percent(bound)}",
        )
    if with_these is not None:
        return Ruling("undecided", bound, None, 2 * evidence.samples, f"{what}: twice as many samples may decide")
    because = (
        f"{what}: with {evidence.calibration:,} calibration images no number of samples decides at {_percent(bound)}; about"
        f" {needed:,} of both would"
    )
    return Ruling("undecided", bound, None, None, because)


def _above(evidence: Evidence) -> list[str]:
    """What is surely above nothing, in words."""
    looked_at = (evidence.copied, evidence.leakage, evidence.local, evidence.gap)
    tail = TOGETHER / sum(one is not None for one in looked_at)
    copied, leaked, local, gap = (None if one is None else _lowered(one, tail) for one in looked_at)
    found = []
    if copied is not None and copied > 0:
        found.append(f"{_at_least(copied)} of the samples are copies, and not surely half")
    elif evidence.listed[0]:
        found.append(f"{evidence.listed[0]} samples are on the list of copies")
    if leaked is not None and leaked > 0:
        found.append(f"leakage is {_at_least(leaked)}")
    if local is not None and local > 0:
        found.append(f"{_at_least(local)} of the samples have a copied region")
    elif evidence.listed[1]:
        found.append(f"{evidence.listed[1]} samples are on the list of copied regions")
    if gap is not None and gap > GAP:
        found.append(f"training images are denoised at least {gap:.1f} dB better than unseen ones")
    return found


def _lowered(one: Interval, tail: float) -> float:
    """The lower end of an interval of another level, as if its lower side were that of a normal distribution."""
    return one.value - (one.value - one.low) * z_of(1 - 2 * tail) / z_of(1 - 2 * TAIL)


def _lists(evidence: Evidence) -> int:
    return 1 + (evidence.local is not None)


def _at_least(share: float) -> str:
    """A lower end above 0 in words; one that rounds to nothing is still above it."""
    return f"at least {_percent(share)}" if share >= 0.001 else "more than 0 %"


def _percent(share: float, *, up: bool = False) -> str:
    """A share in whole percent, rounded to the safe side; in tenths below 10 %."""
    scaled = share * (100 if share >= 0.1 else 1000)
    whole = math.ceil(scaled - 1e-9) if up else math.floor(scaled + 1e-9)
    return f"{whole} %" if share >= 0.1 else f"{whole / 10:g} %"
