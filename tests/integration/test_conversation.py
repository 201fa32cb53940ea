"""A conversation: turns are read once, the persona follows the history, and nothing outlives what it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.onnx_models import make_bundle
from personaplug_edge import Chunk, Conversation, PersonaPlug, Sampling
from personaplug_edge.errors import ContextFullError, MethodError, PersonaPlugError, PromptError, TextError

SPORT = [("a goal in extra time", "sports"), ("the coach left the club", "sports")]
SHORT = Sampling(max_tokens=6, ignore_end=True)


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("chat") / "random", llm_file=tiny_gguf, name="random", tokens=2)


@pytest.fixture
def plug(folder: Path) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(folder, threads=1) as plug:
        plug.user("anna").remember_all(SPORT)
        yield plug


def chat(plug: PersonaPlug, **options: object) -> Conversation:
    return plug.chat(user="anna", sampling=SHORT, **options)  # type: ignore[arg-type]


def reused(plug: PersonaPlug, talk: Conversation, text: str) -> tuple[int, int]:
    """Positions of the next prompt, and how many of them were taken from what was kept."""
    seen = []
    generate = plug.llm.stream

    def spy(*args: object, **kwargs: object) -> Iterator[object]:
        timings = yield from generate(*args, **kwargs)  # type: ignore[arg-type]
        seen.append(timings)

    plug.llm.stream = spy  # type: ignore[method-assign, assignment]
    try:
        talk.say(text)
    finally:
        del plug.llm.stream  # type: ignore[method-assign]
    return seen[0].prompt_tokens, seen[0].reused_tokens


def test_the_first_turn_is_a_request_with_the_static_persona(plug: PersonaPlug) -> None:
    with chat(plug) as talk:
        turn = talk.say("hello there")
        reply = plug.generate("hello there", user="anna", persona="static", sampling=SHORT)
        assert turn.answer == reply.text and turn.finish_reason == "length"
        assert turn.tokens[-6:] == reply.tokens


def test_a_later_turn_reads_what_is_new_in_it_and_answers_as_if_it_had_read_all(plug: PersonaPlug) -> None:
    with chat(plug) as talk:
        first = talk.say("hello there")
        asked, taken = reused(plug, talk, "and then")
        head = plug.personalize("x", user="anna", persona="static").head
        assert taken == head + len(first.tokens) - 1  # the last token of an answer is not decoded
        assert asked > taken
        whole = plug.personalize("x", user="anna", persona="static").prompt.head(head)
        past = [token for turn in talk.turns[:-1] for token in turn.tokens]
        request = list(talk.turns[-1].tokens[: -SHORT.max_tokens])
        fresh = plug.llm.generate(type(whole)((*whole.spans, past + request)), SHORT)
        assert tuple(fresh.tokens) == talk.turns[-1].tokens[-SHORT.max_tokens :]


@pytest.mark.parametrize("change", ["remember", "forget", "erase"])
def test_a_changed_history_speaks_at_once_and_what_it_made_is_gone(plug: PersonaPlug, change: str) -> None:
    anna = plug.user("anna")
    with chat(plug) as talk:
        talk.say("hello there")
        before = talk._personalized("x").persona
        assert plug.llm.engine.prefix_stats()["count"] > 0
        if change == "remember":
            anna.remember("the vote was late", output="politics")
        elif change == "forget":
            anna.forget(anna.history()[0].id)
        else:
            anna.erase()
        assert plug.llm.engine.prefix_stats()["count"] == 0
        asked, taken = reused(plug, talk, "and then")
        assert taken == 0 and asked > 0
        assert (talk._personalized("x").persona != before).any()


def test_closing_forgets_what_was_kept(plug: PersonaPlug) -> None:
    with chat(plug) as talk:
        talk.say("hello there")
        assert plug.llm.engine.prefix_stats()["count"] == 1
    assert plug.llm.engine.prefix_stats()["count"] == 0
    left = chat(plug)
    left.say("hello there")
    del left
    assert plug.llm.engine.prefix_stats()["count"] == 0


def test_a_closed_conversation_is_over(plug: PersonaPlug) -> None:
    plug.user("carl").remember("a secret")
    talk = plug.chat(user="carl", sampling=SHORT)
    talk.say("hello there")
    talk.close()
    with pytest.raises(PromptError, match="closed"):
        talk.say("hello again")
    assert len(talk.turns) == 1
    plug.user("carl").erase()


def test_two_people_never_share_what_is_kept(plug: PersonaPlug) -> None:
    with plug.chat(sampling=SHORT) as one, plug.chat(sampling=SHORT) as two:
        one.say("hello there")
        assert reused(plug, two, "hello there")[1] == 0  # the same cold start and words, another conversation


def test_the_oldest_turns_give_way_when_the_context_is_full(folder: Path) -> None:
    with PersonaPlug.load(folder, threads=1, context=64) as plug, plug.chat(sampling=SHORT) as talk:
        for number in range(12):
            talk.say(f"request number {number}")
        assert len(talk.turns) == 12 and 0 < talk.forgotten < 12
        answers = [turn.answer for turn in talk.turns]
    with PersonaPlug.load(folder, threads=1, context=64) as plug, plug.chat(sampling=SHORT, slide=False) as talk:
        with pytest.raises(ContextFullError):
            for number in range(12):
                talk.say(f"request number {number}")
        fitted = len(talk.turns)
        assert 0 < fitted < 12 and [turn.answer for turn in talk.turns] == answers[:fitted]


def test_a_long_answer_slides(folder: Path) -> None:
    long = Sampling(max_tokens=120, ignore_end=True)
    with PersonaPlug.load(folder, threads=1, context=64) as plug, plug.chat(sampling=long) as talk:
        assert len(talk.say("hello there").tokens) > 120


def test_what_was_read_of_an_answer_stands(plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Chunk(" one", [5], []), Chunk(" two", [6], []), Chunk(" three", [7], [], "length")]
    with chat(plug) as talk:
        with monkeypatch.context() as patch:
            patch.setattr(plug.llm, "stream", lambda *_: (piece for piece in pieces))
            chunks = talk.stream("hello there")
            assert [next(chunks).text, next(chunks).text] == ["one", " two"]
            chunks.close()  # type: ignore[attr-defined]
        (turn,) = talk.turns
        assert (turn.answer, turn.finish_reason, turn.tokens[-2:]) == ("one two", "cancelled", (5, 6))
        assert talk.say("and then").finish_reason == "length"


def test_bad_requests_leave_the_conversation_as_it_was(plug: PersonaPlug) -> None:
    with chat(plug) as talk:
        talk.say("hello there")
        with pytest.raises(TextError):
            talk.say("")
        with pytest.raises(ContextFullError):
            talk.say("word " * 2000)
        assert len(talk.turns) == 1
        assert talk.say("and then").finish_reason == "length"
    with pytest.raises(MethodError):
        plug.chat(user="anna", method="no such method").say("hello")
    with pytest.raises(PersonaPlugError):
        plug.chat(user="anna", method="majority").say("hello")


def test_one_turn_at_a_time(plug: PersonaPlug) -> None:
    with chat(plug) as talk:
        chunks = talk.stream("hello there")
        next(chunks)
        with pytest.raises(PromptError, match="being answered"):
            talk.say("and then")
        list(chunks)
        assert talk.say("and then").finish_reason == "length"


def test_text_of_the_history_stands_in_front_of_its_request_once_and_goes_with_the_history(plug: PersonaPlug) -> None:
    reply = plug.generate("goal", user="anna", method="pplug+recency:1", sampling=SHORT)
    with chat(plug, method="pplug+recency:1") as talk:
        first = talk.say("goal")
        assert first.answer == reply.text and "the coach left the club" in first.front
        assert first.answer != plug.generate("goal", user="anna", method="pplug", sampling=SHORT).text
        second = talk.say("goal")
        assert second.front == "" and len(second.tokens) < len(first.tokens)
        plug.user("anna").forget(plug.user("anna").history()[-1].id)
        third = talk.say("goal")
        assert "a goal in extra time" in third.front and not any(turn.front for turn in talk.turns[:2])
        assert talk.turns[0].tokens == (*plug._request.tokens("goal"), *first.tokens[first.asked :])
    with chat(plug, method="bm25:1") as talk:
        plug.user("anna").remember_all(["the vote was late", "a film", "a song"])
        fronts = [talk.say(text).front for text in ("a goal", "the vote", "a goal")]
        assert "goal in" in fronts[0] and "the vote" in fronts[1] and fronts[2] == ""
