"""What the LLM computed of a user's static persona: kept in memory by the engine, and in the store if asked."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from personaplug_edge.errors import StoreError
from personaplug_edge.personalizer import owner_of

if TYPE_CHECKING:
    from personaplug_edge.bundle import Bundle
    from personaplug_edge.engine import LLM
    from personaplug_edge.results import Personalized
    from personaplug_edge.store import HistoryStore

REMEMBERED = 10_000
"""Users of whom it is remembered what was taken from the store, so that it is not looked up for each request."""


class Prefixes:
    """Keys and values of static personas, in the engine and beside the histories they were made from. Thread-safe.

    The engine finds what it keeps by its content, so that a changed persona never meets what an older one left. What is
    saved has for its key a digest of the bundle and of the prompt up to the persona, and goes with any change to the
    history.
    """

    def __init__(self, llm: LLM, bundle: Bundle, store: HistoryStore, *, save: bool) -> None:
        self._llm, self._store, self._save = llm, store, save and not store.read_only
        self._load = save
        self._files = "".join(sorted(part.sha256 for part in bundle.manifest.files.values())).encode()
        self._saved: OrderedDict[str, str] = OrderedDict()
        self._owners: dict[str, set[str]] = {}
        self._process = os.getpid()
        self._lock = threading.RLock()  # a conversation may be collected, and leave, at any point

    @contextmanager
    def used(self, request: Personalized) -> Iterator[None]:
        """Around the run of a request: what was saved for it is there before, what it left is saved after."""
        user = request.user if _keeps_persona(request) else None
        key = self._key(request) if self._load and user is not None else ""
        if user is not None and key:
            self._restore(user, key)
        with self.settled(request):
            yield
        if user is not None and key:
            self._keep(user, key, request)

    @contextmanager
    def settled(self, request: Personalized) -> Iterator[None]:
        """Around the run of a request: what it left is forgotten where its user's history has changed meanwhile."""
        try:
            yield
        finally:
            if request.user is not None and _keeps_persona(request):
                self.settle(request.user, request.revision)

    def settle(self, user: str, revision: int) -> None:
        """After a request that was made from the history of ``revision``: nothing that it left stays if that changed.

        Who changed it may have called :meth:`forget` before the request began to leave anything.
        """
        try:
            changed = self._store.revision(user) != revision
        except StoreError:
            changed = True  # it is closed, or cannot be read
        if changed:
            self.forget(user)

    def forget(self, user: str) -> None:
        """The user's history has changed: nothing computed from the former one stays in memory."""
        with self._lock:
            self._saved.pop(user, None)
            owners = tuple(self._owners.get(user, ()))
        self._forget(owner_of(user), *owners)

    def join(self, user: str, owner: str) -> None:
        """What the engine keeps for ``owner``, a conversation, was made from this user's history too."""
        with self._lock:
            self._owners.setdefault(user, set()).add(owner)

    def leave(self, user: str | None, owner: str) -> None:
        """The conversation is over: nothing of it is kept."""
        with self._lock:
            if user is not None and owner in self._owners.get(user, ()):
                self._owners[user].discard(owner)
                if not self._owners[user]:
                    del self._owners[user]
        self._forget(owner)

    def _forget(self, *owners: str) -> None:
        if self._llm.is_open and self._process == os.getpid():  # a child of fork() has no engine
            for owner in owners:
                self._llm.engine.forget_prefixes(owner)

    def _key(self, request: Personalized) -> str:
        digest = hashlib.sha256(self._files + request.options.adapter.encode())
        left = request.head
        for span in request.prompt.spans:
            if left <= 0:
                break
            digest.update(span.tobytes() if hasattr(span, "tobytes") else repr(span[:left]).encode())
            left -= len(span)
        return digest.hexdigest()

    def _restore(self, user: str, key: str) -> None:
        with self._lock:
            if self._saved.get(user) == key:
                return
        data = self._store.prefix(user, key)
        if data and self._llm.engine.import_prefix(owner_of(user), data):
            self._remember(user, key)

    def _keep(self, user: str, key: str, request: Personalized) -> None:
        with self._lock:
            if not self._save or self._saved.get(user) == key:
                return
        data = self._llm.engine.export_prefix(owner_of(user))
        try:
            if data and self._store.put_prefix(user, key, data, revision=request.revision):
                self._remember(user, key)
        except StoreError:
            pass  # a disk that is full must not cost an answer; the next request tries again

    def _remember(self, user: str, key: str) -> None:
        with self._lock:
            self._saved[user] = key
            self._saved.move_to_end(user)
            while len(self._saved) > REMEMBERED:
                self._saved.popitem(last=False)


def _keeps_persona(request: Personalized) -> bool:
    return request.user is not None and request.options.keep[-1:] == (request.head,)
