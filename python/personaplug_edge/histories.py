"""What changes a stored history: remember, edit, forget, erase, re-embed. Vectors are made here, and stored at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.errors import StoreError
from personaplug_edge.store import Added, HistoryStore, Item, NewItem
from personaplug_edge.store.checks import check_user

REMEMBER_BATCH = 64
"""Items that are encoded and stored in one transaction: what a kill can cost at most."""


class Histories:
    """The histories of a store, embedded for one bundle. Thread-safe.

    ``on_change`` is called with a user's id after each change, also one that failed half way: whoever keeps something
    that was computed from a history drops it.
    """

    def __init__(self, bundle: Bundle, embedder: UserEmbedder, store: HistoryStore) -> None:
        self._bundle, self._embedder, self._store = bundle, embedder, store
        self.on_change: list[Callable[[str], None]] = []

    def remember(self, user_id: str, items: Sequence[NewItem]) -> Added:
        """Encodes and stores items of a user in one transaction; see :meth:`User.remember_all`."""
        check_user(user_id)
        ids = self._store.known(user_id, items)
        fresh = [item for item, known in zip(items, ids, strict=True) if known is None]
        if not fresh:
            return Added([i for i in ids if i is not None], [False] * len(items))
        vectors = self._embedder.behavior([self._embedder.item_text(item.text, item.output) for item in fresh])
        try:
            added = self._store.add(
                user_id,
                fresh,
                encoder_key=self._bundle.encoder_key,
                vectors=vectors,
                bundle_key=self._bundle.bundle_key,
                projections=self._embedder.project(vectors),
            )
        finally:
            self._changed(user_id)
        news = iter(zip(added.ids, added.new, strict=True))
        pairs = [(known, False) if known is not None else next(news) for known in ids]
        return Added([i for i, _ in pairs], [new for _, new in pairs])

    def reembed(self, user_id: str | None = None, progress: Callable[[int], None] | None = None) -> int:
        """Makes the vectors and projections that are missing for this bundle; see :meth:`PersonaPlug.reembed`."""
        encoder_key, bundle_key = self._bundle.encoder_key, self._bundle.bundle_key
        missing = self._store.missing(encoder_key, bundle_key, user=user_id)
        done = 0
        while batch := list(islice(missing, REMEMBER_BATCH)):
            if self._store.read_only:
                raise StoreError(
                    f"history store {self._store.path} was opened with read_only=True and lacks vectors of the bundle "
                    f"{self._bundle.manifest.name!r}; open it without and call reembed() once"
                )
            vectors = self._embedder.behavior([self._embedder.item_text(item.text, item.output) for item in batch])
            self._store.put_vectors(batch, encoder_key, vectors)
            self._store.put_projections(batch, bundle_key, self._embedder.project(vectors))
            done += len(batch)
            if progress:
                progress(done)
        return done

    def edit(self, user_id: str, item_id: int, *, text: str | None = None, output: str | None = None) -> None:
        """See :meth:`User.edit`."""
        while not self._edited(user_id, self._store.item(user_id, item_id), text, output):
            pass  # somebody else changed it while this was encoded: what they removed must not come back

    def _edited(self, user_id: str, old: Item, text: str | None, output: str | None) -> bool:
        new = NewItem(
            old.text if text is None else text, old.output if output is None else output, old.time, old.source
        )
        vectors = self._embedder.behavior([self._embedder.item_text(new.text, new.output)])
        try:
            edited = self._store.edit(
                user_id,
                old.id,
                new,
                encoder_key=self._bundle.encoder_key,
                vectors=vectors,
                bundle_key=self._bundle.bundle_key,
                projections=self._embedder.project(vectors),
                based_on=old.digest,
            )
        finally:
            self._changed(user_id)
        return edited is not None

    def forget(self, user_id: str, item_id: int) -> None:
        """See :meth:`User.forget`."""
        check_user(user_id)
        try:
            self._store.delete_item(user_id, item_id)
        finally:  # last, for a request that runs beside could read the item again; even if the purge fails
            self._changed(user_id)

    def erase(self, user_id: str) -> None:
        """See :meth:`User.erase`."""
        check_user(user_id)
        try:
            self._store.delete_user(user_id)
        finally:
            self._changed(user_id)

    def _changed(self, user_id: str) -> None:
        for listener in self.on_change:
            listener(user_id)
