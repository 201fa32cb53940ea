"""PersonaPlug for asyncio: many requests at once share the engine's batches, and the event loop never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from personaplug_edge.aio import result_of
from personaplug_edge.request import answer_text
from personaplug_edge.results import Choice, Personalized, Reply, Score

if TYPE_CHECKING:
    from personaplug_edge.beams import BeamResult, Beams
    from personaplug_edge.generation import Chunk
    from personaplug_edge.personalizer import PersonaMode
    from personaplug_edge.plug import PersonaPlug
    from personaplug_edge.sampling import Sampling
    from personaplug_edge.store import NewItem
    from personaplug_edge.user import User


class AsyncPersonaPlug:
    """The requests of a loaded :class:`PersonaPlug`, awaited; the plug stays the caller's, to use beside and to close.

    Personas are made on a thread, answers come from the engine's own. Cancelling a task cancels its request, and
    leaves the others of its batch alone; of ``choose``, ``score`` and ``beam_search``, which run on a thread whole, it
    ends the waiting alone: the thread goes on to the end of what it does. Load the plug with as many ``sequences`` as
    are to run together.
    """

    def __init__(self, plug: PersonaPlug) -> None:
        self.plug = plug
        """the plug itself"""

    async def generate(
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
        """As :meth:`PersonaPlug.generate`."""
        request = await self._personalized(text, user, method, persona, history)
        options = replace(request.options, deadline=deadline)
        with self.plug.prefixes.settled(request):
            result = await self.plug.llm.agenerate(request.runnable, self.plug.sampling_of(request, sampling), options)
        return Reply.of(result, request, method or persona)

    async def stream(
        self,
        text: str,
        *,
        user: User | str | None = None,
        method: str | None = None,
        persona: PersonaMode = "query",
        history: Sequence[NewItem] | None = None,
        sampling: Sampling | None = None,
        deadline: float | None = None,
    ) -> AsyncGenerator[Chunk, None]:
        """As :meth:`PersonaPlug.stream`; ``aclose`` stops the work."""
        request = await self._personalized(text, user, method, persona, history)
        options = replace(request.options, deadline=deadline)
        answer = self.plug.llm.astream(request.runnable, self.plug.sampling_of(request, sampling), options)
        started = False
        with self.plug.prefixes.settled(request):
            async with aclosing(answer) as chunks:
                async for chunk in chunks:
                    if not started and chunk.text:
                        started, chunk.text = True, answer_text(chunk.text)
                    yield chunk

    async def samples(
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
        """As :meth:`PersonaPlug.samples`; cancelling the task cancels all of them."""
        request = await self._personalized(text, user, method, persona, history)
        options = replace(request.options, deadline=deadline)
        with self.plug.prefixes.settled(request):
            asked = self.plug.sampling_of(request, sampling)
            running = self.plug.llm.submit_samples(request.runnable, asked, n, options)
            try:
                return [Reply.of(await result_of(each), request, method or persona) for each in running]
            finally:
                for each in running:
                    each.cancel_soon()

    async def beam_search(
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
        """As :meth:`PersonaPlug.beam_search`; give a ``deadline`` where a cancelled search must not go on for long."""
        return await asyncio.to_thread(
            self.plug.beam_search,
            text,
            beams,
            user=user,
            method=method,
            persona=persona,
            history=history,
            deadline=deadline,
        )

    async def choose(
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
        """As :meth:`PersonaPlug.choose`; a cancelled one is computed to its end."""
        return await asyncio.to_thread(
            self.plug.choose,
            text,
            labels,
            user=user,
            method=method,
            persona=persona,
            history=history,
            request=request,
        )

    async def score(
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
        """As :meth:`PersonaPlug.score`; a cancelled one is computed to its end."""
        return await asyncio.to_thread(
            self.plug.score,
            text,
            answer,
            user=user,
            method=method,
            persona=persona,
            history=history,
            request=request,
        )

    async def _personalized(
        self,
        text: str,
        user: User | str | None,
        method: str | None,
        persona: PersonaMode,
        history: Sequence[NewItem] | None,
    ) -> Personalized:
        return await asyncio.to_thread(
            self.plug.personalize, text, user=user, method=method, persona=persona, history=history
        )
