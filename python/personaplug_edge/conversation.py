"""A conversation: every turn is read once, and the persona speaks in all of them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from personaplug_edge.errors import PromptError
from personaplug_edge.personalize.registry import puts_text
from personaplug_edge.prompt import Prompt
from personaplug_edge.request import RequestText, answer_chunks
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.sampling import checked_sampling

if TYPE_CHECKING:
    from personaplug_edge.generation import Chunk
    from personaplug_edge.personalizer import Personalizer, PersonaMode
    from personaplug_edge.prefixes import Prefixes
    from personaplug_edge.results import Attribution, Personalized
    from personaplug_edge.sampling import Sampling
    from personaplug_edge.store import NewItem


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said and what was answered."""

    text: str
    """the request"""
    answer: str
    """the answer, as far as it came"""
    finish_reason: str
    """why it ended; "cancelled" where the caller stopped reading"""
    tokens: tuple[int, ...]
    """of both, as the next turn reads them"""
    front: str = ""
    """text of the history that the method put in front of the request"""
    asked: int = 0
    """of ``tokens``, those of the request with that text"""


class Conversation:
    """Requests that are read one after the other, each in the light of those before. Made by :meth:`PersonaPlug.chat`.

    The engine keeps the keys and values of all turns, so that a turn costs what is new in it. The persona is that of
    the first request (with "static", of the history alone), and is made anew when the history has changed. Text that a
    method takes from the history stands in front of the request that it was chosen for, unless it is there already;
    when the history has changed, what earlier turns had is taken away. When the
    context is full the oldest turns are left out, or an answer slides over them; with ``slide=False`` a request that
    does not fit raises ContextFullError. Turns go one at a time; a context manager; closing it forgets what was kept.
    """

    def __init__(
        self,
        personalizer: Personalizer,
        request: RequestText,
        prefixes: Prefixes,
        sampling: Sampling,
        *,
        user: str | None,
        method: str | None,
        persona: PersonaMode,
        history: Sequence[NewItem] | None,
        slide: bool,
    ) -> None:
        self.turns: list[Turn] = []
        """what was said so far"""
        self.forgotten = 0
        """turns at the beginning that no longer fit the context"""
        self._personalizer, self._request, self._prefixes, self._sampling = personalizer, request, prefixes, sampling
        self._method, self._persona, self._history, self._slide = method, persona, history, slide
        self._user, self._stored = user, user if history is None else None
        self._owner = f"conversation:{uuid.uuid4().hex}"
        self._made: Personalized | None = None
        self._closed = False
        self._speaking = threading.Lock()
        if self._stored is not None:
            prefixes.join(self._stored, self._owner)

    def say(self, text: str, *, sampling: Sampling | None = None, deadline: float | None = None) -> Turn:
        """The answer to a request. Errors as :meth:`PersonaPlug.generate`; then the conversation is as before."""
        for _ in self.stream(text, sampling=sampling, deadline=deadline):
            pass
        return self.turns[-1]

    def stream(self, text: str, *, sampling: Sampling | None = None, deadline: float | None = None) -> Iterator[Chunk]:
        """The answer piece by piece; what was read of it when the iterator is closed stands as the answer."""
        if not self._speaking.acquire(blocking=False):
            raise PromptError("a turn of this conversation is being answered; read its stream to the end or close it")
        if self._closed:
            self._speaking.release()
            raise PromptError("this conversation is closed; begin another by chat()")
        tokens: list[int] = []
        said, finish = "", "cancelled"
        try:
            made, front, shown = self._worded(text)
            sampling = made.sampling(self._sampling) if sampling is None else checked_sampling(sampling)
            front, asked = self._fitted(made, front, shown, sampling.max_tokens)
            chunks = self._request.llm.stream(self._prompt(made, asked), sampling, self._options(made, deadline))
            with closing(chunks):
                for chunk in answer_chunks(chunks):
                    tokens += chunk.tokens
                    said += chunk.text
                    finish = chunk.finish_reason or finish
                    yield chunk
        finally:
            if tokens or finish != "cancelled":
                end = self._request.llm.model.eos
                closed = [end] if finish == "end" and end >= 0 else []
                self.turns.append(Turn(text, said, finish, (*asked, *tokens, *closed), front, len(asked)))
            if self._stored is not None and self._made is not None:
                self._prefixes.settle(self._stored, self._made.revision)
            self._speaking.release()

    def close(self) -> None:
        """Forgets what the engine kept of the conversation, which is over; ``turns`` stay."""
        self._closed = True
        self._prefixes.leave(self._stored, self._owner)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_speaking"):
            self.close()

    @property
    def attribution(self) -> tuple[Attribution, ...]:
        """Which history items weigh how much in the persona that speaks now."""
        return self._made.attribution if self._made else ()

    def _personalized(self, text: str) -> Personalized:
        """The persona of the conversation; a new one where the history is another than it was."""
        made = self._made
        if made is None or (
            self._stored is not None and self._personalizer.store.revision(self._stored) != made.revision
        ):
            made = self._made_of(text)
            if not made.head:
                raise PromptError(
                    "a conversation needs something in front of its requests; this method writes the prompt itself, or "
                    "asks no LLM: choose another"
                )
            self._made = made
            if self._puts_text:
                self.turns = [self._bare(turn) for turn in self.turns]
        return made

    def _made_of(self, text: str) -> Personalized:
        return self._personalizer.prompt(
            text, user=self._user, method=self._method, persona=self._persona, history=self._history
        )

    @property
    def _puts_text(self) -> bool:
        return self._method is not None and puts_text(self._method)

    def _bare(self, turn: Turn) -> Turn:
        """Without what stood of the history, which has changed, in its request."""
        asked = self._request.tokens(turn.text)
        return replace(turn, tokens=(*asked, *turn.tokens[turn.asked :]), front="", asked=len(asked))

    def _worded(self, text: str) -> tuple[Personalized, str, str]:
        """The persona that speaks, the text in front of this request, and the request as the method leaves it."""
        before = self._made
        made = self._personalized(text)
        if made is not before:
            return made, made.front, made.text
        if not self._puts_text:
            return made, "", text
        now = self._made_of(text)
        return made, now.front, now.text

    def _fitted(self, made: Personalized, front: str, text: str, answer: int) -> tuple[str, list[int]]:
        """The text in front, "" where the turns have it already, and the request's tokens with it; leaves out the
        oldest turns, so that the rest fits in front of the request and its answer.
        """
        asked = self._request.tokens(front + text)
        room = self._request.llm.context - made.head - len(asked) - answer
        turns = self.turns[self.forgotten :]
        while self._slide and turns and sum(len(turn.tokens) for turn in turns) > room:
            turns = turns[1:]
        self.forgotten = len(self.turns) - len(turns)
        if front and any(turn.front == front for turn in turns):
            return "", self._request.tokens(text)
        return front, asked

    def _options(self, made: Personalized, deadline: float | None) -> RequestOptions:
        return RequestOptions(
            owner=self._owner,
            keep_answer=True,
            slide=self._slide,
            protect=made.head,
            deadline=deadline,
            adapter=made.options.adapter,
        )

    def _prompt(self, made: Personalized, asked: list[int]) -> Prompt:
        """Head, the turns that are not forgotten, the request."""
        past = [token for turn in self.turns[self.forgotten :] for token in turn.tokens]
        return made.prompt.head(made.head) + Prompt.tokens(past + asked)
