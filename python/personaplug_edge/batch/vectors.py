"""Vectors of a group's texts, made in few calls of the encoder before personalization asks for them one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import TextError

if TYPE_CHECKING:
    from ..embedder import UserEmbedder

Array = NDArray[np.float32]


class AheadEmbedder:
    """A user embedder with vectors and queries made ahead, each text once, all in one call of the encoder.

    What it was not told of is embedded when it is asked for. Everything else passes through.
    """

    def __init__(self, embedder: UserEmbedder) -> None:
        self._embedder = embedder
        self.forget()

    def forget(self) -> None:
        """Drops what was made ahead."""
        self._vectors: dict[str, Array] = {}
        self._rows: dict[bytes, Array] = {}
        self._queries: dict[str, Array] = {}

    def prepare(self, items: Iterable[str], queries: Iterable[str], subjects: Iterable[str] = ()) -> None:
        """Embeds texts of history items and what requests are about by the behavior encoder, requests by the input
        encoder; in the place of what was made before. Raises EncoderError.

        Texts that cannot be encoded are left out, and refused when they are asked for.
        """
        self.forget()
        texts, requests = list(dict.fromkeys(chain(items, subjects))), list(dict.fromkeys(queries))
        vectors = self._encoded(texts, lambda some: self._embedder.behavior(some))
        rows = self._embedder.project(vectors) if len(vectors) else vectors
        self._vectors = dict(zip(texts, vectors, strict=True))
        self._rows = {vector.tobytes(): row for vector, row in zip(vectors, rows, strict=True)}
        made = self._encoded(requests, lambda some: encode_queries(self._embedder, some))
        self._queries = dict(zip(requests, made, strict=True))

    def behavior(self, texts: Sequence[str], **options: Any) -> Array:
        """Vectors of history texts, (n, d)."""
        if not texts or any(text not in self._vectors for text in texts):
            return self._embedder.behavior(texts, **options)
        return np.stack([self._vectors[text] for text in texts])

    def project(self, vectors: Array) -> Array:
        """Persona rows of vectors, (n, d) to (n, k, H)."""
        keys = [vector.tobytes() for vector in np.ascontiguousarray(vectors, dtype=np.float32)]
        if not keys or any(key not in self._rows for key in keys):
            return self._embedder.project(vectors)
        return np.stack([self._rows[key] for key in keys])

    def query(self, text: str) -> Array:
        """The query q of a request, (d,)."""
        found = self._queries.get(text)
        return self._embedder.query(text) if found is None else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    @staticmethod
    def _encoded(texts: list[str], encode: Any) -> Array:
        """The vectors; ``texts`` loses those that cannot be encoded."""
        try:
            return cast("Array", encode(texts))
        except TextError:
            texts[:] = [text for text in texts if _can(encode, text)]
            return cast("Array", encode(texts))


def _can(encode: Any, text: str) -> bool:
    try:
        encode([text])
    except TextError:
        return False
    return True


def encode_queries(embedder: UserEmbedder, texts: Sequence[str]) -> Array:
    """Queries q of inputs, float32 (n, d): as ``embedder.query``, many at a time."""
    vectors = embedder.input_encoder.encode(texts, prefix=embedder.bundle.manifest.input_encoder.prefix)
    return embedder.head.queries(vectors) if embedder.head and len(vectors) else vectors
