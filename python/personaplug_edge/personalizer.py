"""From a user and a request to the prompt that the engine runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.adapters import AdapterFolder
from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.errors import PromptError, UnknownItemError
from personaplug_edge.history_cache import HistoryCache
from personaplug_edge.personalize.combine import contribute
from personaplug_edge.personalize.kept import Kept
from personaplug_edge.personalize.method import Contribution, Request
from personaplug_edge.personalize.past import Past, past_of
from personaplug_edge.personalize.pplug import attribute
from personaplug_edge.personalize.registry import ROWS_ALONE, Part, parse
from personaplug_edge.personalize.services import Services
from personaplug_edge.personalize.wording import wording_of
from personaplug_edge.prompt import Prompt
from personaplug_edge.request import RequestText
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.results import Attribution, Personalized
from personaplug_edge.sampling import Sampling
from personaplug_edge.store import HistoryStore, NewItem
from personaplug_edge.texts import check_text

PersonaMode = Literal["query", "static", "off"]
"""query: attention to what this request is about (the paper's); static: the mean, one for all requests; off: none."""

MODES: dict[str, str] = {"query": "pplug", "static": "pplug-static", "off": "instruction"}
"""The methods that the modes stand for."""

ATTEMPTS = 5
"""Times that a request is made anew because an item that it reads is deleted meanwhile."""


WORTH_KEEPING = 16
"""Positions from which on the keys and values that all users share are kept: fewer are computed as quickly."""

T = TypeVar("T")

Sections = list[tuple[str, Prompt]]
"""Parts of a prompt with their names in the bundle's layout."""


class Personalizer:
    """Every method's contribution, put around requests. Thread-safe.

    ``reembed`` is called with a user's id where items lack vectors of this bundle; it returns how many it made.
    """

    def __init__(
        self,
        bundle: Bundle,
        embedder: UserEmbedder,
        store: HistoryStore,
        request: RequestText,
        reembed: Callable[[str], int],
        adapters: AdapterFolder | None = None,
    ) -> None:
        self.embedder, self.store = embedder, store
        self.cache = HistoryCache(store, bundle.encoder_key, bundle.bundle_key)
        self.services = Services(bundle, embedder, store, self.cache, request, reembed, adapters)
        self._bundle, self._request = bundle, request

    def prompt(
        self,
        text: str,
        *,
        user: str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        instruction: bool = True,
        cut: bool = False,
    ) -> Personalized:
        """The prompt of a request: [start; I; P; request] in the order of the bundle's layout, text in its place.

        Args:
            method: such as "pplug+bm25:1", see :mod:`personaplug_edge.personalize.registry`; None takes ``persona``.
            persona: short for the methods "pplug", "pplug-static" and "instruction".
            instruction: with ``persona``: False leaves the instruction embedding out too.
            cut: cut a request longer than the bundle's ``max_input_tokens`` at its end, as the paper does; otherwise a
                request that does not fit the context raises ContextFullError when it is run.

        Raises:
            MethodError: the method is unknown, cannot be combined as asked, or failed.
            TextError, StoreError: the request, the history or the store cannot be used.
        """
        parts = parts_of(method, persona)
        asked = self._request.cut(text) if cut else check_text(text, "the request")
        stored = user if history is None else None
        started = time.perf_counter()
        # Before the history: what is made of it must never pass for newer than it is.
        revision = 0 if stored is None else self.store.revision(stored)
        past, made = self._contribution(parts, asked, user, history)
        seconds = time.perf_counter() - started
        if method is None and not instruction:
            made = replace(made, instruction=False)
        sections = self._sections(made, asked)
        prompt = made.prompt or sum((section for _, section in sections), Prompt())
        return Personalized(
            prompt=prompt,
            persona=made.persona,
            attribution=made.attribution,
            embed_seconds=seconds,
            cold_start=made.cold_start,
            adapter=made.adapter,
            hints=made.sampling,
            votes=made.votes,
            kept=Kept(made.keeps, past, self.services, made.bytes_kept),
            front=made.front,
            text=asked if made.text is None else made.text,
            head=_positions(sections, before=("prompt",)),
            options=self._options(sections, stored, parts, made.adapter or ""),
            user=stored,
            revision=revision,
            untrained=made.untrained,
            training_seconds=made.training_seconds,
        )

    def persona(self, user: str, text: str | None = None) -> NDArray[np.float32]:
        """The persona rows alone, (k, embedding width); the static ones without a text."""
        parts = parse("pplug-static" if text is None else "pplug")
        _, made = self._contribution(parts, text or "", user, None)
        assert made.persona is not None
        return made.persona

    def weights(self, text: str, user: str | None, history: Sequence[NewItem] | None = None) -> tuple[Attribution, ...]:
        """The weight of every history item for a request, oldest first; see :meth:`PersonaPlug.weights`."""
        asked = check_text(text, "the request")
        return _again(lambda: attribute(self.embedder, past_of(self.services, user, history), asked, None)[1])

    def _contribution(
        self, parts: tuple[Part, ...], asked: str, user: str | None, history: Sequence[NewItem] | None
    ) -> tuple[Past, Contribution]:
        wording = wording_of(self._bundle.manifest.prompt.template, asked)
        room = 0 if all(part.name in ROWS_ALONE for part in parts) else self._room(asked)

        def make() -> tuple[Past, Contribution]:
            past = past_of(self.services, user, history)
            request = Request(text=asked, placed=asked, wording=wording, room=room, services=self.services)
            return past, contribute(parts, past, request)

        return _again(make)

    def _room(self, asked: str) -> int:
        """Positions that what methods add, rows and text in front of a request, may take."""
        answer = Sampling(**self._bundle.sampling_options).max_tokens
        whole = min(self._bundle.manifest.prompt.max_prompt_tokens, self.services.llm.context - answer)
        frame = len(self._request.start) + len(self._request.system)
        return max(0, whole - frame - len(self._request.tokens(asked)))

    def _sections(self, made: Contribution, asked: str) -> Sections:
        """The parts of the prompt in the bundle's layout; none for a method that makes its own prompt, or no prompt."""
        if made.votes is not None or made.prompt is not None:
            return []
        text = made.front + (asked if made.text is None else made.text)
        parts = {
            "bos": Prompt.tokens(self._request.start),
            "system": Prompt.tokens(self._request.system),
            "instruction": Prompt.rows(self.embedder.instruction) if made.instruction else Prompt(),
            "persona": Prompt.rows(made.persona) if made.persona is not None else Prompt(),
            "prompt": Prompt.tokens(self._request.tokens(text)),
        }
        return [(name, parts[name]) for name in self._bundle.manifest.prompt.layout]

    @staticmethod
    def _options(sections: Sections, user: str | None, parts: tuple[Part, ...], adapter: str) -> RequestOptions:
        """What may be kept of the prompt: what all users share, and of a stored user's static persona all up to it."""
        common = _positions(sections, before=("persona", "prompt"))
        keep = [common] if common >= WORTH_KEEPING else []
        head = _positions(sections, before=("prompt",))
        if user is not None and head > common and any(part.name == "pplug-static" for part in parts):
            keep.append(head)
        owner = "" if user is None else owner_of(user)
        return RequestOptions(owner=owner, keep=tuple(keep), common=common, protect=head, adapter=adapter)


def parts_of(method: str | None, persona: PersonaMode) -> tuple[Part, ...]:
    """The parts of a method, or of the one that ``persona`` is short for. Raises MethodError, PromptError."""
    if method is not None:
        return parse(method)
    if persona not in tuple(MODES):  # what a caller gives need not be hashable
        raise PromptError(f'expected persona "query", "static" or "off"; got {persona!r:.80}')
    return parse(MODES[persona])


def _again(make: Callable[[], T]) -> T:
    """What ``make`` gives; anew where an item was deleted since its vector or words were read: it must not weigh in
    any more."""
    for _ in range(ATTEMPTS - 1):
        try:
            return make()
        except UnknownItemError:
            pass
    return make()


def owner_of(user: str) -> str:
    """The name under which the engine keeps what it computed of a user's persona."""
    return f"user:{user}"


def _positions(sections: Sections, *, before: tuple[str, ...]) -> int:
    """Positions in front of the first of some sections."""
    count = 0
    for name, section in sections:
        if name in before:
            break
        count += len(section)
    return count
