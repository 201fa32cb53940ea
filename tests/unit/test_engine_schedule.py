"""Who runs when: the queue's end, deadlines, fair order, pooled cells, samples of one prompt, sliding."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_steps import IDS, drain, greedy, persona, words

from models import gguf_llama
from models.gguf_llama import Shape, TinyModel
from personaplug_edge._native import core
from personaplug_edge.engine import LLM
from personaplug_edge.errors import ContextFullError, EngineError, PromptError, QueueFullError, SamplingError
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.sampling import Sampling

END = 2
EXACT = {"threads": 1, "cache_type": "f32", "flash_attention": "off"}


@pytest.fixture
def engine(llm: LLM) -> Iterator[core.Engine]:
    """Four sequences, float32 cache; emptied after each test."""
    yield llm.engine
    llm.engine.reset()
    for owner in ("", "a", "b"):
        llm.engine.forget_prefixes(owner)


def make(tiny: TinyModel, **options: object) -> core.Engine:
    return core.Engine(core.Model(str(tiny.path)), **(EXACT | options))  # type: ignore[arg-type]


def test_a_full_queue_refuses_and_goes_on(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=1, queue=3)
    ids = [engine.submit(Prompt.tokens(IDS), greedy(2)) for _ in range(3)]
    with pytest.raises(QueueFullError, match="holds 3 requests"):
        engine.submit(Prompt.tokens(IDS), greedy(2))
    engine.step()  # one runs now
    with pytest.raises(QueueFullError):
        engine.submit_samples(Prompt.tokens(IDS), greedy(2), 2)
    ids.append(engine.submit(Prompt.tokens(IDS), greedy(2)))
    assert isinstance(QueueFullError("x"), EngineError)
    assert sorted(drain(engine)) == ids
    engine.cancel(engine.submit(Prompt.tokens(IDS), greedy(2)))
    assert engine.live == 0
    assert len([engine.submit(Prompt.tokens(IDS), greedy(1)) for _ in range(3)]) == 3


def test_deadlines_running_and_queued(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=1)
    running = engine.submit(Prompt.tokens(IDS), greedy(200), RequestOptions(deadline=0.05))
    engine.step()
    queued = engine.submit(Prompt.tokens(IDS), greedy(200), RequestOptions(deadline=0.05))
    patient = engine.submit(Prompt.tokens(IDS), greedy(3), RequestOptions(deadline=60))
    time.sleep(0.06)
    answers = drain(engine)
    assert [answers[i].finish for i in (running, queued, patient)] == ["deadline", "deadline", "length"]
    assert answers[queued].tokens == []
    assert engine.timings(running)["generated_tokens"] == 1
    assert engine.live == 0


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan"), float("inf"), 1e300, 10**400, "1"])
def test_deadlines_that_are_none(engine: core.Engine, deadline: float) -> None:
    with pytest.raises(PromptError, match="deadline"):
        engine.submit(Prompt.tokens(IDS), greedy(1), RequestOptions(deadline=deadline))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": (0,)}, "keep must be 1 to 6"),
        ({"keep": (7,)}, "keep must be 1 to 6"),
        ({"keep": (3, 3)}, "more than the one before"),
        ({"keep": (4, 2)}, "more than the one before"),
        ({"keep": (2**40,)}, "keep"),
        ({"keep": ("a",)}, "keep"),
        ({"keep": "12"}, "keep"),
        ({"common": -1}, "common must be 0 to 6"),
        ({"common": 7}, "common must be 0 to 6"),
        ({"common": 2**40}, "common"),
        ({"protect": 7}, "protect must be 0 to 6"),
        ({"protect": -1}, "protect"),
        ({"owner": "\ud800"}, "owner"),
        ({"owner": 3}, "owner"),
    ],
)
def test_options_that_cannot_be(engine: core.Engine, options: dict[str, object], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        engine.submit(Prompt.tokens(IDS), greedy(1), RequestOptions(**options))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="RequestOptions"):
        engine.submit(Prompt.tokens(IDS), greedy(1), object())  # type: ignore[arg-type]
    assert engine.live == 0


def test_an_owner_with_fewer_running_goes_first(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=2)
    busy = [engine.submit(Prompt.tokens(IDS), greedy(4), RequestOptions(owner="a")) for _ in range(5)]
    rare = engine.submit(Prompt.tokens(IDS), greedy(4), RequestOptions(owner="b"))
    ended: list[int] = []
    while events := engine.step():
        ended += [event.sequence for event in events if event.finish]
    assert set(ended[:2]) == {busy[0], rare}
    assert ended[2:] == busy[1:]


def test_a_short_prompt_passes_a_long_one(tiny: TinyModel) -> None:
    """Of 16 positions a step half are the long prompt's: the short one needs one step, the long one at most 25."""
    engine = make(tiny, sequences=2, batch=16)
    long = engine.submit(words(0, 200), greedy(1))
    short = engine.submit(words(1, 8), greedy(1))
    assert [event.sequence for event in engine.step()] == [short]
    steps = 1
    while not any(event.sequence == long for event in engine.step()):
        steps += 1
    assert steps == 12  # alone from the second step on, 16 of 192 positions each


