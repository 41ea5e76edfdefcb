"""``python -m benchmarks.claims OLD NEW``: are the claims of two versions the same, and decided in the same way?

OLD and NEW are folders with run folders in them, of the same names: every figure run twice, say with
``scorescope reproduce FIGURE --preset tiny --out OLD/FIGURE``. Of each pair the ``results.json`` are compared: sentence,
source, rule and verdict of each claim must be equal; numbers may differ by a tolerance, and what differs is listed. Exits with
1 if a claim was lost, came to be, or is decided differently.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMED = ("sentence", "source", "quantity")


def claims_in(folder: Path) -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
    """Run (its path below `folder`) -> claim (sentence, source, quantity) -> everything about it."""
    found = {}
    for path in sorted(folder.rglob("results.json")):
        claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
        found[str(path.parent.relative_to(folder))] = {tuple(one[key] for key in NAMED): one for one in claims}
    return found


def differences(old: dict[str, Any], new: dict[str, Any], tolerance: float) -> Iterator[tuple[bool, str]]:
    """(whether it changes what is said, what it is) for one claim of both versions."""
    if old["verdict"] != new["verdict"]:
        yield True, f"was {old['verdict']!r} ({_number(old)}), is {new['verdict']!r} ({_number(new)})"
    if _bounds(old) != _bounds(new):
        yield True, f"the rule was {_bounds(old)}, is {_bounds(new)}"
    before, now = old["value"], new["value"]
    if None not in (before, now) and not math.isclose(before, now, rel_tol=tolerance, abs_tol=1e-9):
        yield False, f"number was {before:.6g}, is {now:.6g}"


def compared(old: Path, new: Path, tolerance: float) -> tuple[list[str], bool]:
    """Lines to print, and whether everything is said as before."""
    before, now = claims_in(old), claims_in(new)
    lines, same, count, moved = [], True, 0, 0
    for run in sorted({*before, *now}):
        if run not in before or run not in now:
            lines.append(f"{run}: only in {old if run in before else new}")
            same = False
            continue
        for key in [*before[run], *(key for key in now[run] if key not in before[run])]:
            sentence = key[0]
            if key not in now[run] or key not in before[run]:
                lines.append(f"{run}: {'lost' if key in before[run] else 'new'}: {sentence} ({key[2]})")
                same = False
                continue
            count += 1
            for matters, said in differences(before[run][key], now[run][key], tolerance):
                lines.append(f"{run}: {sentence}: {said}")
                same, moved = same and not matters, moved + (not matters)
    runs = len({*before} & {*now})
    lines.append(
        f"{runs} runs and {count} claims in both; {moved} numbers differ by more than {tolerance:g};"
        f" {'all are decided as before' if same else 'NOT all are decided as before'}"
    )
    return lines, same


def _number(claim: dict[str, Any]) -> str:
    return "no number" if claim["value"] is None else f"{claim['value']:.4g}"


def _bounds(claim: dict[str, Any]) -> dict[str, float]:
    return {
        name: bound for name, bound in claim["rule"].items() if name not in ("words", "because") and bound is not None
    }


def main() -> None:
    """Compare the folders named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative, of numbers [default: 0.001]")
    asked = parser.parse_args()
    lines, same = compared(asked.old, asked.new, asked.tolerance)
    print("\n".join(lines))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
