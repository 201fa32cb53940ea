"""What runs in Ray's worker processes: the actor that holds a bundle, and the count of attempts."""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import BatchError
from .groups import Group
from .options import BatchOptions

ATTEMPTS = 10
"""Times that a group is begun at most. Ray gives it out again whenever its worker dies, also where it is the cause."""


class Attempts:
    """Counts how often each group was begun; one for all workers, so that it outlives them."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, int]] = Counter()

    def begin(self, group: tuple[int, int]) -> int:
        """The number of this attempt at a group, from 1."""
        self._counts[group] += 1
        return self._counts[group]

    def end(self, group: tuple[int, int]) -> None:
        """Forgets a group that is done."""
        del self._counts[group]


class Actor:
    """Holds the bundle; takes one group a call. Two calls at a time: one embeds while the other decodes."""

    def __init__(
        self, bundle: str, store: str | None, options: BatchOptions, attempts: Any, adapters: str | None = None
    ) -> None:
        """``attempts``: Ray's handle of an :class:`Attempts`."""
        from ..plug import PersonaPlug
        from ..store import HistoryStore
        from ..store.paths import may_write
        from .decode import Decoder
        from .embed import Personalizer

        histories = HistoryStore(store, read_only=not may_write(Path(store))) if store else None
        # Mapped, so that the workers of a machine share one copy of the LLM.
        self._plug = PersonaPlug.load(bundle, store=histories, threads=options.threads, mmap=True, adapters=adapters)
        self._personalizer, self._decoder = Personalizer(self._plug, options), Decoder(self._plug, options)
        self._embedding, self._decoding = threading.Lock(), threading.Lock()
        self._ordered, self._attempts = options.ordered, attempts

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of one group to a batch of its outcomes."""
        from .runner import in_order

        (packed,) = batch["group"]
        group = pickle.loads(packed)
        self._begin(group)
        with self._embedding:
            rows = self._personalizer.ready(group)
        with self._decoding:
            outcomes = list(self._decoder.answers(group, rows))
        self._attempts.end.remote(group.key)
        return {"answered": [pickle.dumps((group.head, in_order(outcomes) if self._ordered else outcomes))]}

    def _begin(self, group: Group) -> None:
        """Raises BatchError for a group whose workers die again and again."""
        attempt = import_module("ray").get(self._attempts.begin.remote(group.key))
        if attempt > ATTEMPTS:
            first, last = group.numbers[0], group.numbers[-1]
            raise BatchError(
                f"{group.name}, rows {first} to {last}: {ATTEMPTS} workers died at them; look for the row with a small "
                "--group, or give the workers more memory"
            )
