"""The aggregator: a query and a user's history to the personal embedding (PPlug, arXiv 2409.11901, eq. 3 to 5).

    w_i = exp(t q.h_i) / sum_k exp(t q.h_k)        P = sum_i w_i Proj(h_i)

The formula, its temperature and whatever else was trained live in the bundle's graph: there is no second one in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DimensionError, EncoderError
from .session import Session

_INPUTS = {"query": 1, "vectors": 2, "projections": 3}


@dataclass(frozen=True)
class Aggregation:
    """What the aggregator makes of a history."""

    persona: NDArray[np.float32]
    """The personal embedding P, float32 (k, H)."""
    weights: NDArray[np.float32]
    """Share of each history item in P, float32 (n,), in the order of the history."""


class Aggregator:
    """Thread-safe; keeps nothing between calls, so that no user's vectors can reach another's request."""

    def __init__(self, path: str | Path, *, providers: Sequence[str] | None = ("cpu",), threads: int = 1) -> None:
        """Load the graph. Raises EncoderError.

        ``providers``: the CPU, unless asked otherwise. The history lies in main memory and is read once, so that
        copying it to a GPU takes longer than the sum does. ``threads``: two read 10,000 items in .6 of the time of
        one (2 cores); memory is soon the limit, and the other cores are left to the LLM.
        """
        self.session = Session(path, providers=providers, threads=threads)
        self.session.require(inputs=tuple(_INPUTS), outputs=("persona", "weights"))

    def aggregate(
        self, query: NDArray[np.float32], vectors: NDArray[np.float32], projections: NDArray[np.float32]
    ) -> Aggregation:
        """The personal embedding of a history of n > 0 items.

        ``query`` (d,), ``vectors`` (n, d), ``projections`` (n, k, H); C-contiguous float32 is read in place, anything
        else is copied. Raises DimensionError on shapes that do not fit, on no items and on values that are not
        finite.
        """
        arrays = {
            name: np.ascontiguousarray(array, dtype=np.float32)
            for name, array in zip(_INPUTS, (query, vectors, projections), strict=True)
        }
        self._check(arrays)
        persona, weights = self.session.run(["persona", "weights"], arrays)
        expected = arrays["projections"].shape[1:], (len(arrays["vectors"]),)
        if (persona.shape, weights.shape) != expected:
            raise EncoderError(
                f"{self.session.path}: expected persona {expected[0]} and weights {expected[1]}, "
                f"got {persona.shape} and {weights.shape}; export it again"
            )
        if not (np.isfinite(persona).all() and np.isfinite(weights).all()):
            self._blame(arrays)
        return Aggregation(persona, weights)

    def _check(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        query, vectors, projections = arrays.values()
        ranks = all(arrays[name].ndim == rank for name, rank in _INPUTS.items())
        if not ranks or vectors.shape[1] != query.shape[0] or len(projections) != len(vectors):
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise DimensionError(f"expected query (d,), vectors (n, d), projections (n, k, H); got {shapes}")
        if not len(vectors):
            raise DimensionError("a history without items has no weights; use the bundle's cold-start rows")
        for name, array in arrays.items():
            fixed = self.session.inputs[name].shape
            if any(isinstance(size, int) and size != got for size, got in zip(fixed, array.shape, strict=False)):
                raise DimensionError(
                    f"{name}: the graph takes {fixed}, got {array.shape}; was it stored by another bundle?"
                )

    def _blame(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        """Looked for only when the result is bad: a look at every input would cost more than the sum itself."""
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise DimensionError(f"{name}: expected finite values, got NaN or infinity; encode the items again")
        raise EncoderError(f"{self.session.path}: the personal embedding is not finite; export the aggregator again")
