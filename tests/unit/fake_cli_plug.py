"""A plug without an LLM: the real history store, invented vectors, answers that say what they were asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from personaplug_edge.results import Attribution, Choice, Reply
from personaplug_edge.store import Added, HistoryStore, NewItem
from personaplug_edge.user import User

KEYS = {"encoder_key": "encoder", "bundle_key": "bundle"}


@dataclass(frozen=True)
class FakeTimings:
    prompt_seconds: float = 0.002
    first_token_seconds: float = 0.003


class FakePlug:
    """Weighs history items by the words that they share with the prompt; the likeliest label is the heaviest output."""

    def __init__(self, store: str | Path | HistoryStore | None, chunks: Sequence[str | BaseException] = ()) -> None:
        self.store = store if isinstance(store, HistoryStore) else HistoryStore(":memory:" if store is None else store)
        self.histories = self  # what User changes a history by
        self.bundle = SimpleNamespace(
            manifest=SimpleNamespace(name="tiny"), sampling_options={"max_tokens": 48, "stop": ("\n",)}
        )
        self.chunks = list(chunks)
        self.samplings: list[Any] = []
        self.closed_streams = 0
        self.conversations = 0

    def __enter__(self) -> FakePlug:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def user(self, user_id: str) -> User:
        return User(self, user_id)  # type: ignore[arg-type]

    def remember(self, user_id: str, items: Sequence[NewItem]) -> Added:
        arrays = {"vectors": np.ones((len(items), 4)), "projections": np.ones((len(items), 1, 8))}
        return self.store.add(user_id, items, **KEYS, **arrays)

    def edit(self, user_id: str, item_id: int, *, text: str | None, output: str | None) -> None:
        old = self.store.item(user_id, item_id)
        new = NewItem(text or old.text, old.output if output is None else output, old.time, old.source)
        self.store.edit(user_id, item_id, new, **KEYS, vectors=np.ones((1, 4)), projections=np.ones((1, 1, 8)))

    def reembed(self, user: str, progress: object) -> int:
        return 0

    def explain(self, text: str, user: str | None, **_: object) -> tuple[Attribution, ...]:
        items = self.store.list(user) if user else []
        shared = [1.0 + len(set(text.lower().split()) & set(item.text.lower().split())) for item in items]
        weighed = [Attribution(item, weight / sum(shared)) for item, weight in zip(items, shared, strict=True)]
        return tuple(sorted(weighed, key=lambda each: -each.weight))

    def weights(self, text: str, user: str) -> tuple[Attribution, ...]:
        return tuple(sorted(self.explain(text, user), key=lambda each: getattr(each.item, "id", 0)))

    def personalize(self, text: str, *, user: str | None, method: str) -> Any:
        return SimpleNamespace(attribution=self.explain(text, user)[:1])

    def choose(
        self, text: str, labels: Sequence[str], *, user: str | None, persona: str, method: str | None = None
    ) -> Choice:
        found = self.explain(text, user) if persona != "off" else ()
        votes = {label: sum(each.weight for each in found if each.item.output == label) for label in labels}
        best = max(labels, key=lambda label: votes[label])
        return Choice(best, tuple(labels), tuple(votes[label] - 2.0 for label in labels), found, 0.001)

    def chat(self, **options: Any) -> Any:
        self.conversations += 1
        return SimpleNamespace(stream=lambda text: self.stream(text, **options))

    def stream(
        self, text: str, *, user: str | None, persona: str, method: str | None = None, sampling: Any = None
    ) -> Iterator[Any]:
        self.samplings.append(sampling)
        try:
            for chunk in self.chunks or [f"{user or 'nobody'} ", f"({method or persona}): ", text]:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield SimpleNamespace(text=chunk)
        finally:
            self.closed_streams += 1

    def generate(
        self, text: str, *, user: str | None, persona: str, method: str | None = None, sampling: Any = None
    ) -> Reply:
        answer = "".join(chunk.text for chunk in self.stream(text, user=user, persona=persona, sampling=sampling))
        found = self.explain(text, user) if persona == "query" else ()
        return Reply(answer, (1, 2), (), "end", FakeTimings(), 0.001, persona, found)  # type: ignore[arg-type]
