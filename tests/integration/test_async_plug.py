"""PersonaPlug awaited: the same answers, many at once, and a cancelled one harms no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.onnx_models import make_bundle
from personaplug_edge import AsyncPersonaPlug, Beams, PersonaPlug, Sampling
from personaplug_edge.errors import MethodError, TextError

USERS = [f"user {number}" for number in range(6)]
SHORT = Sampling(max_tokens=8, ignore_end=True)
LONG = Sampling(max_tokens=200, ignore_end=True)


@pytest.fixture(scope="module")
def plug(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    folder = make_bundle(tmp_path_factory.mktemp("async") / "random", llm_file=tiny_gguf, name="random")
    with PersonaPlug.load(folder, threads=1, sequences=4) as plug:
        for number, user in enumerate(USERS):
            plug.user(user).remember(f"text number {number * 7}", output="label")
        yield plug


def test_many_at_once_answer_as_one_by_one(plug: PersonaPlug) -> None:
    async def ask() -> list[str]:
        awaited = AsyncPersonaPlug(plug)
        replies = await asyncio.gather(*(awaited.generate("hello there", user=u, sampling=SHORT) for u in USERS))
        return [reply.text for reply in replies]

    alone = [plug.generate("hello there", user=user, sampling=SHORT).text for user in USERS]
    assert asyncio.run(ask()) == alone
    assert plug.llm.engine.live == 0


def test_streams_and_cancellation(plug: PersonaPlug) -> None:
    async def ask() -> tuple[str, bool]:
        awaited = AsyncPersonaPlug(plug)
        doomed = asyncio.create_task(awaited.generate("hello there", user=USERS[1], sampling=LONG))
        await asyncio.sleep(0)
        text = ""
        async for chunk in awaited.stream("hello there", user=USERS[0], sampling=SHORT):
            text += chunk.text
            doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        return text, doomed.cancelled()

    text, cancelled = asyncio.run(ask())
    assert cancelled and text == plug.generate("hello there", user=USERS[0], sampling=SHORT).text


def test_choices_scores_samples_and_beams(plug: PersonaPlug) -> None:
    drawn = Sampling(max_tokens=6, temperature=1.5, seed=5, ignore_end=True)
    few = Beams(beams=2, returned=2, max_tokens=4)
    asked = {"user": USERS[0], "persona": "static"}

    async def ask() -> list[object]:
        awaited = AsyncPersonaPlug(plug)
        choice, score, replies, found = await asyncio.gather(
            awaited.choose("hello there", ["one", "two"], **asked),
            awaited.score("hello there", "one", **asked),
            awaited.samples("hello there", 3, sampling=drawn, **asked),
            awaited.beam_search("hello there", few, **asked),
        )
        return [choice.label, score.tokens, [each.text for each in replies], [each.text for each in found]]

    assert asyncio.run(ask()) == [
        plug.choose("hello there", ["one", "two"], **asked).label,
        plug.score("hello there", "one", **asked).tokens,
        [each.text for each in plug.samples("hello there", 3, sampling=drawn, **asked)],
        [each.text for each in plug.beam_search("hello there", few, **asked)],
    ]
    assert plug.llm.engine.live == 0


def test_cancelled_samples_and_choices_hold_nobody_up(plug: PersonaPlug) -> None:
    async def ask() -> str:
        awaited = AsyncPersonaPlug(plug)
        doomed = [
            asyncio.create_task(awaited.samples("hello there", 3, user=USERS[1], sampling=LONG)),
            asyncio.create_task(awaited.choose("hello there", ["one", "two"], user=USERS[1])),
        ]
        await asyncio.sleep(0)
        doomed[1].cancel()
        await asyncio.sleep(0.02)
        doomed[0].cancel()
        ended = await asyncio.gather(*doomed, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended)
        return (await awaited.generate("hello there", user=USERS[0], sampling=SHORT)).text

    assert asyncio.run(ask()) == plug.generate("hello there", user=USERS[0], sampling=SHORT).text
    assert plug.llm.engine.live == 0


def test_errors_are_the_same(plug: PersonaPlug) -> None:
    awaited = AsyncPersonaPlug(plug)
    with pytest.raises(TextError):
        asyncio.run(awaited.generate(""))
    with pytest.raises(MethodError):
        asyncio.run(awaited.generate("hello", method="none such"))


def test_samples_and_deadlines(plug: PersonaPlug) -> None:
    drawn = Sampling(max_tokens=8, temperature=1.5, seed=5, ignore_end=True)
    found = [reply.text for reply in plug.samples("hello there", 3, user=USERS[0], sampling=drawn)]
    assert len(set(found)) > 1
    again = [
        plug.generate("hello there", user=USERS[0], sampling=Sampling(**{**vars(drawn), "seed": 5 + i})).text
        for i in range(3)
    ]
    assert found == again
    late = plug.generate("hello there", user=USERS[0], sampling=LONG, deadline=1e-6)
    assert late.finish_reason == "deadline"
