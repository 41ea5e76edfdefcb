"""What the device's kernels need of an H100, found by compiling them for one: no card is needed.

Registers beyond 255 go to the stack, which is slow memory; shared memory and registers bound how many programs run side by side
on a multiprocessor. The table says for which shapes the kernels of `posterior.device` stay within them.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.harness import RESULTS

KEPT = (16, 32, 64, 128, 256)
ROWS = (16, 64)
_KINDS = {
    "int8": ("images", "nearest", "digits", "members"),
    "int32": ("places", "sizes", "kept", "nearest_norm", "base", "shifts", "order", "found", "blocks"),
    "float16": ("high", "low"),
    "float32": ("unit", "scale", "largest", "total", "values", "logits"),
    "float64": ("norms", "tops", "floor", "sums"),
}
_MODULES = {"attend": "attention_kernel", "attend_masks": "dense_kernel"}
# What has another type in the kernels of two passes than in the others.
_IN_TWO_PASSES = dict.fromkeys(("unit", "scale", "largest"), "float64")
_SHORT = {"int8": "*i8", "int32": "*i32", "float16": "*fp16", "float32": "*fp32", "float64": "*fp64"}
# Sizes that are multiples of 16 as they are used; of images too, at 3 × 32 × 32.
_ALIGNED = ("batch", "width", "kept_width", "stride", "rows")


@dataclass(frozen=True)
class Case:
    """One kernel in one shape.

    Attributes:
        name: of the kernel.
        shape: of the table's line.
        constants: compile-time arguments.
        warps: of a program.
        stages: of loads that run ahead.
        ones: arguments that are 1, which Triton compiles for anew.
    """

    name: str
    shape: str
    constants: dict[str, Any]
    warps: int
    stages: int
    ones: tuple[str, ...] = ()


def keep() -> str:
    """Compile in a process of its own; the table, which is also written into ``results/``."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: no kernel was compiled"
    done = subprocess.run([sys.executable, "-m", "benchmarks.kernels"], capture_output=True, text=True, check=True)
    (RESULTS / "kernels.md").write_text(done.stdout, encoding="utf-8")
    return done.stdout


def cases() -> Iterator[Case]:
    """Every shape that `posterior.device` launches on a large device."""
    from scorescope.posterior.device import attention, dense, two_passes

    sizes = {"IMAGES": attention._IMAGES, "TERMS": attention._TERMS}
    for rows in ROWS:
        for kept in sorted({attention.tile(kept, rows)[0] for kept in KEPT}):
            constants = {"ROWS": rows, "KEPT": kept, "SHIFTED": False} | sizes
            yield Case(
                "attend", f"{rows} noisy images, {kept} values kept", constants, attention.tile(kept, rows)[1], 2
            )
    moved = {"ROWS": 64, "KEPT": 16, "SHIFTED": True} | sizes
    yield Case("attend", "64 windows from every place, 16 values kept", moved, attention.tile(16, 64)[1], 2)
    tiles = {"ROWS": dense._ROWS, "IMAGES": dense._IMAGES, "TERMS": dense._TERMS}
    for said, ones in (("16 noisy images", ()), ("one noisy image", ("batch",))):
        yield Case("attend_masks", f"dense masks, {said}", tiles, dense._WARPS, 2, ones)
    for part, what in enumerate(("whole images", "parts")):
        images, terms, kept = two_passes._IMAGES[part], two_passes._TERMS[part], two_passes._KEPT[part]
        for rows in ROWS:
            constants = {"WHOLE": not part, "ROWS": rows}
            shape, stages = f"{what}, {rows} noisy images", 2 if part else 3
            yield Case("score", shape, constants | {"IMAGES": images, "TERMS": terms}, two_passes._WARPS, stages)
            for moments in (False,) if part else (False, True):
                pieces = two_passes.PIECES[part]
                more = {"KEPT": kept, "MOMENTS": moments, "IMAGES": images // pieces, "PIECES": pieces}
                said = shape + (", with moments" if moments else "")
                yield Case("average", said, constants | more, two_passes._WARPS, 2)
    for rows in ROWS:
        tiles = {"ROWS": rows, "IMAGES": two_passes._IMAGES[0], "KEPT": two_passes._KEPT[0]}
        yield Case("combine", f"whole images, {rows} rows of weights", tiles, two_passes._WARPS, 2)
    yield Case("select", "64 noisy images", {"ROWS": 64, "BLOCK": two_passes._BLOCK}, two_passes._WARPS, 3)


def smallest(case: Case) -> Case:
    """The same for one training image of one value, in one range."""
    ones = ("stride", "across", "most", *case.ones)  # counts and splits are not specialized
    return replace(case, shape=f"{case.shape}, one training image of one value", ones=ones)


def compiled(case: Case) -> tuple[int, int, int, str]:
    """Registers, bytes of stack, bytes of shared memory, and the matrix instructions used."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = _MODULES.get(case.name, "two_pass_kernels")
    kernel = getattr(importlib.import_module(f"scorescope.posterior.device.{module}"), case.name)
    types = {name: kind for kind, those in _KINDS.items() for name in those}
    if case.name not in _MODULES:
        types |= _IN_TWO_PASSES
    absent = ("places", "sizes", "kept") if case.constants.get("WHOLE") else ()
    constants = case.constants | dict.fromkeys(absent) | dict.fromkeys(case.ones, 1)
    names = list(kernel.arg_names)
    signature = {name: _SHORT[types[name]] if name in types else "i32" for name in names}
    signature |= dict.fromkeys((name for name in constants if name in names), "constexpr")
    aligned = [
        name for name in names if signature[name].startswith("*") or (name in _ALIGNED and name not in constants)
    ]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items() if name in names},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": case.warps, "num_stages": case.stages, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))  # type: ignore[index]
    found = re.findall(r"(wgmma\.mma_async|mma)\.sync[\w.]*?\.(s8|f16)\b", made.asm["ptx"])
    return registers, stack, made.metadata.shared, ", ".join(sorted({f"{a} {b}" for a, b in found}))


def _table() -> str:
    import triton

    lines = [
        "# kernels",
        "",
        f"The kernels of `posterior.device`, compiled for sm_90 by Triton {triton.__version__} without a card: `attend` in",
        "`attention_kernel`, `attend_masks` in `dense_kernel`, the others in `two_pass_kernels`. What they take on a card is",
        "in no file yet (`docs/device.md`).",
        "",
        "| kernel | shape | warps | registers | stack | shared memory | matrix units |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for case in cases():
        registers, stack, shared, used = compiled(case)
        counts = f"{case.warps} | {registers} | {stack} bytes | {shared / 1024:.0f} KiB"
        lines.append(f"| `{case.name}` | {case.shape} | {counts} | {used} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(_table())
