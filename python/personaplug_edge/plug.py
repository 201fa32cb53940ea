"""PersonaPlug: the one class an app developer meets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.engine import LLM, Chunk, Generation
from personaplug_edge.errors import PromptError
from personaplug_edge.history_cache import HistoryCache
from personaplug_edge.personalize import pplug
from personaplug_edge.prompt import Prompt
from personaplug_edge.request import RequestText
from personaplug_edge.results import Attribution, Choice, Personalized, Reply, Score
from personaplug_edge.sampling import Sampling
from personaplug_edge.store import Added, History, HistoryStore, NewItem
from personaplug_edge.user import User

PersonaMode = Literal["query", "static", "off"]
"""query: attention to what this request is about (the paper's); static: the mean, one for all requests; off: none."""


class PersonaPlug:
    """A bundle, loaded: the frozen LLM, the user embedder, and the store of histories.

    Safe to call from several threads. Close it, or use it in a ``with`` block, to free the LLM.
    """

    def __init__(self, bundle: Bundle, llm: LLM, embedder: UserEmbedder, store: HistoryStore) -> None:
        self.bundle, self.llm, self.embedder, self.store = bundle, llm, embedder, store
        self._cache = HistoryCache(store, bundle.encoder_key, bundle.bundle_key)
        self._request = RequestText(bundle.manifest.prompt, llm)
        self._encode_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        bundle: str | Path = "tiny",
        *,
        store: str | Path | None = None,
        threads: int = 0,
        gpu_layers: int = 0,
        context: int = 0,
        progress: Callable[[float], bool | None] | None = None,
    ) -> PersonaPlug:
        """Loads a bundle.

        Args:
            bundle: a folder, or the name of a bundle inside the package.
            store: file of the history store, made if it is not there; None keeps histories in memory alone.
            threads: of the LLM and the encoder; 0 takes the physical cores.
            gpu_layers: layers of the LLM on the GPU; -1 all.
            context: positions of the LLM's context; 0 takes the bundle's.
            progress: called with the loaded share of the LLM, 0 to 1; returning False stops.

        Raises:
            BundleError, ModelError, EncoderError, StoreError: what is wrong with which file, and what to do.
            CancelledError: ``progress`` returned False.
        """
        loaded = Bundle.load(bundle)
        llm = LLM.load(
            loaded.llm_path,
            threads=threads,
            gpu_layers=gpu_layers,
            context=context or loaded.manifest.llm.context,
            progress=progress,
        )
        loaded.check_llm(llm.model)
        embedder = UserEmbedder.from_bundle(loaded, threads=threads)
        return cls(loaded, llm, embedder, HistoryStore(":memory:" if store is None else store))

    def __enter__(self) -> PersonaPlug:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Frees the LLM and closes the store; later calls fail."""
        self.llm.close()
        self.store.close()

    def user(self, user_id: str) -> User:
        """The user of an id; nothing is stored until something is remembered."""
        return User(self, user_id)

    def generate(
        self,
        text: str,
        *,
        user: User | str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
    ) -> Reply:
        """Answers a request as the user would like it.

        Args:
            text: the request; the bundle's template is put around it.
            user: whose history makes the persona; None with persona "query" or "static" is a user without history.
            persona: see :data:`PersonaMode`, per call.
            history: items to use in place of a stored history; nothing is stored.
            sampling: how to decode; None takes the bundle's.

        Raises:
            TextError, ContextFullError, SamplingError, GrammarError: the request cannot be run as it is.
        """
        request = self.personalize(text, user=user, persona=persona, history=history)
        result = self.llm.generate(request.prompt, sampling or self.bundle.sampling)
        return _reply(result, request, persona)

    def stream(
        self,
        text: str,
        *,
        user: User | str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """The answer piece by piece, in whole characters; closing the iterator stops the work."""
        request = self.personalize(text, user=user, persona=persona, history=history)
        with closing(self.llm.stream(request.prompt, sampling or self.bundle.sampling)) as chunks:
            yield from chunks

    def score(
        self,
        text: str,
        answer: str,
        *,
        user: User | str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        request: Personalized | None = None,
    ) -> Score:
        """The log-probability of an answer, its end token included; ``request`` reuses a :meth:`personalize` result."""
        request = request or self.personalize(text, user=user, persona=persona, history=history)
        tokens = self._request.answer_tokens(answer)
        (logprobs,) = self.llm.score(request.prompt, [tokens])
        return Score(float(sum(logprobs)), tuple(tokens), tuple(logprobs))

    def choose(
        self,
        text: str,
        labels: Sequence[str],
        *,
        user: User | str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        request: Personalized | None = None,
    ) -> Choice:
        """The likeliest of several labels, by the exact log-probability of each."""
        if not labels or len(set(labels)) != len(labels):
            raise PromptError(f"expected one or more labels, each once; got {list(labels)!r}")
        request = request or self.personalize(text, user=user, persona=persona, history=history)
        scores = self.llm.score(request.prompt, [self._request.answer_tokens(label) for label in labels])
        sums = tuple(float(sum(logprobs)) for logprobs in scores)
        best = max(range(len(labels)), key=sums.__getitem__)
        return Choice(labels[best], tuple(labels), sums, request.attribution, request.embed_seconds)

    def explain(self, text: str, user: User | str, *, history: Sequence[NewItem] | None = None) -> tuple[Attribution, ...]:
        """Which history items weigh how much for a request, by falling weight; the LLM is not run."""
        return self.personalize(text, user=user, history=history).attribution

    def personalize(
        self,
        text: str,
        *,
        user: User | str | None = None,
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
        found, attribution = self._persona(text, user, persona, history)
        parts = {
            "bos": Prompt.tokens(self._request.start),
            "instruction": Prompt.rows(self.embedder.instruction) if instruction else Prompt(),
            "persona": Prompt.rows(found.rows) if found else Prompt(),
        }
        seconds = time.perf_counter() - started
        parts["prompt"] = Prompt.tokens(self._request.tokens(text, cut=cut))
        prompt = sum((parts[name] for name in self.bundle.manifest.prompt.layout), Prompt())
        rows = found.rows if found else None
        cold = found is not None and found.rows is self.embedder.cold_start
        return Personalized(prompt, rows, attribution, seconds, cold)

    def remember(self, user_id: str, items: Sequence[NewItem]) -> Added:
        """Encodes and stores items of a user in one transaction; see :meth:`User.remember_all`."""
        known = self.store.known(user_id, items)
        texts = [self.embedder.item_text(i.text, i.output) for i, old in zip(items, known, strict=True) if not old]
        vectors = np.zeros((len(items), self.embedder.width), dtype=np.float32)
        if texts:
            vectors[np.flatnonzero(~np.array(known))] = self.embedder.behavior(texts)
        # A known item's row is not read: the store keeps what it has.
        return self.store.add(
            user_id,
            items,
            encoder_key=self.bundle.encoder_key,
            vectors=vectors,
            bundle_key=self.bundle.bundle_key,
            projections=self.embedder.project(vectors),
        )

    def edit(self, user_id: str, item_id: int, *, text: str | None = None, output: str | None = None) -> None:
        """See :meth:`User.edit`."""
        old = self.store.item(user_id, item_id)
        new = NewItem(old.text if text is None else text, old.output if output is None else output, old.time, old.source)
        vectors = self.embedder.behavior([self.embedder.item_text(new.text, new.output)])
        self.store.edit(
            user_id,
            item_id,
            new,
            encoder_key=self.bundle.encoder_key,
            vectors=vectors,
            bundle_key=self.bundle.bundle_key,
            projections=self.embedder.project(vectors),
        )

    def forget(self, user_id: str, item_id: int) -> None:
        """See :meth:`User.forget`."""
        self._cache.drop(user_id)
        self.store.delete_item(user_id, item_id)

    def erase(self, user_id: str) -> None:
        """See :meth:`User.erase`."""
        self._cache.drop(user_id)
        self.store.delete_user(user_id)

    def _persona(
        self, text: str, user: User | str | None, mode: PersonaMode, history: Sequence[NewItem] | None
    ) -> tuple[pplug.Persona | None, tuple[Attribution, ...]]:
        if mode == "off":
            return None, ()
        user_id = user.id if isinstance(user, User) else user
        if mode == "static" and history is None:
            if user_id is None:
                return pplug.cold_start(self.embedder), ()
            total, count = self.store.persona_sum(user_id, self.bundle.bundle_key)
            return pplug.static_persona(self.embedder, total, count), ()
        past = self._history(user_id, history)
        if mode == "static":
            return pplug.static_persona(self.embedder, past.projections.sum(0, dtype=np.float64), len(past)), ()
        if not len(past):
            return pplug.cold_start(self.embedder), ()
        found = pplug.query_persona(self.embedder, self.embedder.query(text), past.vectors, past.projections)
        return found, self._attribution(user_id, history, past, found.weights)

    def _history(self, user_id: str | None, items: Sequence[NewItem] | None) -> History:
        if items is not None:
            vectors = self.embedder.behavior([self.embedder.item_text(i.text, i.output) for i in items])
            return History(np.arange(len(items)), vectors, self.embedder.project(vectors))
        if user_id is None:
            empty: NDArray[np.float32] = np.zeros((0, self.embedder.width), dtype=np.float32)
            return History(np.arange(0), empty, self.embedder.project(empty))
        return self._cache.get(user_id)

    def _attribution(
        self, user_id: str | None, items: Sequence[NewItem] | None, past: History, weights: NDArray[np.float32]
    ) -> tuple[Attribution, ...]:
        order = np.argsort(-weights, kind="stable")[:ATTRIBUTED]
        if items is not None:
            return tuple(Attribution(items[i], float(weights[i])) for i in order)
        assert user_id is not None
        found = self.store.items(user_id, [int(past.ids[i]) for i in order])
        return tuple(Attribution(item, float(weights[i])) for item, i in zip(found, order, strict=True))


ATTRIBUTED = 50
"""History items that an attribution names at most; the rest weigh less."""


def _reply(result: Generation, request: Personalized, persona: PersonaMode) -> Reply:
    return Reply(
        text=result.text,
        tokens=tuple(result.tokens),
        logprobs=tuple(result.logprobs),
        finish_reason=result.finish_reason,
        timings=result.timings,
        embed_seconds=request.embed_seconds,
        persona=persona,
        attribution=request.attribution,
    )
