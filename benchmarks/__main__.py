"""``python -m benchmarks [SUITE …]``: measure, print, and keep in ``benchmarks/results/``."""

from __future__ import annotations

import argparse

from benchmarks import (
    attribution,
    audit,
    audit_costs,
    audit_networks,
    device,
    harness,
    jacobian,
    kernels,
    memory,
    older,
    posterior,
    sensitivity,
    sharding,
    training,
    variance,
)

# Suites of rows that are timed in this process, and suites that start processes or write tables of their own.
ROWS = {
    "whole-image": posterior.whole_images,
    "posterior": posterior.rows,
    "sensitivity": sensitivity.rows,
    "jacobian": jacobian.rows,
    "variance": variance.rows,
    "training": training.rows,
}
OWN = {
    "attribution": attribution.keep,
    "audit": audit.keep,
    "audit-costs": audit_costs.keep,
    "audit-networks": audit_networks.keep,
    "older": older.keep,
    "memory": memory.keep,
    "sharding": sharding.keep,
    "device": device.keep,
    "device-rehearsal": device.rehearse,
    "kernels": kernels.keep,
}
# What is measured by another suite, or not at all.
LEFT_OUT = ("whole-image", "device-rehearsal")


def main() -> None:
    """Run the suites that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "suites",
        nargs="*",
        metavar="SUITE",
        help=f"of {', '.join([*ROWS, *OWN])}; all by default (whole-image is part of posterior) but the rehearsal",
    )
    chosen = parser.parse_args().suites or [name for name in [*ROWS, *OWN] if name not in LEFT_OUT]
    unknown = [name for name in chosen if name not in {**ROWS, **OWN}]
    if unknown:
        parser.error(f"there is no suite {unknown[0]!r}: choose of {', '.join([*ROWS, *OWN])}")
    machine = harness.Machine.measure()
    print(f"products {machine.flops / 1e9:.0f} Gflop/s, memory {machine.bytes_read / 1e9:.1f} GB/s\n")
    for name, rows in ROWS.items():
        if name in chosen:
            found = list(rows(machine))
            print(harness.table(name, found), flush=True)
            notes = posterior.notes() if name in ("posterior", "whole-image") else []
            print("\n".join(notes), flush=True)
            harness.save(name, machine, {name: found}, notes)
    for name, keep in OWN.items():
        if name in chosen:
            print(keep(), flush=True)


if __name__ == "__main__":
    main()
