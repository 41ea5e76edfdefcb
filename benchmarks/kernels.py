"""What the device's kernels need of an H100, found by compiling them for one: no card is needed.

Registers beyond 255 go to the stack, which is slow memory; shared memory and registers bound how many programs run side by side
on a multiprocessor. The table says for which shapes the kernel of `posterior.device.attention` stays within them.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile

from benchmarks.harness import RESULTS

KEPT = (16, 32, 64, 128, 256)
ROWS = (16, 64)
_POINTERS = {
    "int8": ("images", "nearest"),
    "int32": ("places", "sizes", "kept", "nearest_norm", "base"),
    "float16": ("high", "low"),
    "float32": ("unit", "scale", "largest", "total", "values"),
}
_SHORT = {"int8": "*i8", "int32": "*i32", "float16": "*fp16", "float32": "*fp32"}


def keep() -> str:
    """Compile in a process of its own; the table, which is also written into ``results/``."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: no kernel was compiled"
    done = subprocess.run([sys.executable, "-m", "benchmarks.kernels"], capture_output=True, text=True, check=True)
    (RESULTS / "kernels.md").write_text(done.stdout, encoding="utf-8")
    return done.stdout


def _compiled(rows: int, kept: int) -> tuple[int, int, int, int, str]:
    """Warps, registers, bytes of stack, bytes of shared memory, and the matrix instructions used."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from scorescope.posterior.device import attention
    from scorescope.posterior.device.attention_kernel import attend

    sizes = {"ROWS": rows, "IMAGES": attention._IMAGES, "TERMS": attention._TERMS, "KEPT": kept}
    names = list(attend.arg_names)
    signature = dict.fromkeys(names, "i32") | dict.fromkeys(sizes, "constexpr")
    signature |= {name: _SHORT[kind] for kind, those in _POINTERS.items() for name in those}
    aligned = [*(name for those in _POINTERS.values() for name in those), "batch", "width", "kept_width"]
    source = ASTSource(
        attend,
        signature,
        {(names.index(name),): size for name, size in sizes.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    warps = attention.tile(kept, rows)[1]
    options = {"num_warps": warps, "num_stages": 2}
    kernel = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))  # type: ignore[index]
    found = re.findall(r"(wgmma\.mma_async|mma)\.sync[\w.]*?\.(s8|f16)\b", kernel.asm["ptx"])
    return warps, registers, stack, kernel.metadata.shared, ", ".join(sorted({f"{a} {b}" for a, b in found}))


def _table() -> str:
    import triton

    from scorescope.posterior.device import attention

    lines = [
        "# kernels",
        "",
        f"`posterior.device.attention_kernel.attend`, compiled for sm_90 by Triton {triton.__version__} without a card.",
        "",
        "| noisy images | values kept | warps | registers | stack | shared memory | matrix units |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for rows in ROWS:
        for kept in sorted({attention.tile(kept, rows)[0] for kept in KEPT}):
            warps, registers, stack, shared, used = _compiled(rows, kept)
            lines.append(
                f"| {rows} | {kept} | {warps} | {registers} | {stack} bytes | {shared / 1024:.0f} KiB | {used} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(_table())
