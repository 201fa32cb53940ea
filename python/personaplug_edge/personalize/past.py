"""A user's history as methods see it: stored, or given with the request."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.errors import TextError
from personaplug_edge.personalize.services import Services
from personaplug_edge.store import History, Item, NewItem

AnyItem = Item | NewItem
T = TypeVar("T")


class Past:
    """The history of one user at one request, at most the bundle's ``max_items`` latest items. Read what you need:
    each part is fetched when it is asked for.
    """

    def __init__(self, services: Services, user: str | None) -> None:
        self.user: str | None = user
        """the user's id; None for nobody"""
        self._services = services
        self._limit = services.bundle.manifest.history.max_items

    def __len__(self) -> int:
        """How many items."""
        raise NotImplementedError

    @property
    def arrays(self) -> History:
        """ids (n,), vectors (n, d), projections (n, k, H), oldest first."""
        raise NotImplementedError

    @property
    def total(self) -> tuple[NDArray[np.float64], int]:
        """Sum of the projections (k, H), and of how many; cheaper than the arrays."""
        raise NotImplementedError

    @property
    def items(self) -> Sequence[AnyItem]:
        """All items, oldest first."""
        raise NotImplementedError

    @property
    def version(self) -> Hashable:
        """Equal for equal histories of one user."""
        raise NotImplementedError

    def latest(self, count: int) -> Sequence[AnyItem]:
        """The newest items, newest first."""
        return self.at(range(len(self) - 1, max(-1, len(self) - 1 - count), -1))

    def at(self, places: Sequence[int]) -> list[AnyItem]:
        """Items by place in the history, 0 the oldest."""
        raise NotImplementedError

    def pick(self, ids: Sequence[int]) -> list[AnyItem]:
        """Items by id, as ``arrays.ids`` and :meth:`derived` see them. Raises UnknownItemError for a deleted one."""
        raise NotImplementedError

    def derived(self, kind: str, make: Callable[[Sequence[int], Sequence[AnyItem]], T]) -> T:
        """``make(ids, items)``, kept until the history changes."""
        raise NotImplementedError


class InlinePast(Past):
    """Items given with the request; nothing of them is stored."""

    def __init__(self, services: Services, user: str | None, items: Sequence[NewItem]) -> None:
        super().__init__(services, user)
        if not isinstance(items, Sequence):
            raise TextError(f"expected a list of NewItem as a history, got {type(items).__name__}; make it a list")
        for item in items:
            if not isinstance(item, (NewItem, Item)):
                raise TextError(f"expected a NewItem as a history item, got {item!r:.80}; write NewItem(text, output)")
        self._items: tuple[AnyItem, ...] = tuple(items[-self._limit :])

    def __len__(self) -> int:
        return len(self._items)

    @cached_property
    def arrays(self) -> History:
        """As in Past."""
        embedder = self._services.embedder
        vectors = embedder.behavior([embedder.item_text(item.text, item.output) for item in self._items])
        return History(np.arange(len(self._items)), vectors, embedder.project(vectors))

    @property
    def total(self) -> tuple[NDArray[np.float64], int]:
        """As in Past."""
        total: NDArray[np.float64] = self.arrays.projections.sum(0, dtype=np.float64)
        return total, len(self)

    @property
    def items(self) -> Sequence[AnyItem]:
        """As in Past."""
        return self._items

    @property
    def version(self) -> Hashable:
        """As in Past."""
        return self._items

    def at(self, places: Sequence[int]) -> list[AnyItem]:
        """As in Past."""
        return [self._items[place] for place in places]

    def pick(self, ids: Sequence[int]) -> list[AnyItem]:
        """As in Past."""
        return self.at(ids)

    def derived(self, kind: str, make: Callable[[Sequence[int], Sequence[AnyItem]], T]) -> T:
        """As in Past."""
        memo = self._services.cache.derived
        # Under another name than the user's stored history, whose version is a number.
        return memo.get(
            f"inline {kind}", self.user, self.version, len(self), lambda: make(range(len(self)), self.items)
        )


class StoredPast(Past):
    """A history in the store, re-embedded for this bundle where it was not yet."""

    def __init__(self, services: Services, user: str) -> None:
        super().__init__(services, user)
        self.user: str = user

    @cached_property
    def _count(self) -> int:
        return self._services.store.count(self.user)

    @cached_property
    def _skipped(self) -> int:
        return max(0, self._count - self._limit) if self._limit else 0

    def __len__(self) -> int:
        return self._count - self._skipped

    @cached_property
    def arrays(self) -> History:
        """As in Past."""
        past = self._services.cache.get(self.user)
        if len(past) < self._count and self._services.reembed(self.user):
            past = self._services.cache.get(self.user)
        return History(past.ids[-self._limit :], past.vectors[-self._limit :], past.projections[-self._limit :])

    @property
    def total(self) -> tuple[NDArray[np.float64], int]:
        """As in Past."""
        store, key = self._services.store, self._services.bundle.bundle_key
        total, count = store.persona_sum(self.user, key)
        if count < store.count(self.user) and self._services.reembed(self.user):
            total, count = store.persona_sum(self.user, key)
        return total, count

    @property
    def items(self) -> Sequence[AnyItem]:
        """As in Past."""
        return self._services.store.list(self.user, offset=self._skipped)

    @property
    def version(self) -> Hashable:
        """As in Past."""
        return self._services.store.revision(self.user)

    def latest(self, count: int) -> Sequence[AnyItem]:
        """As in Past."""
        return self._services.store.list(self.user, limit=min(count, len(self)), newest_first=True)

    def at(self, places: Sequence[int]) -> list[AnyItem]:
        """As in Past."""
        read = self._services.store.list
        found = [read(self.user, limit=1, offset=self._skipped + place) for place in places]
        return [item for each in found for item in each]

    def pick(self, ids: Sequence[int]) -> list[AnyItem]:
        """As in Past."""
        return list(self._services.store.items(self.user, ids))

    def derived(self, kind: str, make: Callable[[Sequence[int], Sequence[AnyItem]], T]) -> T:
        """As in Past."""

        def read() -> T:
            items = self._services.store.list(self.user, offset=self._skipped)
            return make([item.id for item in items], items)

        # The version is read before the items: a value may look older than it is, never newer.
        return self._services.cache.derived.get(kind, self.user, self.version, len(self), read)


def past_of(services: Services, user: str | None, items: Sequence[NewItem] | None) -> Past:
    """The history of a request: the items given, else the stored one of ``user``, else an empty one."""
    if items is not None:
        return InlinePast(services, user, items)
    return InlinePast(services, None, ()) if user is None else StoredPast(services, user)
