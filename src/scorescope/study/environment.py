"""What a study was computed with: versions, processor, memory, device; nothing that names a person or a machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "numpy", "numba", "scipy", "pandas", "scikit-learn", "scikit-image", "faiss-cpu", "matplotlib")
GIB = 2**30


def environment(device: torch.device | str = "cpu") -> dict[str, str]:
    """Versions and hardware, as pairs that a report prints in this order.

    Args:
        device: where the networks ran.
    """
    import torch

    found = {
        "scorescope": version_of_package(),
        "Python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
        "processor": _processor(),
        "cores": str(_cores()),
        "threads used by torch": str(torch.get_num_threads()),
        "device": device_name(device),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.1f} GiB",
        "most memory used": f"{peak_memory() / GIB:.2f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }
    return {name: value for name, value in found.items() if value}


def version_of_package() -> str:
    """scorescope's version, with the commit where it runs from a git checkout, and a mark if that was edited."""
    version = _version("scorescope")
    commit = _git("rev-parse", "--short=12", "HEAD") if _git("ls-files", Path(__file__).name) else ""
    if not commit:
        return version
    edited = ", edited" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{version} (commit {commit}{edited})"


def device_name(device: torch.device | str) -> str:
    """The device as a reader knows it: "cpu", or the model of the accelerator."""
    import torch

    device = torch.device(device)
    if device.type == "cuda" and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def peak_memory() -> int:
    """The most memory this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cores() -> int:
    """Cores that this process may use, which is fewer than the machine has inside most containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
