"""Bytes read many at a time in compiled code: what makes a reader faster than a loop over bytes.

Numba has no vectors and no unaligned loads, so these functions are written for LLVM, which makes
of them what the machine has: an instruction each with AVX-512, a few with AVX2 or NEON. None of
them checks its place: who calls sees to it that all the bytes are there.

Source of the idea: Langdale and Lemire, "Parsing Gigabytes of JSON per Second" (2019).
"""

from collections.abc import Callable
from typing import Any

import numba.core.cgutils
import numba.extending
from llvmlite import ir

WIDTH = 64
"""Bytes that are looked at together: bits of a mask."""

# Numba's own types are partly those of Python's functions, which these are not.
types: Any = numba.types
cgutils: Any = numba.core.cgutils

_BYTES = ir.VectorType(ir.IntType(8), WIDTH)
_MASK = ir.IntType(WIDTH)


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to `WIDTH` bytes of an array from `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _BYTES.as_pointer())


def _all(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * WIDTH)


def _is_bytes(array: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.uint8 and array.layout == "C"


def _intrinsic(make: Callable[..., Any]) -> Any:
    """numba's decorator; what it makes is called with the arguments behind `typing`."""
    return numba.extending.intrinsic(make)


@_intrinsic
def lowest_bit(typing: Any, mask: Any) -> Any:
    """The place of the lowest bit that is set in a mask, 64 if none is: uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@_intrinsic
def high_zeros(typing: Any, mask: Any) -> Any:
    """How many bits above the highest one that is set, 64 if none is: uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@_intrinsic
def count_bits(typing: Any, mask: Any) -> Any:
    """How many bits of a mask are set: uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@_intrinsic
def find_lines(typing: Any, block: Any, i: Any) -> Any:
    """Looks for lines in the bytes `i` to `i + 63` of a block.

    Returns two masks, uint64, bit k for byte `i + k`: it is a line feed; it is neither that nor a
    carriage return, a space or a tab.
    """
    if not _is_bytes(block):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b = builder
        data = b.load(_place(context, b, signature.args[0], *args), align=1)
        feed, *others = (b.icmp_unsigned("==", data, _all(byte)) for byte in b"\n\r \t")
        blank = feed
        for other in others:
            blank = b.or_(blank, other)
        masks = [b.bitcast(mask, _MASK) for mask in (feed, b.not_(blank))]
        return cgutils.pack_array(b, masks)

    return types.UniTuple(types.uint64, 2)(block, types.uint64), generate


@_intrinsic
def scan_numbers(typing: Any, block: Any, i: Any, out: Any, n: Any) -> Any:
    """Looks at the bytes `i` to `i + 63` of a block as numbers of up to three digits.

    Writes 64 bytes to `out` (uint8) from `n` on: at k the number that ends right before byte
    `i + k`, modulo 256. Reads the three bytes before `i` too. Returns six masks, uint64, bit k
    for byte `i + k`: it is a digit, a comma, a space, a closing bracket, the digit 0; and the
    number that ends right before it is above 255.
    """
    if not (_is_bytes(block) and _is_bytes(out)):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block, i, out, n = args
        b = builder

        def load(back: int) -> Any:
            index = b.sub(i, ir.Constant(i.type, back))
            return b.load(_place(context, b, signature.args[0], block, index), align=1)

        def is_(data: Any, value: int) -> Any:
            return b.icmp_unsigned("==", data, _all(value))

        def digits(data: Any) -> tuple[Any, Any]:
            value = b.sub(data, _all(ord("0")))
            return value, b.icmp_unsigned("<=", value, _all(9))

        def ten_times(data: Any) -> Any:
            twice = b.add(data, data)
            four = b.add(twice, twice)
            return b.add(b.add(four, four), twice)

        here = load(0)
        _, is_digit = digits(here)
        ones, _ = digits(load(1))
        tens, has_tens = digits(load(2))
        hundreds, has_hundreds = digits(load(3))
        tens = b.select(has_tens, tens, _all(0))
        hundreds = b.select(b.and_(has_tens, has_hundreds), hundreds, _all(0))
        tens = b.add(ten_times(hundreds), tens)  # at most 99
        b.store(
            b.add(ten_times(tens), ones),
            _place(context, b, signature.args[2], out, n),
            align=1,
        )
        above = b.or_(
            b.icmp_unsigned(">", tens, _all(25)),
            b.and_(is_(tens, 25), b.icmp_unsigned(">", ones, _all(5))),
        )
        masks = [is_digit, is_(here, 44), is_(here, 32), is_(here, 93), is_(here, 48), above]
        return cgutils.pack_array(b, [b.bitcast(mask, _MASK) for mask in masks])

    return types.UniTuple(types.uint64, 6)(block, types.uint64, out, types.uint64), generate
