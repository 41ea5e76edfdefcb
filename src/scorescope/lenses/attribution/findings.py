"""An attribution put together: what every method says of every training image, and how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.data.images import ImageSet
from scorescope.data.store import ImageStore, name_of
from scorescope.lenses.attribution.baselines import Scores
from scorescope.lenses.attribution.leaving import LeftOut
from scorescope.lenses.attribution.settings import AttributionSettings
from scorescope.lenses.attribution.states import Familiarity, States
from scorescope.lenses.attribution.tracing import ANYWHERE, WHOLE, Traced

Floats = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]
PATCHES = "patches (the best window at each level)"
KEPT_ROWS = 200


@dataclass(frozen=True)
class Findings:
    """Everything about one sample.

    Attributes:
        label: what the page calls the model.
        training: the training set.
        settings: of the run.
        states: the noisy images and the model's answers.
        traced: every kind of estimate.
        left: what becomes of the best one without single images; None if none can be left out.
        baselines: what other methods say.
        familiarity: of an image that was given; None for a sample that the model drew.
        notes: what a reader must know besides.
    """

    label: str
    training: ImageSet
    settings: AttributionSettings
    states: States
    traced: list[Traced]
    left: LeftOut | None
    baselines: list[Scores]
    familiarity: Familiarity | None
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> list[Traced]:
        """At every level the estimate from its own places that matches the model's answer best, S of them."""
        return best_at_levels(self.traced)

    @property
    def match(self) -> Floats:
        """Its match, (S,)."""
        return np.array([one.match[level] for level, one in enumerate(self.best)])

    @property
    def share(self) -> Floats:
        """Every training image's share of the best estimates, mean over levels, (N,)."""
        return np.asarray(np.mean([one.share[level] for level, one in enumerate(self.best)], axis=0), dtype=np.float64)

    @property
    def effective_images(self) -> float:
        """How many images the best estimates are made of, exp of the entropy of `share`."""
        share = self.share[self.share > 0]
        return float(np.exp(-(share * np.log(share)).sum()))

    @property
    def scores(self) -> list[Scores]:
        """What every method says of every training image, the exact posteriors first."""
        named = {one.name: one for one in self.traced}
        found = [Scores(PATCHES, self.share), Scores(WHOLE, named[WHOLE].share.mean(0))]
        if ANYWHERE in named:
            score = named[ANYWHERE].share.mean(0)
            looked = int(min(self.settings.everywhere_images, self.training.stored))
            whole = looked == self.training.stored
            note = "" if whole else f"looked for in the {looked:,} training images most like the sample in pixels"
            found.append(Scores(ANYWHERE, score, note))
        return [*found, *self.baselines]

    @property
    def warnings(self) -> list[str]:
        """Why this may be no attribution of this model's sample."""
        found = []
        mean = float(self.match.mean())
        if mean < self.settings.low_match:
            found.append(
                f"the match is low, {mean:.2f}: no estimate from these images is what the model answers, so what follows is"
                " not how this model makes this picture; it may have been trained on other images"
            )
        if self.familiarity is not None and self.familiarity.strange:
            one = self.familiarity
            found.append(
                "this is probably no sample of this model: it denoises the image"
                f" {one.error:.1f} times as badly as a typical training image, and the worst of {len(one.training)} training"
                f" images {one.training.max():.1f} times"
            )
        return found

    def name(self, entry: int) -> str:
        """What a training image is called: its number in the data set, and whether it is its mirror image."""
        place = entry % self.training.stored
        row = place if self.training.indices is None else int(self.training.indices[place])
        mirrored = " mirrored" if entry >= self.training.stored else ""
        return f"no. {row}{mirrored}"

    def rows(self) -> pd.DataFrame:
        """The training images that any method has among its first ones, by their share of the best estimates."""
        scores = {one.name: one.score for one in self.scores}
        chosen = {int(entry) for score in scores.values() for entry in first(score, KEPT_ROWS)}
        order = sorted(chosen, key=lambda entry: -float(self.share[entry]))
        places = [entry % self.training.stored for entry in order]
        indices = self.training.indices
        frame: dict[str, Any] = {
            "image": [place if indices is None else int(indices[place]) for place in places],
            "mirrored": [entry >= self.training.stored for entry in order],
        }
        if isinstance(self.training, ImageStore):
            frame["source"] = [name_of(self.training, place) for place in places]
        if self.training.labels is not None:
            frame["class"] = self.training.own_labels()[places]
        frame |= {name: score[order] for name, score in scores.items()}
        return pd.DataFrame(frame)

    def levels(self) -> pd.DataFrame:
        """One row a noise level: what matches best, how well, of how many images, and what leaving the first out changes."""
        best = self.best
        frame: dict[str, Any] = {
            "σ": self.states.sigmas,
            "best estimate": [one.name for one in best],
            "match": self.match,
            "images behind a pixel": [float(np.median(one.effective_number[s])) for s, one in enumerate(best)],
            "images behind the picture": [float(one.effective_images[s]) for s, one in enumerate(best)],
            "largest share": [float(one.share[s].max()) for s, one in enumerate(best)],
        }
        if self.left is not None:
            frame["change without it"] = self.left.moved[:, 0]
        return pd.DataFrame(frame)

    def matches(self) -> pd.DataFrame:
        """The match of every kind of estimate, a row a level."""
        return pd.DataFrame({"σ": self.states.sigmas, **{one.name: one.match for one in self.traced}})

    def to_json(self) -> dict[str, Any]:
        """What scripts read."""
        named = {}
        for one in self.scores:
            named[one.name] = {
                "note": one.note,
                "images": [
                    {"image": self.name(int(entry)).removeprefix("no. "), "score": float(one.score[entry])}
                    for entry in first(one.score, self.settings.top)
                ],
            }
        return {
            "model": self.label,
            "training_images": self.training.stored,
            "drawn": self.states.drawn,
            "seed": self.settings.seed,
            "match": float(self.match.mean()),
            "effective_images": self.effective_images,
            "warnings": self.warnings,
            "notes": list(self.notes),
            "levels": self.levels().to_dict("records"),
            "matches": self.matches().to_dict("records"),
            "methods": named,
        }


def best_at_levels(traced: Sequence[Traced]) -> list[Traced]:
    """At every level the estimate from its own places, whole images or windows, that matches best."""
    own = [one for one in traced if one.name != ANYWHERE]
    order = np.argmax([one.match for one in own], axis=0)
    return [own[place] for place in order]


def first(score: Floats, count: int) -> Entries:
    """The entries with the largest scores, descending; those without a score are left out, and those of score 0."""
    known = np.where(np.isfinite(score), score, -np.inf)
    order = np.argsort(-known, kind="stable")[:count]
    return np.asarray([entry for entry in order if np.isfinite(known[entry]) and known[entry] != 0], dtype=np.int64)
