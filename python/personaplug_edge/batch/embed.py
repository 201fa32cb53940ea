"""Rows made ready for the decoder, a group at a time: many texts go through the encoder in one call."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ..adapters import INDEX
from ..errors import AdapterError, BatchError, DimensionError, PromptError, SamplingError, TextError
from ..personalize.summarize import INLINE
from ..personalize.wording import wording_of
from ..prompt import Prompt
from ..request import RequestText
from ..results import Choice
from .groups import Group, RawRow
from .histories import Histories
from .needs import Needs, needs_of
from .options import BatchOptions
from .outcomes import BadRow
from .own_llm import OwnLLM
from .schema import Request, parse_row, seeded
from .vectors import AheadEmbedder

if TYPE_CHECKING:
    from ..embedder import UserEmbedder
    from ..engine import LLM
    from ..plug import PersonaPlug
    from ..results import Personalized

ITEMS_TOGETHER = 4096
"""Inline history items embedded in one call: bounds the memory of their vectors and rows."""

ROW_ERRORS = (TextError, PromptError, SamplingError, DimensionError, AdapterError)
"""What is wrong with a row, not with the run."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ready:
    """A row that the decoder can take."""

    request: Request
    prompt: Prompt
    labels: tuple[list[int], ...]
    """Tokens of each label."""
    choice: Choice | None
    """Of a method that asks no LLM: the answer."""
    adapter: str
    """The file to decode with; "": none."""
    persona_digest: str | None
    history_items: int
    cold_start: bool
    untrained: bool