def test_pooled_cells_admit_what_fits(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=4, cells=256, context=256)
    alone = make(tiny, sequences=1)
    prompts = [persona(i) + words(i, 20 + 10 * i) for i in range(6)]
    ids = [engine.submit(prompt, greedy(60)) for prompt in prompts]
    answers, together = {}, 0
    while engine.live:
        events = engine.step()
        together = max(together, len(events))
        for event in events:
            answers.setdefault(event.sequence, []).extend(event.tokens)
    assert together == 2  # 81 + 91 cells, not 101 more
    for prompt, sequence in zip(prompts, ids, strict=True):
        other = alone.submit(prompt, greedy(60))
        assert drain(alone)[other].tokens == answers[sequence]


def test_a_large_request_is_not_overtaken_for_ever(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=4, cells=256, context=256)
    small = [engine.submit(words(i, 10), greedy(40)) for i in range(4)]
    engine.step()
    large = engine.submit(words(9, 200), greedy(40))
    small += [engine.submit(words(i, 10), greedy(10)) for i in range(60)]
    answers = drain(engine)
    order = [sequence for sequence in answers if answers[sequence].finish]
    assert set(order) == {*small, large}
    assert order.index(large) < 25  # the first four, and 16 that passed it
    with pytest.raises(ContextFullError):
        engine.submit(words(0, 257), greedy(1))
    with pytest.raises(EngineError, match="cells"):
        make(tiny, cells=-1)


@pytest.mark.parametrize("cells", [0, 256])
def test_scoring_beside_a_sequence_that_may_fill_the_context(tiny: TinyModel, cells: int) -> None:
    engine = make(tiny, sequences=1, context=256, cells=cells)
    expected = engine.score(Prompt.tokens(IDS), [[300, 301]])
    engine.submit(Prompt.tokens(IDS), greedy(250))
    engine.step()
    assert engine.score(Prompt.tokens(IDS), [[300, 301]])[0] == pytest.approx(expected[0], abs=1e-4)


