"""Claims on networks for growing N: what several subjects, each measured with the lens of memorization, say together."""

from __future__ import annotations

from collections.abc import Sequence

from scorescope.lenses.memorization import Memorization, Sampled
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results


def transition_claims(results: Results, measured: Sequence[Memorization]) -> None:
    """The claims of kadkhodaie2024's figures 1 and 2 on networks for growing N."""
    gaps = [one.psnr_gap for one in measured]
    numbers = [gap for gap in gaps if gap is not None]
    results.claims.append(
        Claim(
            "With growing N the PSNR on training images falls and that on held-out images rises until they meet.",
            "kadkhodaie2024, figure 1",
            f"train − held-out PSNR at {measured[-1].label}, averaged over sigma",
            numbers[-1] if numbers else None,
            Rule(at_most=0.3, because="the curves are one to the eye"),
            unit="dB",
            note=f"at {measured[0].label} the gap is {numbers[0]:.1f} dB"
            if numbers
            else "there are no held-out images",
        )
    )
    results.claims += sample_claims(measured)


def sample_claims(measured: Sequence[Sampled], untested: str = "") -> list[Claim]:
    """The claims of kadkhodaie2024's figure 2 on samples of networks for growing N.

    Args:
        measured: one for each N.
        untested: why they are not tested; empty if they are.
    """
    first, last = measured[0], measured[-1]
    similar = None
    if first.agreement is not None and last.agreement is not None and len(measured) > 1:
        similar = last.agreement - first.agreement
    away = last.nearest - first.nearest if len(measured) > 1 else None
    return [
        Claim(
            "Networks trained on disjoint images make the same samples from the same noise once N is large.",
            "kadkhodaie2024, figure 2",
            f"mean similarity of paired samples at {last.label}, minus that at {first.label}",
            None if untested else similar,
            Rule(at_least=0.2, because="a shift that the histograms show plainly"),
            note=untested or ("" if similar is not None else "it takes two networks and several N"),
        ),
        Claim(
            "Samples move away from their nearest training images as N grows.",
            "kadkhodaie2024, figure 2",
            f"mean similarity to the nearest training image at {last.label}, minus that at {first.label}",
            None if untested else away,
            Rule(below=0.0),
            note=untested or ("" if away is not None else "it takes several N"),
        ),
    ]
