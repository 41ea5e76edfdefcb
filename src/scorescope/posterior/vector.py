"""Sixteen float32 lanes as one value inside compiled kernels: load, store, + − ×, maximum, exp.

The compiler does not vectorize short loops over arrays that might overlap, and window sums are made of nothing else. So
kernels say what they mean: a `Lanes` value is a vector register (or two, or four, where registers are narrower), and
arithmetic on it is one instruction a register. Places are counted in elements, and no bounds are checked.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


@nb.njit(nogil=True, cache=True)
def aligned(size):  # type: ignore[no-untyped-def]
    """Room for `size` float32 values that begins where a cache line does: a vector across two takes twice as long."""
    values = np.empty(size + LANES, dtype=np.float32)
    first = -values.ctypes.data % (LANES * 4) // 4
    return values[first : first + size]


class LanesType(types.Type):
    """Numba's type of 16 float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, front_end_type: Any) -> None:
        super().__init__(manager, front_end_type, _FLOATS)


def _constant(value: float) -> Any:
    return ir.Constant(_FLOATS, [float(np.float32(value))] * LANES)


def _whole(value: int) -> Any:
    return ir.Constant(_INTEGERS, [value] * LANES)


def _pointer(context: Any, builder: Any, vector: Any, array_type: Any, array: Any, place: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())


@intrinsic
def load(typing_context: Any, array: Any, place: Any) -> Any:
    """The 16 values of a contiguous float32 array from `place` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, _FLOATS, signature.args[0], *arguments), align=4)

    return lanes(array, types.intp), generate


@intrinsic
def load_bytes(typing_context: Any, array: Any, place: Any) -> Any:
    """The 16 values of a contiguous int8 array from `place` on, as floats."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), LANES)
        values = builder.load(_pointer(context, builder, vector, signature.args[0], *arguments), align=1)
        return builder.sitofp(builder.sext(values, _INTEGERS), _FLOATS)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, place: Any, value: Any) -> Any:
    """Write 16 values into a contiguous float32 array from `place` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_value, place_value, vector = arguments
        target = _pointer(context, builder, _FLOATS, signature.args[0], array_value, place_value)
        builder.store(vector, target, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def everywhere(typing_context: Any, value: Any) -> Any:
    """A float32 in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, first, _whole(0))

    return lanes(types.float32), generate


@intrinsic
def load_everywhere(typing_context: Any, array: Any, place: Any) -> Any:
    """One value of a contiguous float32 array in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_pointer(context, builder, ir.FloatType(), signature.args[0], *arguments), align=4)
        first = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, first, _whole(0))

    return lanes(array, types.intp), generate


@intrinsic
def largest_lane(typing_context: Any, value: Any) -> Any:
    """The largest of the 16 values; none may be NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function_type = ir.FunctionType(ir.FloatType(), [_FLOATS])
        name = f"llvm.vector.reduce.fmax.v{LANES}f32"
        reduce = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
        return builder.call(reduce, arguments, fastmath=("nnan",))

    return types.float32(lanes), generate


