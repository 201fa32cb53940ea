"""Groups of ready rows through an engine of their own.

Every group gets a new engine, is handed to it in the order of its rows and has it to itself: what a row's tokens are
computed beside is then a function of the group alone, so that a run that was broken off, or spread over machines, makes
the very logits, and therefore the text, of one that was not. Making an engine costs milliseconds, as the weights are
shared. Adapters belong to a context: rows with the same one are decoded together, those without any as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import AdapterError, ContextFullError, EngineError, GrammarError
from ..request import answer_text
from ..request_options import RequestOptions
from .embed import ROW_ERRORS, Ready, check_folder
from .groups import Group
from .options import BatchOptions
from .outcomes import BadRow, BatchResult, Outcome

if TYPE_CHECKING:
    from .._core import Engine, Event
    from ..plug import PersonaPlug

QUEUED = 2
"""Requests in the engine for each of its sequences: one that runs and one that waits, so that none stands idle."""


@dataclass(slots=True)
class _Answer:
    """What has come of a row so far."""

    ready: Ready
    text: list[str] = field(default_factory=list)
    tokens: int = 0
    logprobs: list[float] = field(default_factory=list)

    def add(self, event: Event) -> None:
        self.text.append(event.text)
        self.tokens += len(event.tokens)
        self.logprobs += event.logprobs


class Decoder:
    """Answers groups, one at a time. Not for several threads at once."""

    def __init__(self, plug: PersonaPlug, options: BatchOptions) -> None:
        self._plug, self._options = plug, options

    def answers(self, group: Group, rows: Sequence[Ready | BadRow]) -> Iterator[Outcome]:
        """Outcomes as they come about: bad rows and labels first met, then generations as they are finished.

        Raises EngineError when llama.cpp fails for good.
        """
        engine = self._engine(rows)
        for together in by_adapter(rows):
            yield from self._answers(engine, group, together)

    def _answers(self, engine: Engine, group: Group, rows: Sequence[Ready | BadRow]) -> Iterator[Outcome]:
        waiting = deque(rows)
        live: dict[int, _Answer] = {}
        while waiting or live:
            while waiting and len(live) < QUEUED * self._options.sequences:
                row = waiting.popleft()
                try:
                    if isinstance(row, BadRow):
                        yield row
                    elif row.choice or row.labels:
                        yield self._chosen(engine, row)
                    else:
                        live[engine.submit(row.prompt, row.request.sampling, _options(row))] = _Answer(row)
                except ROW_ERRORS as error:
                    assert isinstance(row, Ready)
                    check_folder(self._plug, error)
                    yield _failed(group, row, error)
            if live:
                yield from self._step(engine, group, live)

    def _engine(self, rows: Sequence[Ready | BadRow]) -> Engine:
        """With no more positions a sequence than these rows can take: memory and the time to make it grow with them."""
        from .._native import core

        options = self._options
        most = max((_positions(row) for row in rows if isinstance(row, Ready)), default=1)
        return core.Engine(
            self._plug.llm.model,
            context=min(self._plug.llm.context, most),
            sequences=options.sequences,
            threads=options.threads,
            threads_batch=options.threads,
        )

    def _step(self, engine: Engine, group: Group, live: dict[int, _Answer]) -> Iterator[Outcome]:
        try:
            events = engine.step()
        except (EngineError, GrammarError, AdapterError) as error:
            check_folder(self._plug, error)
            dropped = [sequence for sequence in live if not engine.is_live(sequence)]
            if not dropped or len(dropped) == len(live) > 1:  # not the fault of a row: the run can be started again
                raise
            for sequence in dropped:
                yield _failed(group, live.pop(sequence).ready, error)
            return
        for event in events:
            live[event.sequence].add(event)
            if event.finish:
                answer = live.pop(event.sequence)
                yield _result(answer.ready, "".join(answer.text), event.finish, answer)

    def _chosen(self, engine: Engine, row: Ready) -> BatchResult:
        """The likeliest label, by the exact log-probability of each, its end token included; or by votes."""
        if row.choice:
            votes = dict(zip(row.choice.labels, row.choice.logprobs, strict=True))
            return _result(row, row.choice.label, "label", None, label=row.choice.label, logprobs=votes)
        scores = engine.score(row.prompt, row.labels, _options(row))
        sums = {label: float(sum(each)) for label, each in zip(row.request.labels, scores, strict=True)}
        label = max(sums, key=lambda name: sums[name])
        return _result(row, label, "label", None, label=label, logprobs=sums)


def by_adapter(rows: Sequence[Ready | BadRow]) -> list[list[Ready | BadRow]]:
    """The rows of each adapter in their order; what needs no LLM is with those that need no adapter."""
    found: dict[str, list[Ready | BadRow]] = {}
    for row in rows:
        found.setdefault(row.adapter if isinstance(row, Ready) else "", []).append(row)
    return list(found.values())


def _options(row: Ready) -> RequestOptions | None:
    return RequestOptions(adapter=row.adapter) if row.adapter else None


def _positions(row: Ready) -> int:
    """That a row can take at most, answer included."""
    more = max(map(len, row.labels)) if row.labels else row.request.sampling.max_tokens
    return max(1, len(row.prompt) + more + 1)


def _result(
    row: Ready,
    text: str,
    finish: str,
    answer: _Answer | None,
    *,
    label: str | None = None,
    logprobs: dict[str, float] | None = None,
) -> BatchResult:
    request = row.request
    return BatchResult(
        id=request.id,
        user=request.user,
        text=answer_text(text) if answer else text,
        finish_reason=finish,
        prompt_tokens=len(row.prompt),
        generated_tokens=answer.tokens if answer else 0,
        persona_digest=row.persona_digest,
        history_items=row.history_items,
        method=request.method,
        cold_start=row.cold_start,
        untrained=row.untrained,
        label=label,
        logprobs=logprobs,
        token_logprobs=tuple(answer.logprobs) if answer and request.sampling.logprobs else None,
        kept=request.kept,
        number=request.number,
    )


def _failed(group: Group, row: Ready, error: Exception) -> BadRow:
    request, reason = row.request, str(error)
    if isinstance(error, ContextFullError):  # of the remedies that it names the engine is none of the caller's
        reason = f"{reason.partition(';')[0]}; shorten the prompt, or let long ones be cut: --cut, in Python cut=True"
    return BadRow(file=group.name, number=request.number, id=request.id, reason=reason, row=request.row)
