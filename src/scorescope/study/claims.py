"""Claims: a paper's sentence, the number that tests it, and the rule that decides; the verdict follows, nobody types it.

A rule is an interval of numbers for which the sentence holds, so it can be written down, read aloud and applied again
when a stored claim is loaded. A claim about two numbers is one about their difference or ratio; a claim about a trend is
one about the smallest step, or a rank correlation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ClaimVerdict = Literal["holds", "fails", "not tested at this size"]
HOLDS: ClaimVerdict = "holds"
FAILS: ClaimVerdict = "fails"
NOT_TESTED: ClaimVerdict = "not tested at this size"


@dataclass(frozen=True)
class Rule:
    """The numbers for which a claim holds: an interval, open or closed at either end.

    Attributes:
        at_least: the claim holds only from this number on.
        above: the claim holds only above this number.
        at_most: the claim holds only up to this number.
        below: the claim holds only below this number.
        because: why these bounds, in words ("0.1 around the paper's value"); may be empty.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    because: str = ""

    def __post_init__(self) -> None:
        if not self.bounds:
            raise ValueError("a rule without a bound decides nothing: give at_least, above, at_most or below")
        if any(not math.isfinite(bound) for bound in self.bounds.values()):
            raise ValueError(f"the bounds of a rule are finite numbers, not {self.bounds}")

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        named = {"at_least": self.at_least, "above": self.above, "at_most": self.at_most, "below": self.below}
        return {name: bound for name, bound in named.items() if bound is not None}

    def holds(self, value: float) -> bool:
        """Whether `value` lies within all bounds."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def words(self, unit: str = "") -> str:
        """The rule as a sentence says it: "at least 0.4 dB and at most 0.6 dB (0.1 around the paper's value)"."""
        space = f" {unit}" if unit else ""
        parts = [f"{name.replace('_', ' ')} {bound:g}{space}" for name, bound in self.bounds.items()]
        return " and ".join(parts) + (f" ({self.because})" if self.because else "")


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper, tested.

    Attributes:
        sentence: what the paper says, in one sentence.
        source: where it says it ("kadkhodaie2024, figure 4").
        quantity: what was measured to test it, in words.
        value: the number measured; None, or NaN, where it could not be measured.
        rule: the numbers for which the sentence holds.
        unit: of the number; empty for a pure number.
        interval: uncertainty of the number, (low, high).
        note: what the reader must know: why it was not tested, what was smaller than in the paper.
        verdict: ``holds``, ``fails`` or ``not tested at this size``, from the number by the rule.

    Raises:
        ValueError: `value` is missing and no `note` says why; an interval that is not ordered.
    """

    sentence: str
    source: str
    quantity: str
    value: float | None
    rule: Rule
    unit: str = ""
    interval: tuple[float, float] | None = None
    note: str = ""
    verdict: ClaimVerdict = field(init=False, default=NOT_TESTED)

    def __post_init__(self) -> None:
        if self.value is None and not self.note:
            raise ValueError(f"the claim {self.sentence!r} has no number and no note that says why it was not tested")
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(
                self, "note", self.note or f"the measurement gave {self.value}, which is no number to judge by"
            )
            object.__setattr__(self, "value", None)
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"an interval is (low, high), not {self.interval}")
        if self.value is not None:
            object.__setattr__(self, "verdict", HOLDS if self.rule.holds(self.value) else FAILS)

    @property
    def close(self) -> bool:
        """Whether the other verdict lies within the number's uncertainty."""
        if self.value is None or self.interval is None:
            return False
        return any(self.rule.holds(end) != self.rule.holds(self.value) for end in self.interval)

    def to_json(self) -> dict[str, Any]:
        """The claim as a JSON object; the verdict is there for readers and is computed again by `from_json`."""
        return {
            "sentence": self.sentence,
            "source": self.source,
            "quantity": self.quantity,
            "value": self.value,
            "unit": self.unit,
            "interval": self.interval,
            "rule": {**self.rule.bounds, "because": self.rule.because, "words": self.rule.words(self.unit)},
            "verdict": self.verdict,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Claim:
        """The claim that `to_json` described."""
        rule = {name: bound for name, bound in record["rule"].items() if name != "words"}
        interval = record["interval"]
        return cls(
            sentence=record["sentence"],
            source=record["source"],
            quantity=record["quantity"],
            value=record["value"],
            rule=Rule(**rule),
            unit=record["unit"],
            interval=None if interval is None else (interval[0], interval[1]),
            note=record["note"],
        )