class Personalizer:
    """Makes groups ready, by the plug's own personalization over vectors that were made ahead. For one thread."""

    def __init__(self, plug: PersonaPlug, options: BatchOptions) -> None:
        """Raises BatchError for a file of histories that cannot be used."""
        self._options, self._base = options, options.base_sampling(plug.bundle)
        self._embedder = AheadEmbedder(plug.embedder)
        embedder = cast("UserEmbedder", self._embedder)
        llm = cast("LLM", OwnLLM(plug.llm, sequences=options.sequences, threads=options.threads))
        # Not closed: the one given is the owner.
        self._plug = type(plug)(plug.bundle, llm, embedder, plug.store, adapters=plug.adapters)
        self._texts = RequestText(plug.bundle.manifest.prompt, plug.llm)
        self._histories = Histories(options.histories) if options.histories else None

    def close(self) -> None:
        """Removes what was laid out on disk."""
        if self._histories:
            self._histories.close()

    def ready(self, group: Group) -> list[Ready | BadRow]:
        """The group's rows in their order. Raises what ends the run: EncoderError, StoreError."""
        rows = group.parsed()
        found = [self._request(group, row) for row in rows]
        made: dict[int, Ready | str] = {}
        for part in _parts(each for each in found if isinstance(each, Request)):
            self._embed(part)
            made |= {request.number: self._personalized(request) for request in part}
        self._embedder.forget()
        # One of an earlier part of the history would do, so that what serves depends on what was asked before.
        self._plug.personalizer.cache.derived.drop_kind(INLINE)
        done: list[Ready | BadRow] = []
        for row, each in zip(rows, found, strict=True):
            result = made[each.number] if isinstance(each, Request) else each
            done.append(_bad(group, row, each.id, result) if isinstance(result, str) else result)
        return done

    def _request(self, group: Group, row: RawRow) -> Request | BadRow:
        """The row, understood, with its history unless that is in the store."""
        error = row.error
        if not error:
            try:
                request = parse_row(row.value, row.number, group.default_id(row.number), self._base, self._options)
                if self._histories and request.history is None and request.user and needs_of(request.spec).history:
                    return replace(request, history=self._histories.get(request.user))
                return request
            except ROW_ERRORS as reason:
                error = str(reason)
        row_id = row.value.get("id") if isinstance(row.value, dict) else None
        return _bad(group, row, row_id if isinstance(row_id, (str, int)) else None, error)

    def _embed(self, requests: Sequence[Request]) -> None:
        """Vectors of all the texts that personalization will ask for."""
        manifest, embedder = self._plug.bundle.manifest, self._embedder
        wanted = [(request, needs_of(request.spec)) for request in requests]
        histories = ((request.history or ())[-manifest.history.max_items :] for request, need in wanted if need.vectors)
        template = manifest.prompt.template
        embedder.prepare(
            (embedder.item_text(item.text, item.output) for item in chain.from_iterable(histories)),
            (request.prompt for request, need in wanted if need.query),
            (_subject(template, request.prompt) for request, need in wanted if need.subject),
        )

    def _personalized(self, request: Request) -> Ready | str:
        """Ready, or the reason why not."""
        try:
            made = self._plug.personalize(
                request.prompt, user=request.user, method=request.spec, history=request.history, cut=self._options.cut
            )
            needs = needs_of(request.spec)
            items = self._count(request) if needs.history and not made.cold_start else 0
            return self._refused(request, needs, made, items) or Ready(
                request=self._hinted(request, made),
                prompt=made.prompt,
                labels=tuple(self._texts.answer_tokens(label) for label in request.labels),
                choice=Choice.of_votes(request.labels, made) if made.votes is not None else None,
                adapter=made.options.adapter,
                persona_digest=None if made.persona is None else persona_digest(made.persona),
                history_items=items,
                cold_start=made.cold_start,
                untrained=made.untrained,
            )
        except ROW_ERRORS as error:
            check_folder(self._plug, error)
            return str(error)

    def _refused(self, request: Request, needs: Needs, made: Personalized, items: int) -> str:
        """Why a row that was made personal has no answer; "": it has."""
        if self._options.require_history:
            if made.cold_start or (needs.history and not items):
                return f"user {request.user!r} has no history, and this run requires one"
            if made.untrained and not needs.history:
                return f"nothing was trained for user {request.user!r}, and this run requires a history"
        if made.votes is not None and not request.labels:
            return f"method {request.spec!r} asks no LLM, it chooses among labels: give the row labels, or the run"
        return ""

    def _hinted(self, request: Request, made: Personalized) -> Request:
        """With the sampling that a method hints at, where nobody asked for another."""
        if request.asked or not made.hints:
            return request
        return replace(request, sampling=seeded(made.sampling(self._base), self._options.seed, request.id))

    def _count(self, request: Request) -> int:
        """Items that the persona was made of, or that a method chose from."""
        limit = self._plug.bundle.manifest.history.max_items
        if request.history is None:
            count = self._plug.store.count(request.user) if request.user else 0
            return count if request.spec in ("static", "pplug-static") else min(count, limit or count)
        return min(len(request.history), limit or len(request.history))


def check_folder(plug: PersonaPlug, error: Exception) -> None:
    """One user's damaged adapter is a bad row; a folder that is gone ends the run, to be gone on with: BatchError."""
    folder = plug.adapters
    if isinstance(error, AdapterError) and folder is not None and not (folder.folder / INDEX).is_file():
        raise BatchError(f"the adapters in {folder.folder} are gone; bring them back and start again") from error


def _subject(template: str, text: str) -> str:
    """What a request is about, as methods look for it."""
    return wording_of(template, text).subject(text) or text


def persona_digest(rows: Array) -> str:
    """First 16 hexadecimal digits of the SHA-256 of persona rows (k, H) as little-endian float32."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<f4").tobytes()).hexdigest()[:16]


def _parts(requests: Iterable[Request]) -> Iterator[list[Request]]:
    part: list[Request] = []
    items = 0
    for request in requests:
        more = len(request.history or ())
        if part and items + more > ITEMS_TOGETHER:
            yield part
            part, items = [], 0
        part.append(request)
        items += more
    if part:
        yield part


def _bad(group: Group, row: RawRow, row_id: str | int | None, reason: str) -> BadRow:
    return BadRow(file=group.name, number=row.number, id=row_id, reason=reason, row=row.value)
