"""Digests: of a file's content, and of an LLM's tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

_CHUNK = 1 << 20


class ModelLike(Protocol):
    """What a loaded LLM (``personaplug_edge._core.Model``) says of itself."""

    @property
    def architecture(self) -> str:
        """``general.architecture`` of the GGUF."""
        ...

    @property
    def embedding_width(self) -> int:
        """H."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        ...

    def piece(self, id: int, /) -> bytes:
        """Bytes of one token."""
        ...


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def tokenizer_digest(llm: ModelLike | str | Path) -> str:
    """SHA-256 over the bytes of every token of ``llm``, in order, a newline after each; hexadecimal.

    Two LLMs with equal digests cut a text into the same ids, as far as the vocabulary decides it. ``llm`` is a loaded
    model, or a GGUF file, which is then loaded for it. Raises ModelError when the file cannot be loaded.
    """
    model = _load(llm) if isinstance(llm, (str, Path)) else llm
    digest = hashlib.sha256()
    for token in range(model.vocabulary_size):
        digest.update(model.piece(token) + b"\n")
    return digest.hexdigest()


def _load(path: str | Path) -> ModelLike:
    from .._native import core  # here, because the extension loads llama.cpp

    model: ModelLike = core.Model(str(path))
    return model
