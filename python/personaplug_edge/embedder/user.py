"""The user embedder: a bundle's encoders, projector and aggregator behind one face."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle, EncoderPart, HeadPart, PersonaRows, fill
from ..errors import DimensionError
from ..texts import check_text
from .aggregator import Aggregation, Aggregator
from .encoder import Encoder
from .projector import Projector, QueryHead

Array = NDArray[np.float32]


class UserEmbedder:
    """History texts to vectors and rows, and those with an input to the personal embedding.

    Thread-safe; remembers no user.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        behavior_encoder: Encoder,
        input_encoder: Encoder | None,
        head: QueryHead | None,
        projector: Projector,
        aggregator: Aggregator,
        rows: PersonaRows,
    ) -> None:
        """Put loaded parts together; :meth:`from_bundle` loads them. ``input_encoder`` None is the behavior encoder."""
        self.bundle = bundle
        self.behavior_encoder = behavior_encoder
        self.input_encoder = input_encoder or behavior_encoder
        self.head = head
        self.projector = projector
        self.aggregator = aggregator
        self.instruction: Array = rows.instruction
        """I of the paper, float32 (r, H), read-only."""
        self.cold_start: Array = rows.cold_start
        """Rows of a user without a history, float32 (k, H), read-only."""

    @property
    def width(self) -> int:
        """d, the width of a vector."""
        return self.behavior_encoder.width

    @staticmethod
    def from_bundle(bundle: Bundle, *, threads: int = 0, providers: Sequence[str] | None = None) -> UserEmbedder:
        """Load the parts of ``bundle``; ``threads`` and ``providers`` as in :class:`Encoder`.

        Raises EncoderError when a file cannot be loaded or does not fit the manifest, BundleError for the rows,
        MissingExtraError without onnxruntime or tokenizers.
        """
        manifest = bundle.manifest
        behavior = manifest.behavior_encoder
        head, input_encoder = None, None
        if isinstance(manifest.input_encoder, HeadPart):
            head = QueryHead(
                bundle.path(manifest.input_encoder.head), width=behavior.width, threads=threads, providers=providers
            )
        elif not _same_encoder(bundle, behavior, manifest.input_encoder):
            input_encoder = _load(bundle, manifest.input_encoder, threads, providers)
        shape = manifest.persona.tokens, manifest.llm.embedding_width
        return UserEmbedder(
            bundle,
            behavior_encoder=_load(bundle, behavior, threads, providers),
            input_encoder=input_encoder,
            head=head,
            projector=Projector(
                bundle.path(manifest.projector.file), shape=shape, threads=threads, providers=providers
            ),
            aggregator=Aggregator(bundle.path(manifest.aggregator.file), threads=min(threads or 2, 2)),
            rows=bundle.rows(),
        )

    def item_text(self, text: str, output: str = "") -> str:
        """The text of a history item that is encoded: the bundle's template, filled. Raises TextError."""
        history = self.bundle.manifest.history
        check_text(text, "text of the history item")
        if not output:
            return fill(history.template_without_output, text=text)
        return fill(history.template, text=text, output=check_text(output, "output of the history item"))

    def behavior(
        self,
        texts: Sequence[str],
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Array:
        """Vectors h of history items, float32 (n, d), from texts made by :meth:`item_text`. Raises TextError,
        EncoderError."""
        return self.behavior_encoder.encode(texts, batch_size=batch_size, progress=progress)

    def query(self, text: str) -> Array:
        """The query q of an input, float32 (d,). Raises TextError, EncoderError."""
        check_text(text, "input")
        vectors = self.input_encoder.encode([text], prefix=self.bundle.manifest.input_encoder.prefix)
        query: Array = (self.head.queries(vectors) if self.head else vectors)[0]
        return query

    def project(self, vectors: Array) -> Array:
        """Rows Proj(h), float32 (n, k, H), of vectors (n, d). Raises DimensionError, EncoderError."""
        return self.projector.project(vectors)

    def aggregate(self, query: Array, vectors: Array, projections: Array) -> Aggregation:
        """The personal embedding of a history: query (d,), vectors (n, d), projections (n, k, H).

        No items: the cold-start rows and no weights, where the formula would divide by zero. Raises DimensionError.
        """
        if len(vectors) == 0 and len(projections) == 0:
            return Aggregation(self.cold_start, np.empty(0, dtype=np.float32))
        if np.shape(projections)[1:] != self.cold_start.shape:
            expected = f"(n, {self.cold_start.shape[0]}, {self.cold_start.shape[1]})"
            raise DimensionError(
                f"projections: expected {expected}, got {np.shape(projections)}; project the items again"
            )
        return self.aggregator.aggregate(query, vectors, projections)


def _load(bundle: Bundle, part: EncoderPart, threads: int, providers: Sequence[str] | None) -> Encoder:
    return Encoder(
        bundle.path(part.file),
        bundle.path(part.tokenizer),
        pooling=part.pooling,
        normalize=part.normalize,
        prefix=part.prefix,
        max_tokens=part.max_tokens,
        width=part.width,
        threads=threads,
        providers=providers,
    )


def _same_encoder(bundle: Bundle, one: EncoderPart, other: EncoderPart) -> bool:
    """Whether one loaded encoder serves both parts: the prefix alone may differ, it is given with each call."""

    def state(part: EncoderPart) -> tuple[object, ...]:
        files = bundle.manifest.files
        digests = files[part.file].sha256, files[part.tokenizer].sha256
        return *digests, part.pooling, part.normalize, part.max_tokens, part.width

    return state(one) == state(other)
