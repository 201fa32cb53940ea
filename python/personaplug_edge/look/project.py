"""Many dimensions to two: principal components, the directions in which rows differ most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Projection:
    """Rows in two dimensions."""

    points: Array
    """(n, 2); distances are those of the rows, as far as two directions show them"""
    shares: tuple[float, float]
    """of the variance, that each direction has"""


def project(rows: NDArray[Any]) -> Projection:
    """The first two principal components of rows (n, d), by a singular value decomposition.

    The same rows give the same picture: the sign of a direction, which the decomposition leaves open, is chosen so that
    its greatest part is positive. Rows that are all alike, or a single one, lie at the origin.
    """
    centered = np.asarray(rows, dtype=np.float64)
    centered = centered - centered.mean(axis=0, keepdims=True) if len(centered) else centered
    left, values, right = np.linalg.svd(centered, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)]) if right.size else np.ones(len(values))
    points = np.zeros((len(centered), 2))
    kept = min(2, len(values))
    points[:, :kept] = left[:, :kept] * values[:kept] * signs[:kept]
    variance = np.zeros(2)
    variance[:kept] = values[:kept] ** 2
    whole = float((values**2).sum())
    # Of rows that are alike only rounding is left, which is no direction.
    if whole <= 1e-20 * max(1.0, float((np.asarray(rows, dtype=np.float64) ** 2).sum())):
        return Projection(np.zeros_like(points), (0.0, 0.0))
    return Projection(points, (float(variance[0] / whole), float(variance[1] / whole)))
