"""``python -m benchmarks [posterior] [memory] …``: measure, print, and keep in ``benchmarks/results/``."""

from __future__ import annotations

import argparse

from benchmarks import harness, memory, posterior


def main() -> None:
    """Run the suites that are named, or all."""
    suites = {"posterior": posterior.rows}
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*suites, "memory", []], help="all by default")
    chosen = parser.parse_args().suites or [*suites, "memory"]
    machine = harness.Machine.measure()
    print(f"products {machine.flops / 1e9:.0f} Gflop/s, memory {machine.bytes_read / 1e9:.1f} GB/s\n")
    for name, rows in suites.items():
        if name in chosen:
            found = list(rows(machine))
            print(harness.table(name, found), flush=True)
            harness.save(name, machine, {name: found})
    if "memory" in chosen:
        lines = memory.table(list(memory.rows()))
        print(lines)
        (harness.RESULTS / "memory.md").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
