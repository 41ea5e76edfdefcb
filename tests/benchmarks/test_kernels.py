"""The kernels of a device compile for an H100 without one, also for one training image, where arguments become constants."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

COMPILE = """
from benchmarks import kernels
kinds = {(case.name, case.constants.get("WHOLE"), case.constants.get("SHIFTED")): case for case in kernels.cases()}
for case in kinds.values():
    for word, one in (("many", case), ("one", kernels.smallest(case))):
        registers, stack, shared, _ = kernels.compiled(one)
        print(one.name, registers, stack, shared, word)
"""


@pytest.mark.exhaustive
def test_kernels_compile_for_many_images_and_for_one():
    # Not under the interpreter, which the tests around this one run kernels with.
    own = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=own, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {line[0] for line in lines} == {"attend", "attend_masks", "score", "select", "average", "combine"}
    assert len(lines) == 18
    for _, registers, stack, shared, images in lines:
        assert int(registers) <= 255
        assert int(stack) <= (64 if images == "many" else 256)  # one image takes no time, whatever is spilled
        assert int(shared) <= 227 * 1024
