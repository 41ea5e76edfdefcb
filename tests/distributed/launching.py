"""Start jobs of several processes as a person would, with torchrun, and see what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SECONDS = 240


def torchrun(
    processes: int, words: Sequence[object], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``torchrun … WORDS`` with one thread a process; `words` begin with ``-m MODULE`` or a script."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [*launcher, *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def own_lines(text: str) -> list[str]:
    """What scorescope itself said, among all that a launcher and its libraries say."""
    return [line for line in text.splitlines() if line.startswith("scorescope: ")]


def here(name: str) -> Path:
    """A file beside this one."""
    return Path(__file__).with_name(name)
