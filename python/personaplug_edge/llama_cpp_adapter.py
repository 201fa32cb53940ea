"""The same persona in an existing ``llama_cpp.Llama`` object.

The rows are decoded at the first positions of its context, and placeholder ids stand for them. ``create_completion``
takes token ids and reuses the longest prefix that equals what its context holds, so a prompt that starts with the
placeholders continues after the persona:

    ids = attach(llama, personalized.prompt, bundle=plug.bundle)
    llama.create_completion(ids, max_tokens=32)
"""

from __future__ import annotations

import ctypes
import hashlib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.errors import ContextFullError, DimensionError, EngineError, PromptError
from personaplug_edge.prompt import Prompt

if TYPE_CHECKING:
    from llama_cpp import Llama

    from personaplug_edge.bundle import Bundle
    from personaplug_edge.bundle.manifest import LLMPart

_checked_for: WeakKeyDictionary[Llama, LLMPart] = WeakKeyDictionary()
"""Llama objects and the LLM that each was found to hold: the vocabulary is read once."""


def attach(llama: Llama, prompt: Prompt, *, bundle: Bundle | None = None) -> list[int]:
    """Decodes a prompt's spans up to its last row into an emptied ``llama`` and returns ids for the whole prompt.

    Rows stand in the ids as placeholders drawn from their SHA-256, so that different personas never look alike to the
    prefix reuse. The ids are good for the next call only: whatever resets ``llama`` drops the persona, and a call with
    stale ids would read the placeholders as text. With ``bundle``, that of the prompt, the LLM in ``llama`` must be the
    one that the bundle was trained for, as far as architecture, width and vocabulary tell: another one reads rows and
    ids as something else, and answers all the same.

    Raises:
        BundleError: ``llama`` holds another LLM than the bundle's.
        PromptError: the prompt ends in rows, a token id is not of the vocabulary, or ``llama`` keeps a cache of states
            (it would outlive the persona).
        DimensionError: a row is not of the LLM's embedding width or not finite.
        ContextFullError: the prompt does not fit the context.
        EngineError: ``llama`` is closed, or llama.cpp failed to decode; then ``llama`` was reset.
    """
    if llama.ctx is None:  # llama.cpp would not check
        raise EngineError("this Llama object is closed; expected an open one: make it again")
    if bundle is not None and _checked_for.get(llama) != bundle.manifest.llm:
        bundle.check_llm(_AsModel(llama))
        _checked_for[llama] = bundle.manifest.llm
    if llama.cache is not None:
        raise PromptError(
            "this Llama object has a cache of states (set_cache), which would keep one user's persona for later calls; "
            "expected none: call llama.set_cache(None) first"
        )
    if not isinstance(prompt, Prompt):
        raise PromptError(f"expected a Prompt, got {type(prompt).__name__}; personalize() makes one")
    if not prompt.spans or not isinstance(prompt.spans[-1], list) or not prompt.spans[-1]:
        raise PromptError(
            "expected a prompt that ends in token ids, after which llama_cpp can continue; got rows or nothing"
        )
    if len(prompt) >= llama.n_ctx():
        raise ContextFullError(
            f"the prompt takes {len(prompt)} positions and the context has {llama.n_ctx()}; raise n_ctx"
        )
    spans = [
        _checked_ids(span, llama.n_vocab()) if isinstance(span, list) else _checked(span, llama.n_embd())
        for span in prompt.spans
    ]
    _empty(llama)
    ids: list[int] = []
    try:
        for span in spans[:-1]:
            if isinstance(span, list):
                llama.eval(span)
                ids += span
            else:
                _decode_rows(llama, span, start=len(ids))
                marks = _placeholders(span, llama.n_vocab())
                llama.input_ids[len(ids) : len(ids) + len(marks)] = marks
                ids += marks
                llama.n_tokens = len(ids)
    except RuntimeError as error:  # llama_cpp's own, for a decode that failed
        _empty(llama)
        raise (
            error if isinstance(error, EngineError) else EngineError(f"{error}; the Llama object was reset")
        ) from error
    except BaseException:
        _empty(llama)
        raise
    last = spans[-1]
    assert isinstance(last, list)
    return ids + last


class _AsModel:
    """What a Llama object says of its LLM, as :class:`personaplug_edge.bundle.ModelLike`."""

    def __init__(self, llama: Llama) -> None:
        import llama_cpp as api

        self.architecture = str(llama.metadata.get("general.architecture", ""))
        self.embedding_width, self.vocabulary_size = llama.n_embd(), llama.n_vocab()
        self._api, self._vocabulary = api, api.llama_model_get_vocab(llama.model)
        self._buffer = ctypes.create_string_buffer(256)

    def piece(self, id: int, /) -> bytes:
        """Bytes of one token."""
        for _ in range(2):
            size = self._api.llama_token_to_piece(self._vocabulary, id, self._buffer, len(self._buffer), 0, True)
            if size >= 0:
                break
            self._buffer = ctypes.create_string_buffer(-size)
        return self._buffer.raw[:size]


def _empty(llama: Any) -> None:
    llama.reset()
    llama._ctx.kv_cache_clear()


def _checked_ids(ids: list[int], vocabulary: int) -> list[int]:
    for token in ids:
        if not isinstance(token, (int, np.integer)) or not 0 <= token < vocabulary:
            raise PromptError(f"expected token ids of 0 to {vocabulary - 1}, the LLM's vocabulary; got {token!r:.80}")
    return ids


def _checked(rows: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    if not isinstance(rows, np.ndarray) or not np.issubdtype(rows.dtype, np.floating):
        what = f"an array of {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise DimensionError(f"expected rows as a float32 array (rows, {width}); got {what}")
    if rows.ndim != 2 or rows.shape[1] != width:
        raise DimensionError(f"expected rows of shape (rows, {width}), the LLM's embedding width; got {rows.shape}")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(rows, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise DimensionError("expected finite float32 rows; got NaN or infinity")
    return rows


def _placeholders(rows: NDArray[np.float32], vocabulary: int) -> list[int]:
    """One id a row, drawn from the SHA-256 of all rows."""
    digest = hashlib.sha256(rows.tobytes()).digest()
    seed = int.from_bytes(digest, "little")
    return [int(mark) for mark in np.random.default_rng(seed).integers(0, vocabulary, len(rows))]


def _decode_rows(llama: Llama, rows: NDArray[np.float32], start: int) -> None:
    """One llama_decode of embedding rows at positions from ``start``, in pieces of at most n_batch."""
    import llama_cpp as api

    for first in range(0, len(rows), llama.n_batch):
        part = rows[first : first + llama.n_batch]
        batch = api.llama_batch_init(len(part), part.shape[1], 1)
        try:
            ctypes.memmove(batch.embd, part.ctypes.data, part.nbytes)
            batch.n_tokens = len(part)
            for i in range(len(part)):
                batch.pos[i] = start + first + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = 0
            code = api.llama_decode(llama.ctx, batch)
        finally:
            api.llama_batch_free(batch)
        if code != 0:
            raise EngineError(f"llama_decode returned {code} for {len(part)} persona rows; the Llama object was reset")
