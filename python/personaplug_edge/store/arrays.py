"""Arrays to blobs and back: little-endian float16 for vectors and projections, float64 for their sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personaplug_edge.errors import DimensionError, StoreError

Floating = NDArray[np.floating[Any]]
Half = NDArray[np.float16]
Double = NDArray[np.float64]
Single = NDArray[np.float32]

HALF = np.dtype("<f2")
DOUBLE = np.dtype("<f8")

EXACT_SUM = 2.0**29
"""Float16 values are multiples of 2^-24 (IEEE 754 binary16): below 2^53 of these float64 adds and subtracts exactly."""


def to_rows(values: ArrayLike, count: int, dimensions: int, what: str) -> Floating:
    """An array of ``count`` rows with ``dimensions - 1`` further axes; DimensionError for another shape or dtype."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DimensionError(f"{what} must be one array: {error}") from None
    if array.ndim != dimensions or array.shape[0] != count or 0 in array.shape[1:]:
        axes = "(n, d)" if dimensions == 2 else "(n, k, H)"
        raise DimensionError(f"{what} must have the shape {axes} with n = {count}, not {array.shape}")
    if not np.issubdtype(array.dtype, np.floating):
        raise DimensionError(f"{what} must be floating-point, not {array.dtype}")
    return array


def to_half(rows: Floating, what: str) -> Half:
    """The rows as finite float16, C-contiguous; DimensionError if they hold NaN, infinity, or more than float16 can.

    Float16 keeps 11 bits: a unit vector's cosine to itself stays within 1e-6 of 1.
    """
    if not np.isfinite(rows).all():
        raise DimensionError(f"{what} must be finite; they hold NaN or infinity")
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(rows, dtype=HALF)
    if not np.isfinite(half).all():
        raise DimensionError(f"{what} must fit float16 (at most 65504), not {np.abs(rows).max():g}; scale them down")
    return half


def from_halves(blobs: Sequence[bytes], shape: tuple[int, ...], path: str) -> Single:
    """One row of ``shape`` a blob, as float32 (n, *shape)."""
    joined = b"".join(blobs)
    if len(joined) != len(blobs) * int(np.prod(shape)) * HALF.itemsize:
        raise StoreError(
            f"history store {path}: stored vectors have the wrong length; the file is damaged; restore a backup"
        )
    rows = np.frombuffer(joined, HALF).reshape(len(blobs), *shape).astype(np.float32)
    if not np.isfinite(rows).all():
        raise StoreError(f"history store {path}: stored vectors are not finite; the file is damaged; restore a backup")
    return rows


def sum_from_blob(blob: bytes, shape: tuple[int, ...], path: str) -> Double:
    """A stored sum as float64 of ``shape``, writable."""
    if len(blob) != int(np.prod(shape)) * DOUBLE.itemsize:
        raise StoreError(
            f"history store {path}: a stored sum has the wrong length; the file is damaged; restore a backup"
        )
    return np.frombuffer(blob, DOUBLE).reshape(shape).astype(np.float64)


def check_exact(bound: Double) -> None:
    """DimensionError when sums up to ``bound`` would be rounded, so that deleting an item could not undo adding it."""
    if bound.size and bound.max() >= EXACT_SUM:
        raise DimensionError(
            f"projections are too large: their sum over the history reaches {bound.max():g}, and only sums below "
            f"{EXACT_SUM:g} are exact; scale them down"
        )
