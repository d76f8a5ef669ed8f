"""From features as a network gives them to numbers that may be stored."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mvp.errors import DataError
from mvp.types import FloatArray

_HALF_EXPONENT = np.uint16(0x7C00)
# Sign, exponent and fraction of a half, shifted to where a single has them; what is then missing is
# the difference between the offsets of both exponents, 127 - 15.
_WIDE_BITS = np.uint32(0x8FFFE000).view(np.int32)
_WIDE_SCALE = np.float32(2.0**112)
_WIDENED = 1 << 16


def finite_rows(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(row,) whether all numbers of a row are finite."""
    if all_finite(values):
        return np.ones(len(values), dtype=bool)
    return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))


def all_finite(values: NDArray[np.floating]) -> bool:
    """Whether all numbers are finite, told at the speed of memory where they are."""
    if values.dtype == np.float32 and values.flags.c_contiguous:
        flat = values.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            # One product over everything: NaN and inf stay, whatever they are added to. A sum
            # that overflows says nothing, and every number is looked at.
            if np.isfinite(np.dot(flat, flat)):
                return True
    if values.dtype == np.float16:
        # By its exponent: NumPy looks at halves one by one, ten times slower than at integers.
        bits = np.ascontiguousarray(values).view(np.uint16)
        return not bool(((bits & _HALF_EXPONENT) == _HALF_EXPONENT).any())
    return bool(np.isfinite(values).all())


def widen(halves: NDArray[np.float16], out: FloatArray) -> None:
    """float16 as float32, exact; as `out[:] = halves`, which takes three times as long.

    Args:
        halves: (row, width), all of them finite.
        out: (row, width).
    """
    # NumPy converts halves one by one; these are three steps at the speed of integers, of so few
    # rows at a time that they stay in the processor's cache.
    size = max(1, _WIDENED // max(1, halves.shape[1]))
    for start in range(0, len(halves), size):
        part = out[start : start + size]
        bits = part.view(np.int32)
        np.left_shift(halves[start : start + size].view(np.int16), 13, out=bits, dtype=np.int32)
        bits &= _WIDE_BITS
        part *= _WIDE_SCALE


def storable(values: FloatArray, rejected: Iterable[int], dtype: str) -> NDArray[np.floating]:
    """Features cast to the stored type, (row, ...).

    Raises:
        DataError: a row that is not rejected is not finite, or does not fit the type.
    """
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(values, dtype=dtype)
    bad = ~finite_rows(stored)
    bad[list(rejected)] = False
    if bad.any():
        overflow = bool(np.isfinite(values[bad]).all())
        raise DataError(
            f"{int(bad.sum())} rows of features are not finite"
            + (f" after the cast to {dtype}" if overflow else ""),
            cause="values exceed the type's range" if overflow else "the network gave NaN or inf",
            remedy='set extract.dtype = "float32"' if overflow else "look at the weights",
        )
    return stored


def same_bytes(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether two runs of bytes are equal."""
    if len(a) != len(b):
        return False
    even = len(a) // 8 * 8  # eight bytes at a time
    return np.array_equal(a[:even].view(np.uint64), b[:even].view(np.uint64)) and np.array_equal(
        a[even:], b[even:]
    )
