"""Portraits of the users of a store, or of an evaluation's files. Runs the encoders, not the LLM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..embedder import UserEmbedder
from ..evaluate.data import PastItem
from ..histories import Histories
from ..personalize.pplug import static_persona
from ..store import HistoryStore, Item
from .groups import words_of
from .user_map import Portrait


def stored_portraits(
    bundle: Bundle, embedder: UserEmbedder, store: HistoryStore, users: Sequence[str]
) -> Iterator[Portrait]:
    """Those of stored users that have a history, embedded for this bundle where it was not. Raises StoreError."""
    histories = Histories(bundle, embedder, store)
    for user in users:
        items = store.list(user)
        if not items:
            continue
        total, count = store.persona_sum(user, bundle.bundle_key)
        if count < len(items) and histories.reembed(user):
            total, count = store.persona_sum(user, bundle.bundle_key)
        if count:
            yield _portrait(user, items, static_persona(embedder, total, count).rows)


def file_portraits(
    bundle: Bundle, embedder: UserEmbedder, histories: Mapping[str, Sequence[PastItem]], users: Sequence[str]
) -> Iterator[Portrait]:
    """Those of users that were read from files, by at most the bundle's ``max_items`` latest items; nothing is kept."""
    limit = bundle.manifest.history.max_items
    for user in users:
        items = histories[user][-limit:]
        if not items:
            continue
        vectors = embedder.behavior([embedder.item_text(item.text, item.output) for item in items])
        total: NDArray[np.float64] = embedder.project(vectors).sum(0, dtype=np.float64)
        yield _portrait(user, items, static_persona(embedder, total, len(items)).rows)


def _portrait(user: str, items: Sequence[Item] | Sequence[PastItem], rows: NDArray[Any]) -> Portrait:
    return Portrait(
        user=user,
        items=len(items),
        persona=np.asarray(rows, dtype=np.float32).ravel(),
        outputs=Counter(item.output for item in items),
        words=words_of(item.text for item in items),
    )
