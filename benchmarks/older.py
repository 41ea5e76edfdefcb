"""The posterior engine as an older processor of this speed would run it: instructions since 2013 are left out.

Variables that PyTorch, its libraries and Numba read when they start make them use AVX2 and nothing newer. They stand in for
a processor that has nothing newer (Intel before 2017 or in laptops to 2021, AMD before Zen 4); clock, caches and memory are
this machine's. What an Arm processor does is not measured. ``python -m benchmarks.older whole-image`` takes a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks import harness, posterior

SUITES = {"posterior": posterior.rows, "whole-image": posterior.whole_images}
_FEATURES = (
    "64bit adx aes avx avx2 bmi bmi2 cmov crc32 cx16 cx8 f16c fma fsgsbase fxsr lzcnt mmx movbe pclmul popcnt prfchw"
)
_MORE = "rdrnd rdseed sahf sse sse2 sse3 sse4.1 sse4.2 ssse3 xsave xsavec xsaveopt xsaves"
ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in f"{_FEATURES} {_MORE}".split()),
}


def keep(suite: str = "posterior") -> str:
    """Measure in a process of its own; the table, which is also written into ``results/``."""
    call = [sys.executable, "-m", "benchmarks.older", suite]
    done = subprocess.run(call, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the run without newer instructions failed:\n{done.stderr}")
    return done.stdout


def _measure(suite: str) -> None:
    machine, name = harness.Machine.measure(), f"{suite}-avx2"
    found = list(SUITES[suite](machine))
    variables = ", ".join(f"{key}={value}" for key, value in ENVIRONMENT.items() if key != "NUMBA_CPU_FEATURES")
    told = f"stands in for an older processor: {variables} and NUMBA_CPU_FEATURES without AVX-512"
    notes = [told, *posterior.notes()]
    harness.save(name, machine, {name: found}, notes)
    print(harness.table(name, found), *notes, sep="\n")


if __name__ == "__main__":
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":
        _measure(sys.argv[1])
    else:
        print(keep(*sys.argv[1:]))
