"""Where networks can run: the device that a word names, and in words what devices there are."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scorescope.foundation.errors import UserError

if TYPE_CHECKING:
    import torch

_WORD = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")


def check_device(name: str) -> None:
    """Raise UserError if no device can be called `name` here, as far as that is known without importing PyTorch."""
    found = _WORD.fullmatch(name)
    if found is None or not _may_be_here(found[1]):
        raise UserError(_unusable(name))


def available_device(name: torch.device | str) -> torch.device:
    """The device called `name`. Raises UserError if there is no such device here, or no device is called that."""
    import torch

    check_device(str(name))
    try:
        device = torch.device(name)
        torch.empty(1, device=device).add(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).strip().partition("\n")[0].split())
        raise UserError(_unusable(str(name), reason)) from error
    return device


def made_current(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """While this is open, a CUDA device is the current one: Triton launches on that, wherever its arguments are."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _unusable(name: str, reason: str = "") -> str:
    because = f" ({reason})" if reason else ""
    return f"the device {name!r} cannot be used{because}: choose with --device of what is here, {', '.join(_present())}"


def _present() -> list[str]:
    """The devices that are here, by name. PyTorch is imported only if it was built for another than the processor."""
    found = ["cpu"]
    if any(_may_be_here(kind) for kind in ("cuda", "xpu", "mps")):
        import torch

        found += [f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in range(torch.cuda.device_count())]
        found += [f"xpu:{index}" for index in range(torch.xpu.device_count())]
        found += ["mps"] if torch.backends.mps.is_available() else []
    return found


def _may_be_here(kind: str) -> bool:
    """Whether the PyTorch that is installed was built for a kind of device; whether there is one, only PyTorch knows."""
    if kind in ("cpu", "mps"):
        return kind == "cpu" or sys.platform == "darwin"
    spec = importlib.util.find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec and spec.origin else Path()
    if not version.is_file():
        return True
    lines = re.findall(r"^(cuda|hip|xpu)\b.*= *(.+)$", version.read_text(encoding="utf-8"), re.MULTILINE)
    built_for = {"cuda" if name == "hip" else name for name, value in lines if value.strip() != "None"}
    return kind in built_for
