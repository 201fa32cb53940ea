"""Vectors kept for the length of an evaluation: many questions share a user's history."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..embedder import UserEmbedder
    from ..plug import PersonaPlug

Rows = NDArray[np.float32]
Key = TypeVar("Key", str, bytes)

KEPT_ITEMS = 20_000
"""Items kept at most; at width 384 and one persona row of 4,096 that is 350 MB."""


class _Kept(Generic[Key]):
    """The rows made for the last ``limit`` keys."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[Key, Rows] = OrderedDict()

    def get(self, keys: Sequence[Key], make: Callable[[list[int]], Rows]) -> Rows:
        """The rows of ``keys`` stacked; ``make`` is called once, with the positions of those not kept (each once)."""
        missing = {key: position for position, key in enumerate(keys) if key not in self._rows}
        if missing or not keys:
            made = make(list(missing.values()))
            if not keys:
                return made
            self._rows.update(zip(missing, made, strict=True))
        for key in keys:
            self._rows.move_to_end(key)
        rows = np.stack([self._rows[key] for key in keys])
        while len(self._rows) > self._limit:
            self._rows.popitem(last=False)
        return rows


class CachedEmbedder:
    """A user embedder that remembers vectors and projections; everything else passes through.

    The history asked for last is there whole, as the arrays of a stored one are: putting it together from its items is
    no part of a request's time.
    """

    def __init__(self, embedder: Any, limit: int = KEPT_ITEMS) -> None:
        self._embedder = embedder
        self._vectors: _Kept[str] = _Kept(limit)
        self._projections: _Kept[bytes] = _Kept(limit)
        self._item_texts = lru_cache(limit)(embedder.item_text)
        self._last_texts: Sequence[str] = ()
        self._last_vectors: Rows | None = None
        self._last_rows: Rows | None = None

    def item_text(self, text: str, output: str = "") -> str:
        """As :meth:`UserEmbedder.item_text`."""
        return str(self._item_texts(text, output))

    def behavior(self, texts: Sequence[str], **options: Any) -> Rows:
        """Vectors of history texts, shape (n, d); only unknown texts are encoded.

        A single text is encoded each time: most often it is a request, whose encoding is part of its time.
        """
        if len(texts) == 1:
            return np.asarray(self._embedder.behavior(texts, **options))
        if self._last_vectors is None or texts != self._last_texts:
            found = self._vectors.get(texts, lambda new: self._embedder.behavior([texts[i] for i in new], **options))
            self._last_texts, self._last_vectors, self._last_rows = texts, found, None
        return self._last_vectors

    def project(self, vectors: Rows) -> Rows:
        """Persona rows of vectors, (n, d) to (n, k, H)."""
        if vectors is self._last_vectors and self._last_rows is not None:
            return self._last_rows
        keys = [np.ascontiguousarray(vector).tobytes() for vector in vectors]
        rows = self._projections.get(keys, lambda new: self._embedder.project(vectors[new]))
        if vectors is self._last_vectors:
            self._last_rows = rows
        return rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)


def with_cache(plug: PersonaPlug) -> PersonaPlug:
    """The same plug, with a cache before its embedder; do not close it, the one given is the owner."""
    embedder = cast("UserEmbedder", CachedEmbedder(plug.embedder))
    return type(plug)(plug.bundle, plug.llm, embedder, plug.store, adapters=plug.adapters)
