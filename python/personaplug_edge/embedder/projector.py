"""Graphs on vectors: to rows (the projector, Proj in PPlug, arXiv 2409.11901, eq. 5), and to queries (the head)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DimensionError, EncoderError
from .session import Session

_ITEMS_TOGETHER = 1024  # bounds the memory between the layers of a large projector


class Projector:
    """Vectors (n, d) to rows of the LLM's embedding space (n, k, H), item by item: store them. Thread-safe."""

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int] | None = None,
        providers: Sequence[str] | None = None,
        threads: int = 0,
    ) -> None:
        """``shape``: the (k, H) that the rows must have, None takes what the graph gives. Raises EncoderError."""
        self.session = Session(path, providers=providers, threads=threads)
        self.session.require(inputs=("vectors",), outputs=("rows",))
        self._width = _number(self.session.inputs["vectors"].shape, -1)
        given = tuple(_number(self.session.outputs["rows"].shape, axis) for axis in (-2, -1))
        self.shape = shape
        """(k, H) when it is known."""
        if shape is not None and any(number not in (None, size) for number, size in zip(given, shape, strict=True)):
            raise EncoderError(
                f"{self.session.path}: expected rows (n, {shape[0]}, {shape[1]}), the graph gives (n, {given})"
            )
        if shape is None and given[0] is not None and given[1] is not None:
            self.shape = given[0], given[1]

    def project(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows float32 (n, k, H) of ``vectors`` (n, d). Raises DimensionError on another shape, EncoderError on a
        broken graph."""
        array = _matrix(vectors, self._width)
        if not len(array) and self.shape:
            return np.empty((0, *self.shape), dtype=np.float32)
        parts = [array[start : start + _ITEMS_TOGETHER] for start in range(0, max(len(array), 1), _ITEMS_TOGETHER)]
        rows = np.concatenate([self.session.run(["rows"], {"vectors": part})[0] for part in parts])
        if rows.ndim != 3 or len(rows) != len(array) or (self.shape and rows.shape[1:] != self.shape):
            raise EncoderError(
                f"{self.session.path}: expected rows {(len(array), *(self.shape or ('k', 'H')))}, got {rows.shape}"
            )
        return _finite(rows, self.session.path, array)


class QueryHead:
    """A trained head on the behavior encoder's vectors: (n, d) to (n, d). Thread-safe."""

    def __init__(
        self, path: str | Path, *, width: int, providers: Sequence[str] | None = None, threads: int = 0
    ) -> None:
        """``width``: d. Raises EncoderError when the graph has another one."""
        self.session = Session(path, providers=providers, threads=threads)
        nodes = [*self.session.inputs.values(), *self.session.outputs.values()]
        if len(self.session.inputs) != 1 or len(nodes) != 2:
            names = ", ".join(node.name for node in nodes)
            raise EncoderError(f"{self.session.path}: expected one input and one output, got {names}; export it again")
        self.width, self._names = width, [node.name for node in nodes]
        for node in nodes:
            if _number(node.shape, -1) not in (None, width):
                raise EncoderError(
                    f"{self.session.path}: expected {node.name} (n, {width}), the graph has {node.shape}"
                )

    def queries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries float32 (n, d) of ``vectors`` (n, d), as the graph gives them. Raises DimensionError,
        EncoderError."""
        array = _matrix(vectors, self.width)
        (queries,) = self.session.run(self._names[1:], {self._names[0]: array})
        if queries.shape != array.shape:
            raise EncoderError(
                f"{self.session.path}: expected queries {array.shape}, got {queries.shape}; export it again"
            )
        return _finite(queries, self.session.path, array)


def _number(shape: Sequence[object] | None, axis: int) -> int | None:
    """The size of an axis when the graph says it as a number."""
    size = shape[axis] if shape and len(shape) >= -axis else None
    return size if isinstance(size, int) else None


def _matrix(vectors: NDArray[np.float32], width: int | None) -> NDArray[np.float32]:
    array = np.ascontiguousarray(vectors, dtype=np.float32)
    if array.ndim != 2 or width not in (None, array.shape[1]):
        raise DimensionError(f"vectors: expected (n, {width or 'd'}), got {np.shape(vectors)}")
    return array


def _finite(result: NDArray[np.float32], path: Path, given: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(result).all():
        if not np.isfinite(given).all():
            raise DimensionError("vectors: expected finite values, got NaN or infinity; encode the items again")
        raise EncoderError(f"{path}: a result is not finite; try providers=['cpu'] or export it in float32")
    return result
