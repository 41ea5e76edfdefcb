"""Register tiles of exact products: words of 16 bits times bytes, summed in 32 bits, spelled out for the compiler.

Every processor's vector unit multiplies words of 16 bits in pairs and adds each pair into 32 bits, one instruction for
twice as many products as a float32 instruction makes. A tile keeps a few rows times a few columns of sums in registers
while the terms go by. Two kinds: both factors lie along the terms (`along_rows`), or the second lies across them and was
packed into pairs of terms first (`along_columns`, `pack_pairs`). No bounds are checked, places are counted in elements.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

_FEATURES = set((config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()).split(","))
# Words in a vector register.
WORDS = 32 if "+avx512bw" in _FEATURES else 16
# Sums of 32 bits in a vector register: one for each pair of words.
PAIRS = WORDS // 2
_PAIR_PRODUCT = (
    {32: "llvm.x86.avx512.pmaddw.d.512", 16: "llvm.x86.avx2.pmadd.wd"}[WORDS] if "+avx2" in _FEATURES else ""
)

_BYTE, _WORD, _SUM = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_WORDS, _SUMS = ir.VectorType(_WORD, WORDS), ir.VectorType(_SUM, PAIRS)
_NO_SUMS = ir.Constant(_SUMS, [0] * PAIRS)


def along_rows(rows: int, columns: int) -> Any:
    """Make the tile ``target[r, c] = Σ_t a[r, t] · b[c, t]`` over whole vectors of terms.

    The compiled function takes (a int16, place, pitch), (b int8, place, pitch), the number of vectors of `WORDS` terms,
    and (target int32, place, pitch): flat arrays, where the tile begins in them, how far rows are apart.
    """

    @intrinsic
    def tile(typing_context: Any, a: Any, b: Any, vectors: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            first, second, goal = (_Matrix(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 3))
            totals = [[cgutils.alloca_once_value(builder, _NO_SUMS) for _ in range(columns)] for _ in range(rows)]
            with cgutils.for_range(builder, arguments[2]) as loop:
                term = builder.mul(loop.index, ir.Constant(loop.index.type, WORDS))
                bytes_ = ir.VectorType(_BYTE, WORDS)
                others = [builder.sext(second.load(column, term, bytes_), _WORDS) for column in range(columns)]
                for row in range(rows):
                    own = first.load(row, term, _WORDS)
                    for total, other in zip(totals[row], others, strict=True):
                        builder.store(builder.add(builder.load(total), _pair_products(builder, own, other)), total)
            for row in range(rows):
                for column in range(columns):
                    goal.store(row, column, _sum_of(builder, builder.load(totals[row][column])))
            return context.get_dummy_value()

        return types.void(a, b, vectors, target), generate

    return tile


def along_columns(rows: int, columns: int) -> Any:
    """Make the tile ``target[r, c] += Σ_t a[r, t] · b[t, c]``, c over `columns` vectors of `PAIRS` values.

    The compiled function takes (a int16, place, pitch), (pairs int16, place, pitch from one pair of terms to the next) as
    `pack_pairs` writes them, the number of pairs, and (target int32, place, pitch).
    """

    @intrinsic
    def tile(typing_context: Any, a: Any, b: Any, pairs: Any, target: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            first, second, goal = (_Matrix(context, builder, signature.args[k], arguments[k]) for k in (0, 1, 3))
            totals = [
                [cgutils.alloca_once_value(builder, goal.load(row, column * PAIRS, _SUMS)) for column in range(columns)]
                for row in range(rows)
            ]
            with cgutils.for_range(builder, arguments[2]) as loop:
                term = builder.mul(loop.index, ir.Constant(loop.index.type, 2))
                place = builder.mul(loop.index, second.pitch)
                others = [
                    second.load(0, builder.add(place, place.type(column * WORDS)), _WORDS) for column in range(columns)
                ]
                for row in range(rows):
                    own = builder.bitcast(_everywhere(builder, first.load(row, term, _SUM)), _WORDS)
                    for total, other in zip(totals[row], others, strict=True):
                        builder.store(builder.add(builder.load(total), _pair_products(builder, own, other)), total)
            for row in range(rows):
                for column in range(columns):
                    goal.store(row, column * PAIRS, builder.load(totals[row][column]))
            return context.get_dummy_value()

        return types.void(a, b, pairs, target), generate

    return tile


@intrinsic
def pack_pairs(typing_context: Any, source: Any, one: Any, other: Any, target: Any, place: Any) -> Any:
    """Write `PAIRS` bytes from `one` on and as many from `other` on as words, by turns, into target from `place` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bytes_ = ir.VectorType(_BYTE, PAIRS)
        a, b = (
            builder.load(_pointer(context, builder, signature.args[0], arguments[0], arguments[k], bytes_), align=1)
            for k in (1, 2)
        )
        turns = [turn for lane in range(PAIRS) for turn in (lane, PAIRS + lane)]
        mixed = builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_SUM, WORDS), turns))
        goal = _pointer(context, builder, signature.args[3], arguments[3], arguments[4], _WORDS)
        builder.store(builder.sext(mixed, _WORDS), goal, align=2)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp), generate


class _Matrix:
    """A tuple (flat array, place, pitch) inside generated code."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self.context, self.builder, self.kind = context, builder, kind[0]
        self.array, self.place, self.pitch = (builder.extract_value(value, k) for k in range(3))

    def _at(self, row: int, column: Any, kind: Any) -> Any:
        if isinstance(column, int):
            column = self.pitch.type(column)
        start = self.builder.add(self.place, self.builder.mul(self.pitch, self.pitch.type(row)))
        place = self.builder.add(start, column)
        return _pointer(self.context, self.builder, self.kind, self.array, place, kind)

    def load(self, row: int, column: Any, kind: Any) -> Any:
        return self.builder.load(self._at(row, column, kind), align=1)

    def store(self, row: int, column: int, value: Any) -> None:
        self.builder.store(value, self._at(row, column, value.type), align=4)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, place: Any, kind: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


def _everywhere(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), value, ir.Constant(_SUM, 0))
    return builder.shuffle_vector(first, first, _NO_SUMS)


def _pair_products(builder: Any, a: Any, b: Any) -> Any:
    """``a[2k]·b[2k] + a[2k+1]·b[2k+1]``: one instruction on x86, which the compiler does not find by itself."""
    if _PAIR_PRODUCT:
        return builder.call(_declared(builder, _PAIR_PRODUCT, _SUMS, [_WORDS, _WORDS]), (a, b))
    wide = ir.VectorType(_SUM, WORDS)
    products = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    even, odd = (ir.Constant(_SUMS, list(range(first, WORDS, 2))) for first in (0, 1))
    return builder.add(
        builder.shuffle_vector(products, products, even), builder.shuffle_vector(products, products, odd)
    )


def _sum_of(builder: Any, sums: Any) -> Any:
    return builder.call(_declared(builder, f"llvm.vector.reduce.add.v{PAIRS}i32", _SUM, [_SUMS]), (sums,))


def _declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, arguments), name)
