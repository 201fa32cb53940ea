"""From a user and a request to the prompt that the engine runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.errors import PromptError, TextError, UnknownItemError
from personaplug_edge.history_cache import HistoryCache
from personaplug_edge.personalize import pplug
from personaplug_edge.prompt import Prompt
from personaplug_edge.request import RequestText
from personaplug_edge.results import Attribution, Personalized
from personaplug_edge.store import History, HistoryStore, Item, NewItem

PersonaMode = Literal["query", "static", "off"]
"""query: attention to what this request is about (the paper's); static: the mean, one for all requests; off: none."""

ATTRIBUTED = 50
"""History items that an attribution names at most; the rest weigh less."""


class Personalizer:
    """Personas of stored and inline histories, in front of requests. Thread-safe.

    ``reembed`` is called with a user's id where items lack vectors of this bundle; it returns how many it made.
    """

    def __init__(
        self,
        bundle: Bundle,
        embedder: UserEmbedder,
        store: HistoryStore,
        request: RequestText,
        reembed: Callable[[str], int],
    ) -> None:
        self.embedder, self.store = embedder, store
        self.cache = HistoryCache(store, bundle.encoder_key, bundle.bundle_key)
        self._bundle, self._request, self._reembed = bundle, request, reembed

    def prompt(
        self,
        text: str,
        *,
        user: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        instruction: bool = True,
        cut: bool = False,
    ) -> Personalized:
        """The prompt of a request: [start; I; P; request] in the order of the bundle's layout.

        Args:
            instruction: False leaves the instruction embedding out too: the bare LLM.
            cut: cut a request longer than the bundle's ``max_input_tokens`` at its end, as the paper does; otherwise a
                request that does not fit the context raises ContextFullError when it is run.
        """
        if persona not in ("query", "static", "off"):
            raise PromptError(f'expected persona "query", "static" or "off"; got {persona!r}')
        started = time.perf_counter()
        found, attribution = self.persona(text, user, persona, history)
        parts = {
            "bos": Prompt.tokens(self._request.start),
            "instruction": Prompt.rows(self.embedder.instruction) if instruction else Prompt(),
            "persona": Prompt.rows(found.rows) if found else Prompt(),
        }
        seconds = time.perf_counter() - started
        parts["prompt"] = Prompt.tokens(self._request.tokens(text, cut=cut))
        prompt = sum((parts[name] for name in self._bundle.manifest.prompt.layout), Prompt())
        rows = found.rows if found else None
        return Personalized(prompt, rows, attribution, seconds, found is not None and found.cold_start)

    def persona(
        self, text: str, user: str | None, mode: PersonaMode, history: Sequence[NewItem] | None = None
    ) -> tuple[pplug.Persona | None, tuple[Attribution, ...]]:
        """The persona alone, and what weighed how much in it; ``text`` is not read in the static form."""
        if mode == "off":
            return None, ()
        if mode == "static" and history is None:
            if user is None:
                return pplug.cold_start(self.embedder), ()
            total, count = self.store.persona_sum(user, self._bundle.bundle_key)
            if count < self.store.count(user) and self._reembed(user):
                total, count = self.store.persona_sum(user, self._bundle.bundle_key)
            return pplug.static_persona(self.embedder, total, count), ()
        past = self._history(user, history)
        if mode == "static":
            return pplug.static_persona(self.embedder, past.projections.sum(0, dtype=np.float64), len(past)), ()
        if not len(past):
            return pplug.cold_start(self.embedder), ()
        found = pplug.query_persona(self.embedder, self.embedder.query(text), past.vectors, past.projections)
        try:
            return found, self._attribution(user, history, past, found.weights)
        except UnknownItemError:
            # An item was deleted since the arrays were read: it must not weigh in any more.
            return self.persona(text, user, mode, history)

    def _history(self, user: str | None, items: Sequence[NewItem] | None) -> History:
        limit = self._bundle.manifest.history.max_items
        if items is not None:
            items = items[-limit:]
            for item in items:
                if not isinstance(item, (NewItem, Item)):
                    raise TextError(
                        f"expected a NewItem as a history item, got {item!r:.80}; write NewItem(text, output)"
                    )
            vectors = self.embedder.behavior([self.embedder.item_text(i.text, i.output) for i in items])
            return History(np.arange(len(items)), vectors, self.embedder.project(vectors))
        if user is None:
            empty: NDArray[np.float32] = np.zeros((0, self.embedder.width), dtype=np.float32)
            return History(np.arange(0), empty, self.embedder.project(empty))
        past = self.cache.get(user)
        if len(past) < self.store.count(user) and self._reembed(user):
            past = self.cache.get(user)
        return History(past.ids[-limit:], past.vectors[-limit:], past.projections[-limit:])

    def _attribution(
        self, user: str | None, items: Sequence[NewItem] | None, past: History, weights: NDArray[np.float32]
    ) -> tuple[Attribution, ...]:
        order = _heaviest(weights, ATTRIBUTED)
        if items is not None:
            read = items[-len(weights) :]
            return tuple(Attribution(read[i], float(weights[i])) for i in order)
        assert user is not None
        found = self.store.items(user, [int(past.ids[i]) for i in order])
        return tuple(Attribution(item, float(weights[i])) for item, i in zip(found, order, strict=True))


def _heaviest(weights: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Indices of the ``count`` greatest weights, by falling weight; of equal ones the older first."""
    chosen = np.arange(len(weights))
    if count < len(weights):
        chosen = np.sort(np.argpartition(-weights, count)[:count])
    return chosen[np.argsort(-weights[chosen], kind="stable")]
