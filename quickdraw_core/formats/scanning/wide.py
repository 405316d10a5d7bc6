"""Bytes read many at a time in compiled code: what makes a reader faster than a loop over bytes.

Numba has no vectors and no unaligned loads, so these functions are written for LLVM, which makes
of them what the machine has: an instruction each with AVX-512, a few with AVX2 or NEON. None of
them checks its place: who calls sees to it that all the bytes are there.

Source of the idea: Langdale and Lemire, "Parsing Gigabytes of JSON per Second" (2019).
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba.core.cgutils
import numba.core.codegen
import numba.core.config
import numba.extending
from llvmlite import ir

WIDTH = 64
"""Bytes that are looked at together: bits of a mask."""

# Numba's own types are partly those of Python's functions, which these are not.
types: Any = numba.types
cgutils: Any = numba.core.cgutils
codegen: Any = numba.core.codegen
config: Any = numba.core.config

_BYTES = ir.VectorType(ir.IntType(8), WIDTH)
_MASK = ir.IntType(WIDTH)
_FLAGS = ir.VectorType(ir.IntType(1), WIDTH)

AHEAD_BYTES = 1024
"""So far ahead memory is asked for: a reader passes over a byte faster than a shared machine may
bring the next one.
"""


def _compresses() -> bool:
    named = config.CPU_FEATURES  # of another processor than this one
    features = codegen.get_host_cpu_features() if named is None else named
    # The operation is one of LLVM's since its version 19.
    return "+avx512vbmi2" in features and llvmlite.binding.llvm_version_info[0] >= 19


COMPRESSES = _compresses()
"""Whether one instruction moves the marked bytes of 64 to their front (AVX-512 VBMI2). Where LLVM
has to make it of others it takes longer than moving them one by one.
"""


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


def _prefetch(context: Any, builder: Any, array_type: Any, array: Any, i: Any) -> None:
    """Asks for the byte `AHEAD_BYTES` behind `i`, which may lie outside the array."""
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
    data = context.make_array(array_type)(context, builder, array).data
    place = builder.gep(data, [builder.add(i, ir.Constant(i.type, AHEAD_BYTES))])
    to_read, keep, of_data = (ir.Constant(number, value) for value in (0, 3, 1))
    builder.call(function, [place, to_read, keep, of_data])


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
        _prefetch(context, b, signature.args[0], *args)
        data = b.load(_place(context, b, signature.args[0], *args), align=1)
        feed, *others = (b.icmp_unsigned("==", data, _all(byte)) for byte in b"\n\r \t")
        blank = feed
        for other in others:
            blank = b.or_(blank, other)
        masks = [b.bitcast(mask, _MASK) for mask in (feed, b.not_(blank))]
        return cgutils.pack_array(b, masks)

    return types.UniTuple(types.uint64, 2)(block, types.uint64), generate


def _digits(builder: Any, data: Any) -> tuple[Any, Any]:
    value = builder.sub(data, _all(ord("0")))
    return value, builder.icmp_unsigned("<=", value, _all(9))


def _ten_times(builder: Any, data: Any) -> Any:
    twice = builder.add(data, data)
    four = builder.add(twice, twice)
    return builder.add(builder.add(four, four), twice)


def _numbers(context: Any, builder: Any, array_type: Any, block: Any, i: Any) -> tuple[Any, Any]:
    """Tens, at most 99, and ones of the number that ends right before each of 64 bytes. Where a
    function asks for them twice with no store between, LLVM computes them once.
    """
    b = builder

    def load(back: int) -> Any:
        index = b.sub(i, ir.Constant(i.type, back))
        return b.load(_place(context, b, array_type, block, index), align=1)

    ones, _ = _digits(b, load(1))
    tens, has_tens = _digits(b, load(2))
    hundreds, has_hundreds = _digits(b, load(3))
    tens = b.select(has_tens, tens, _all(0))
    hundreds = b.select(b.and_(has_tens, has_hundreds), hundreds, _all(0))
    return b.add(_ten_times(b, hundreds), tens), ones


@_intrinsic
def scan_numbers(typing: Any, block: Any, i: Any) -> Any:
    """Looks at the bytes `i` to `i + 63` of a block as numbers of up to three digits.

    Reads the three bytes before `i` too. Returns six masks, uint64, bit k for byte `i + k`: it is
    a digit, a comma, a space, a closing bracket, the digit 0; and the number that ends right
    before it is above 255.
    """
    if not _is_bytes(block):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, array_type = builder, signature.args[0]
        block, i = args
        _prefetch(context, b, array_type, block, i)
        here = b.load(_place(context, b, array_type, block, i), align=1)
        tens, ones = _numbers(context, b, array_type, block, i)

        def is_(data: Any, value: int) -> Any:
            return b.icmp_unsigned("==", data, _all(value))

        above = b.or_(
            b.icmp_unsigned(">", tens, _all(25)),
            b.and_(is_(tens, 25), b.icmp_unsigned(">", ones, _all(5))),
        )
        _, is_digit = _digits(b, here)
        masks = [is_digit, is_(here, 44), is_(here, 32), is_(here, 93), is_(here, 48), above]
        return cgutils.pack_array(b, [b.bitcast(mask, _MASK) for mask in masks])

    return types.UniTuple(types.uint64, 6)(block, types.uint64), generate


@_intrinsic
def write_numbers(typing: Any, block: Any, i: Any, out: Any, n: Any, ends: Any) -> Any:
    """Writes 64 bytes to `out` (uint8) from `n` on, of the numbers that end right before the bytes
    `i` to `i + 63` of a block, modulo 256.

    If the machine `COMPRESSES`: those whose bit is set in the mask `ends`, in their order, and
    behind them anything. Else: all of them, at k the one before byte `i + k`.
    """
    if not (_is_bytes(block) and _is_bytes(out)):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b = builder
        block, i, out, n, ends = args
        tens, ones = _numbers(context, b, signature.args[0], block, i)
        values = b.add(_ten_times(b, tens), ones)
        if COMPRESSES:
            name = f"llvm.experimental.vector.compress.v{WIDTH}i8"
            kind = ir.FunctionType(_BYTES, [_BYTES, _FLAGS, _BYTES])
            function = cgutils.get_or_insert_function(b.module, kind, name)
            anything = ir.Constant(_BYTES, ir.Undefined)
            values = b.call(function, [values, b.bitcast(ends, _FLAGS), anything])
        b.store(values, _place(context, b, signature.args[2], out, n), align=1)
        return context.get_dummy_value()

    return types.void(block, types.uint64, out, types.uint64, types.uint64), generate