@intrinsic
def maximum(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger of two values in every lane; none may be NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _maximum(builder, *arguments)

    return lanes(lanes, lanes), generate


@intrinsic
def minimum(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller of two values in every lane; none may be NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_value, b_value = arguments
        return builder.select(builder.fcmp_ordered("<", a_value, b_value, flags=("nnan",)), a_value, b_value)

    return lanes(lanes, lanes), generate


@intrinsic
def multiply_add(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a·b + c``, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _multiply_add(builder, *arguments)

    return lanes(lanes, lanes, lanes), generate


@intrinsic
def exponential(typing_context: Any, value: Any) -> Any:
    """exp in every lane, within 1e-7; arguments at most 87, those below −87 give exp(−87), about 1e-38.

    ``exp(x) = 2^n exp(r)`` with n the integer nearest to ``x / ln 2`` and ``|r| ≤ ln 2 / 2``; exp(r) is a polynomial through
    Chebyshev points, and 2^n is made by writing n into the exponent bits.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = _maximum(builder, arguments[0], _constant(-87.0))
        # Adding 1.5 · 2²³ rounds to an integer and leaves it in the low bits of the float.
        rounded = _multiply_add(builder, x, _constant(1 / math.log(2)), _constant(1.5 * 2**23))
        n = builder.fsub(rounded, _constant(1.5 * 2**23))
        r = _multiply_add(builder, n, _constant(-_LN2_HIGH), x)
        r = _multiply_add(builder, n, _constant(-_LN2_LOW), r)
        power = _constant(_COEFFICIENTS[-1])
        for coefficient in _COEFFICIENTS[-2::-1]:
            power = _multiply_add(builder, r, power, _constant(coefficient))
        exponent = builder.shl(builder.bitcast(rounded, _INTEGERS), _whole(23))
        return builder.fmul(power, builder.bitcast(builder.add(exponent, _whole(127 << 23)), _FLOATS))

    return lanes(lanes), generate


@intrinsic
def logarithm(typing_context: Any, value: Any) -> Any:
    """ln in every lane, within 1e-6 of itself or of 1, for positive normal numbers.

    ``ln x = e ln 2 + ln m`` with e an integer and m from √½ to √2, both read from the bits of x; ln m is (m − 1) times a
    polynomial through Chebyshev points.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], _INTEGERS)
        exponent = builder.ashr(builder.sub(bits, _whole(_ROOT_HALF)), _whole(23))
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, _whole(23))), _FLOATS)
        rest = builder.fsub(mantissa, _constant(1.0))
        power = _constant(_LOGARITHM[-1])
        for coefficient in _LOGARITHM[-2::-1]:
            power = _multiply_add(builder, rest, power, _constant(coefficient))
        whole = builder.fmul(builder.sitofp(exponent, _FLOATS), _constant(math.log(2)))
        return _multiply_add(builder, rest, power, whole)

    return lanes(lanes), generate


@intrinsic
def add_to_sum(typing_context: Any, total: Any, ratio: Any, gap: Any) -> Any:
    """A running sum of exponentials after one more: ``total·ratio + 1`` where gap > 0, else ``total + ratio``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total_value, ratio_value, gap_value = arguments
        one, above = _constant(1.0), builder.fcmp_ordered(">", gap_value, _constant(0.0))
        factor, term = builder.select(above, ratio_value, one), builder.select(above, one, ratio_value)
        return _multiply_add(builder, total_value, factor, term)

    return lanes(lanes, lanes, lanes), generate


def _maximum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b, flags=("nnan",)), a, b)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    name = f"llvm.fma.v{LANES}f32"
    fused = builder.module.globals.get(name)
    if fused is None:
        fused = ir.Function(builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), name)
    return builder.call(fused, (a, b, c))


def _arithmetic(instruction: str) -> Any:
    @intrinsic
    def apply(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return lanes(lanes, lanes), generate

    return apply


_add, _subtract, _multiply = (_arithmetic(name) for name in ("fadd", "fsub", "fmul"))


# Numba compares the argument lists of overload and implementation, annotations included, so there are none.
@overload(operator.add)
def _lanes_add(a, b):  # type: ignore[no-untyped-def]
    return (lambda a, b: _add(a, b)) if a is lanes and b is lanes else None


@overload(operator.sub)
def _lanes_subtract(a, b):  # type: ignore[no-untyped-def]
    return (lambda a, b: _subtract(a, b)) if a is lanes and b is lanes else None


@overload(operator.mul)
def _lanes_multiply(a, b):  # type: ignore[no-untyped-def]
    return (lambda a, b: _multiply(a, b)) if a is lanes and b is lanes else None


def _exponential_coefficients(degree: int) -> list[float]:
    half = math.log(2) / 2
    fitted = np.polynomial.Chebyshev.interpolate(np.exp, degree, domain=[-half, half])
    return [float(c) for c in fitted.convert(kind=np.polynomial.Polynomial).coef]


def _logarithm_coefficients(degree: int) -> list[float]:
    """Of ``ln(1 + r)/r`` for 1 + r from √½ to √2."""
    fitted = np.polynomial.Chebyshev.interpolate(
        lambda r: np.log1p(r) / np.where(r == 0, 1, r) + (r == 0), degree, domain=[0.5**0.5 - 1, 2**0.5 - 1]
    )
    return [float(c) for c in fitted.convert(kind=np.polynomial.Polynomial).coef]


_LOGARITHM = _logarithm_coefficients(9)
_ROOT_HALF = int(np.float32(0.5**0.5).view(np.int32))
_COEFFICIENTS = _exponential_coefficients(6)
# ln 2 in two parts, the first with few bits, so that n · ln 2 is exact in float32.
_LN2_HIGH = round(math.log(2) * 2**12) / 2**12
_LN2_LOW = math.log(2) - _LN2_HIGH