def test_scoring_beside_a_pool(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=2, cells=256, context=128)
    expected = engine.score(Prompt.tokens(IDS), [[300, 301], [302]])
    engine.submit(Prompt.tokens(IDS), greedy(20))
    engine.step()
    for found, wanted in zip(engine.score(Prompt.tokens(IDS), [[300, 301], [302]]), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("cells", [0, 512])
def test_samples_equal_single_requests(tiny: TinyModel, cells: int) -> None:
    engine = make(tiny, sequences=3, cells=cells)
    prompt = persona(4) + words(4, 30)
    sampling = Sampling(max_tokens=12, temperature=1.0, seed=40, logprobs=2, ignore_end=True)
    ids = engine.submit_samples(prompt, sampling, 7)
    answers = drain(engine)
    reused = [engine.timings(i)["reused_tokens"] for i in ids]
    assert reused == [0] + [32] * 6
    alone = make(tiny, sequences=1)
    for i, sequence in enumerate(ids):
        single = alone.submit(
            prompt, Sampling(max_tokens=12, temperature=1.0, seed=40 + i, logprobs=2, ignore_end=True)
        )
        expected = drain(alone)[single]
        assert answers[sequence].tokens == expected.tokens
        assert answers[sequence].logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert len({tuple(answers[i].tokens) for i in ids}) > 1


def test_samples_go_on_without_their_first(tiny: TinyModel) -> None:
    engine = make(tiny, sequences=2, batch=16)
    ids = engine.submit_samples(words(1, 100), greedy(3), 4)
    engine.step()  # the first has begun its prompt
    engine.cancel(ids[0])
    engine.cancel(ids[3])
    answers = drain(engine)
    assert [answers[i].finish for i in ids] == ["cancelled", "length", "length", "cancelled"]
    assert answers[ids[1]].tokens == answers[ids[2]].tokens
    assert engine.timings(ids[2])["reused_tokens"] == 100


@pytest.mark.parametrize(("count", "seed"), [(0, 1), (-1, 1), (3, 2**32 - 3)])
def test_samples_that_cannot_be(engine: core.Engine, count: int, seed: int) -> None:
    with pytest.raises(SamplingError):
        engine.submit_samples(Prompt.tokens(IDS), Sampling(seed=seed), count)
    assert engine.live == 0


def test_sliding_goes_on_past_the_context(tiny: TinyModel, model_folder: Path) -> None:
    """With one layer keys depend on nothing before them: a slid cache is that of the positions that are left."""
    one_layer = gguf_llama.write(model_folder / "one-layer.gguf", Shape(layers=1, seed=4))
    engine = make(one_layer, sequences=2, context=32)
    prompt = words(0, 21)
    sliding = engine.submit(prompt, greedy(100), RequestOptions(slide=True, protect=3))
    ending = engine.submit(prompt, greedy(100))
    answers = drain(engine)
    assert len(answers[ending].tokens) == 12
    with LLM.load(one_layer.path, threads=1, cache_type="f32", flash_attention="off") as reference:
        held = list(prompt.spans[0])
        for token in answers[sliding].tokens:
            logits = reference.logits(Prompt.tokens(held))[-1]
            logits[END] = -np.inf
            assert token == int(logits.argmax())
            if len(held) == 32:
                del held[3:18]
            held.append(token)
    assert (len(answers[sliding].tokens), answers[sliding].finish) == (100, "length")


def test_sliding_beside_others_and_in_a_pool(tiny: TinyModel) -> None:
    prompt, options = persona(0) + words(0, 18), RequestOptions(slide=True, protect=3, owner="a", keep_answer=True)
    found = []
    for kind in ({"sequences": 1}, {"sequences": 3}, {"sequences": 3, "cells": 96}):
        engine = make(tiny, context=32, **kind)
        sliding = engine.submit(prompt, greedy(150), options)
        others = [engine.submit(words(i, 9), greedy(9)) for i in range(5)]
        answers = drain(engine)
        assert [len(answers[i].tokens) for i in others] == [9] * 5
        assert engine.prefix_stats()["count"] == 0  # what slid no longer begins with its prompt
        found.append(answers[sliding].tokens)
    assert found[0] == found[1] == found[2]


def test_sliding_refuses(tiny_mrope: TinyModel, tiny: TinyModel) -> None:
    with pytest.raises(ContextFullError, match="slide must be off"):
        make(tiny_mrope, sequences=1).submit(Prompt.tokens(IDS), greedy(1), RequestOptions(slide=True))
    full = make(tiny, sequences=1, context=8)
    with pytest.raises(PromptError, match="protect must be at most 6"):
        full.submit(Prompt.tokens([1] * 8), greedy(1), RequestOptions(slide=True, protect=7))
    sequence = full.submit(Prompt.tokens([1] * 8), greedy(20), RequestOptions(slide=True, protect=6))
    assert len(drain(full)[sequence].tokens) == 20


def test_sequences_that_leave_do_not_slow_or_change_the_others(tiny: TinyModel) -> None:
    """The last sequences move into the slots of those that end; their answers are what they were."""
    engine = make(tiny, sequences=8)
    prompts = [persona(i) + words(i, 5 + i) for i in range(8)]
    ids = [engine.submit(prompt, greedy(4 + 5 * (7 - i), logprobs=1)) for i, prompt in enumerate(prompts)]
    engine.cancel(ids[2])
    answers = drain(engine, steps=1)
    engine.cancel(ids[5])
    drain(engine, answers)
    for i, (sequence, prompt) in enumerate(zip(ids, prompts, strict=True)):
        if i in (2, 5):
            continue
        alone = engine.submit(prompt, greedy(4 + 5 * (7 - i), logprobs=1))
        expected = drain(engine)[alone]
        assert answers[sequence].tokens == expected.tokens
        assert answers[sequence].logprobs == pytest.approx(expected.logprobs, abs=1e-4)
