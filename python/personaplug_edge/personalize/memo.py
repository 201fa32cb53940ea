"""What was computed from a history and takes long to compute again, such as an index of its words."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")

MAX_ITEMS = 200_000
"""History items that all kept values were made from together; an index of words takes about 2 KB an item."""


class Memo:
    """Values by kind and user, good for one version of the history. Thread-safe; those used last are kept."""

    def __init__(self, max_items: int = MAX_ITEMS) -> None:
        self._values: OrderedDict[tuple[str, str | None], tuple[Hashable, int, Any]] = OrderedDict()
        self._lock, self._max_items = threading.Lock(), max_items
        self._being_made: dict[str | None, set[object]] = {}  # by user; drop() takes away what must not be kept

    def get(
        self,
        kind: str,
        user: str | None,
        version: Hashable,
        size: int,
        make: Callable[[], T],
    ) -> T:
        """The value made from ``version`` of a user's history of ``size`` items; made anew for another version."""
        making = object()
        with self._lock:
            found = self._values.get((kind, user))
            if found is not None and found[0] == version:
                self._values.move_to_end((kind, user))
                return cast(T, found[2])
            self._being_made.setdefault(user, set()).add(making)
        try:
            value = make()
        except BaseException:
            with self._lock:
                self._made(user, making)
            raise
        with self._lock:
            if self._made(user, making):
                self._values[kind, user] = version, size, value
                self._values.move_to_end((kind, user))
                while len(self._values) > 1 and sum(size for _, size, _ in self._values.values()) > self._max_items:
                    self._values.popitem(last=False)
        return value

    def _made(self, user: str | None, making: object) -> bool:
        """Whether it may be kept: the user's history was not dropped meanwhile."""
        running = self._being_made.get(user, set())
        if making not in running:
            return False
        running.discard(making)
        if not running:
            del self._being_made[user]
        return True

    def drop_kind(self, kind: str) -> None:
        """Forgets all values of a kind."""
        with self._lock:
            for key in [key for key in self._values if key[0] == kind]:
                del self._values[key]

    def drop(self, user: str) -> None:
        """Forgets what was made from a user's history."""
        with self._lock:
            self._being_made.pop(user, None)
            for key in [key for key in self._values if key[1] == user]:
                del self._values[key]
