"""What PersonaPlug asks of its LLM: answers, whole, piece by piece or several; conversations; scores, choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from personaplug_edge.beams import BeamResult, Beams
from personaplug_edge.conversation import Conversation
from personaplug_edge.personalizer import parts_of
from personaplug_edge.request import RequestText, answer_chunks, answer_text, checked_labels
from personaplug_edge.results import Choice, Personalized, Reply, Score
from personaplug_edge.sampling import checked_sampling
from personaplug_edge.store.checks import check_user
from personaplug_edge.user import User

if TYPE_CHECKING:
    from personaplug_edge.engine import LLM, Chunk
    from personaplug_edge.personalizer import Personalizer, PersonaMode
    from personaplug_edge.prefixes import Prefixes
    from personaplug_edge.sampling import Sampling
    from personaplug_edge.store import NewItem


class Answers:
    """The requests of a :class:`PersonaPlug`, which sets the attributes."""

    llm: LLM
    """the frozen LLM"""
    personalizer: Personalizer
    """puts what a method contributes around a request"""
    _request: RequestText
    prefixes: Prefixes
    """what the LLM computed of static personas"""
    _sampling: Sampling

    def generate(
        self,
        text: str,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
        deadline: float | None = None,
    ) -> Reply:
        """Answers a request as the user would like it.

        Args:
            text: the request; the bundle's template is put around it.
            user: whose history makes the persona; None with persona "query" or "static" is a user without history.
            method: such as "pplug+bm25:1" or "summary+dense:4", see the docs' page on methods; None takes ``persona``.
            persona: see :data:`PersonaMode`, per call.
            history: items to use in place of a stored history; nothing is stored.
            sampling: how to decode; None takes the bundle's.
            deadline: seconds from now, waiting for others included; then the answer ends as far as it has come, with
                the finish reason "deadline".

        Raises:
            MethodError: the method is unknown, cannot be combined as asked, or failed.
            TextError, ContextFullError, SamplingError, GrammarError: the request cannot be run as it is.
            QueueFullError: as many requests wait as may.
        """
        request = self.personalize(text, user=user, method=method, persona=persona, history=history)
        with self.prefixes.used(request):
            result = self.llm.generate(
                request.runnable,
                self.sampling_of(request, sampling),
                replace(request.options, deadline=deadline),
            )
        return Reply.of(result, request, method or persona)

    def samples(
        self,
        text: str,
        n: int,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
        deadline: float | None = None,
    ) -> list[Reply]:
        """``n`` answers to one request, which is read once; the i-th is that of :meth:`generate` with ``seed + i``.

        With temperature 0 all are the same. Errors as :meth:`generate`.
        """
        request = self.personalize(text, user=user, method=method, persona=persona, history=history)
        options = replace(request.options, deadline=deadline)
        with self.prefixes.settled(request):
            running = self.llm.submit_samples(request.runnable, self.sampling_of(request, sampling), n, options)
            try:
                return [Reply.of(each.result(), request, method or persona) for each in running]
            finally:
                for each in running:
                    each.cancel()

    def stream(
        self,
        text: str,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
        deadline: float | None = None,
    ) -> Iterator[Chunk]:
        """The answer piece by piece, in whole characters; closing the iterator stops the work."""
        request = self.personalize(text, user=user, method=method, persona=persona, history=history)
        options = replace(request.options, deadline=deadline)
        chunks = self.llm.stream(request.runnable, self.sampling_of(request, sampling), options)
        with self.prefixes.used(request), closing(chunks):
            yield from answer_chunks(chunks)

    def beam_search(
        self,
        text: str,
        beams: Beams | None = None,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        deadline: float | None = None,
    ) -> list[BeamResult]:
        """The likeliest whole answers, best first, as the paper decodes (4 beams); other requests go on meanwhile.

        Errors as :meth:`generate`.
        """
        request = self.personalize(text, user=user, method=method, persona=persona, history=history)
        if beams is None:
            beams = Beams(max_tokens=self._sampling.max_tokens, stop=tuple(self._sampling.stop))
        found = self.llm.beam_search(request.runnable, beams, replace(request.options, deadline=deadline))
        return [replace(each, text=answer_text(each.text)) for each in found]

    def chat(
        self,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "static",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
        slide: bool = True,
    ) -> Conversation:
        """A conversation in which every request is answered in the light of those before; see :class:`Conversation`."""
        parts_of(method, persona)  # what is wrong is said now, not with the first turn
        user_id = user.id if isinstance(user, User) else user
        return Conversation(
            self.personalizer,
            self._request,
            self.prefixes,
            self._sampling if sampling is None else checked_sampling(sampling),
            user=None if user_id is None else check_user(user_id),
            method=method,
            persona=persona,
            history=history,
            slide=slide,
        )

    def score(
        self,
        text: str,
        answer: str,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        request: Personalized | None = None,
    ) -> Score:
        """The log-probability of an answer, its end token included; ``request`` reuses a :meth:`personalize` result."""
        request = request or self.personalize(text, user=user, method=method, persona=persona, history=history)
        tokens = self._request.answer_tokens(answer)
        (logprobs,) = self.llm.score(request.runnable, [tokens], request.options)
        return Score(float(sum(logprobs)), tuple(tokens), tuple(logprobs))

    def choose(
        self,
        text: str,
        labels: Sequence[str],
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        request: Personalized | None = None,
    ) -> Choice:
        """The likeliest of several labels, by the exact log-probability of each, its end token included.

        Labels are told apart without the white space around them.

        Raises:
            PromptError: no labels, one of them twice, or a bare str in place of a list.
            TextError, ContextFullError: the request or a label cannot be run as it is.
        """
        labels = checked_labels(labels)
        request = request or self.personalize(text, user=user, method=method, persona=persona, history=history)
        if request.votes is not None:
            return Choice.of_votes(labels, request)
        tokens = [self._request.answer_tokens(label) for label in labels]
        scores = self.llm.score(request.prompt, tokens, request.options)
        return Choice.of_scores(labels, scores, request)

    def personalize(
        self,
        text: str,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        instruction: bool = True,
        cut: bool = False,
    ) -> Personalized:
        """The prompt of a request; see :meth:`personaplug_edge.personalizer.Personalizer.prompt`."""
        user_id = user.id if isinstance(user, User) else user
        return self.personalizer.prompt(
            text, user=user_id, method=method, persona=persona, history=history, instruction=instruction, cut=cut
        )

    def sampling_of(self, request: Personalized, asked: Sampling | None = None) -> Sampling:
        """How a request is decoded: as asked, or else as the bundle says with what the method hints at."""
        return request.sampling(self._sampling) if asked is None else asked
