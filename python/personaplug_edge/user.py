"""One user of a :class:`personaplug_edge.PersonaPlug`: remember, look, forget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.errors import TextError
from personaplug_edge.histories import REMEMBER_BATCH
from personaplug_edge.store import Added, Item, NewItem

if TYPE_CHECKING:
    from personaplug_edge.plug import PersonaPlug


class User:
    """A user's history. Cheap to make; holds no data of its own."""

    def __init__(self, plug: PersonaPlug, user_id: str) -> None:
        self.id = user_id
        self._plug = plug

    def __repr__(self) -> str:
        return f"User({self.id!r}, items={len(self)})"

    def __len__(self) -> int:
        return self._plug.store.count(self.id)

    def remember(self, text: str, *, output: str = "", time: float | None = None, source: str = "") -> int:
        """Adds one item, the newest, and returns its id; an item that is known already keeps its id and its place.

        Args:
            text: what the user wrote or acted on.
            output: what the user made of it (a title, a category, a score), if anything.
            time: seconds since 1970, if known.
            source: where it comes from, for the app's own use.

        Raises:
            TextError: the text is empty, too long or not valid Unicode. Nothing is stored.
            StoreError: the store cannot be written. Nothing is stored.
        """
        return self.remember_all([NewItem(text, output, time, source)]).ids[0]

    def remember_all(
        self, items: Iterable[NewItem | str | tuple[str, str]], progress: Callable[[int], None] | None = None
    ) -> Added:
        """Adds items, the oldest first, REMEMBER_BATCH a transaction; ``progress`` gets the number done so far.

        What counts as new is the order in which items are added, not their time: a plug that learned recency (``tiny``
        did) lets newer items weigh more.

        Returns the ids and which items were new. After an error or a kill, whole batches are stored or not at all, and
        the same call made again stores only what is missing. An item is a NewItem, a text, or (text, output).

        Raises:
            TextError: something is no item, or an item's text cannot be used; its batch is not stored.
            StoreError: the store cannot be written; the batch is not stored.
        """
        if isinstance(items, (str, dict, NewItem)) or not isinstance(items, Iterable):
            raise TextError(f"expected a list of history items, got one {type(items).__name__}; put it into a list")
        ids: list[int] = []
        new: list[bool] = []
        source: Iterator[NewItem] = (_as_item(item) for item in items)
        while batch := list(islice(source, REMEMBER_BATCH)):
            added = self._plug.histories.remember(self.id, batch)
            ids += added.ids
            new += added.new
            if progress:
                progress(len(ids))
        return Added(ids, new)

    def history(self, *, limit: int | None = None, offset: int = 0, newest_first: bool = False) -> list[Item]:
        """Items in the order they were added, at most ``limit``, the first ``offset`` left out. Raises StoreError."""
        return self._plug.store.list(self.id, limit=limit, offset=offset, newest_first=newest_first)

    def search(self, text: str) -> list[Item]:
        """Items whose text or output contains ``text``, in any case. Raises TextError for "", StoreError."""
        return self._plug.store.search(self.id, text)

    def edit(self, item_id: int, *, text: str | None = None, output: str | None = None) -> None:
        """Changes an item; its vectors are made anew in the same transaction, and its id stays.

        Raises UnknownItemError, TextError (also where another item has that text and output), StoreError; then nothing
        was changed.
        """
        self._plug.histories.edit(self.id, item_id, text=text, output=output)

    def forget(self, item_id: int) -> None:
        """Deletes an item with its vectors, from the database's bytes too. Raises UnknownItemError, StoreError."""
        self._plug.histories.forget(self.id, item_id)

    def erase(self) -> None:
        """Deletes the user: items, vectors, projections, caches, and the bytes on disk.

        Raises UnknownUserError where nothing is stored; StoreError where it was not deleted, or its bytes could not be
        purged yet (the next opening of the store does).
        """
        self._plug.histories.erase(self.id)

    def persona(self, text: str | None = None) -> NDArray[np.float32]:
        """The persona rows, float32 (k, embedding width), for a request, or the static ones without.

        Raises TextError, StoreError.
        """
        return self._plug.personalizer.persona(self.id, text)


def _as_item(item: NewItem | str | tuple[str, str]) -> NewItem:
    if isinstance(item, NewItem):
        return item
    if isinstance(item, str):
        return NewItem(item)
    if isinstance(item, (tuple, list)) and 1 <= len(item) <= 2:
        return NewItem(*item)
    raise TextError(f"expected a NewItem, a text, or (text, output) as a history item; got {item!r:.80}")
