"""Beam search of the engine against a slow one over tables of logits and over numpy's forward pass."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import gguf_llama, numpy_llama
from models.beam_reference import Answer, beam_search
from models.gguf_llama import Shape, TinyModel
from personaplug_edge.beams import BeamResult, Beams, results_of
from personaplug_edge.engine import LLM
from personaplug_edge.errors import (
    CancelledError,
    ContextFullError,
    EngineError,
    PromptError,
    QueueFullError,
    SamplingError,
)
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.sampling import Sampling

END = 2
IDS = [1, 300, 270, 264, 401, 333]
EXACT: dict[str, Any] = {"threads": 1, "cache_type": "f32", "flash_attention": "off"}
FIRST = 300
"""Tokens FIRST to FIRST + 61 and END have rows of their own in a table; FIRST + 62 begins the prompt."""
COUNT = 62
NEVER = -60.0


class Table:
    """A model whose next token depends on the last one only: logits by hand. Attention and feed-forward add nothing.

    The embedding of the i-th token lies on the i-th axis; after the norm it is sqrt(width) long, and the output
    matrix holds the logits after it in its i-th column.
    """

    def __init__(self) -> None:
        self.logits = np.full((COUNT + 1, 512), NEVER)

    def write(self, path: Path) -> Path:
        shape = Shape(layers=1)
        weights = gguf_llama.random_weights(shape)
        for name in ("blk.0.attn_output.weight", "blk.0.ffn_down.weight", "token_embd.weight", "output.weight"):
            weights[name][:] = 0.0
        weights["output_norm.weight"][:] = 1.0
        for i in range(COUNT + 1):
            weights["token_embd.weight"][FIRST + i, i] = 100.0  # so that the norm's epsilon adds nothing
        weights["output.weight"][:, : COUNT + 1] = self.logits.T / 8.0
        return gguf_llama.write(path, shape, weights=weights).path

    def after(self, tokens: tuple[int, ...]) -> Any:
        return self.logits[tokens[-1] - FIRST if tokens else COUNT]


START = Prompt.tokens([FIRST + COUNT])


def random_table(seed: int, end: float) -> Table:
    table = Table()
    random = np.random.default_rng(seed)
    table.logits[:, FIRST : FIRST + COUNT] = random.normal(scale=2.0, size=(COUNT + 1, COUNT))
    table.logits[:, END] = random.normal(end, 2.0, size=COUNT + 1)
    return table


def check(found: list[BeamResult], answers: list[Answer]) -> None:
    for result, answer in zip(found, answers, strict=True):
        assert result.finish_reason == answer.finish
        assert tuple(result.tokens) + ((END,) if answer.finish == "end" else ()) == answer.tokens
        assert result.logprob == pytest.approx(answer.logprob, abs=1e-3)
        assert result.score == pytest.approx(answer.score, abs=1e-3)


@pytest.mark.parametrize("end", [-3.0, 3.0, 5.0])
@pytest.mark.parametrize("seed", range(3))
def test_tables(seed: int, end: float, tmp_path: Path) -> None:
    table = random_table(seed, end)
    with LLM.load(table.write(tmp_path / "table.gguf"), **EXACT) as llm:
        for width in (1, 2, 4, 8):
            for penalty in (1.0, -0.5, 0.0, 2.0):
                for early in (False, True, "never"):
                    options: dict[str, Any] = {"length_penalty": penalty, "early_stopping": early, "returned": width}
                    beams = Beams(beams=width, max_tokens=7, **options)
                    check(llm.beam_search(START, beams), beam_search(table.after, beams, {END}))


def test_a_likely_first_token_can_lead_nowhere(tmp_path: Path) -> None:
    """Greedy: 0.6 * 0.5 = 0.3; the better answer begins with 0.4 and goes on with 1."""
    table = Table()
    a, b, c, d = range(FIRST, FIRST + 4)
    table.logits[COUNT, [a, b]] = np.log([0.6, 0.4])
    table.logits[0, [c, d]] = np.log([0.5, 0.5])
    table.logits[1, c] = 0.0
    with LLM.load(table.write(tmp_path / "table.gguf"), **EXACT) as llm:
        [greedy] = llm.beam_search(START, Beams(beams=1, max_tokens=2))
        [best] = llm.beam_search(START, Beams(beams=4, max_tokens=2))
        assert greedy.tokens[0] == a and np.exp(greedy.logprob) == pytest.approx(0.3, abs=1e-4)
        assert best.tokens == [b, c] and np.exp(best.logprob) == pytest.approx(0.4, abs=1e-4)
        assert best.score == pytest.approx(best.logprob / 2)
        assert greedy.tokens == llm.generate(START, Sampling(max_tokens=2)).tokens
        assert best.text == llm.detokenize(best.tokens)


def test_stop_strings(tmp_path: Path) -> None:
    table = random_table(5, 0.0)
    with LLM.load(table.write(tmp_path / "table.gguf"), **EXACT) as llm:
        pieces = {token: llm.model.piece(token).decode(errors="replace") for token in range(512)}
        plain = Beams(max_tokens=8, returned=4, early_stopping=True)
        whole = llm.beam_search(START, plain)[0].text
        stop = whole[1:4]
        assert len(stop) == 3
        beams = Beams(max_tokens=8, returned=4, early_stopping=True, stop=(stop, "no such text"))
        found = llm.beam_search(START, beams)
        check(found, beam_search(table.after, beams, {END}, pieces.__getitem__))
        assert "stop" in {result.finish_reason for result in found}
        for result in found:
            assert stop not in result.text
            text = "".join(pieces[token] for token in result.tokens)
            assert result.text == (text[: text.index(stop)] if result.finish_reason == "stop" else text)


@pytest.mark.parametrize("width", [2, 5])
def test_a_model_with_rows_in_its_prompt(exact_llm: LLM, tiny: TinyModel, width: int) -> None:
    rows = np.random.default_rng(2).standard_normal((2, 64)).astype(np.float32)
    prompt = np.concatenate([rows, numpy_llama.rows(tiny, IDS)])

    def after(tokens: tuple[int, ...]) -> Any:
        return numpy_llama.logits(tiny, np.concatenate([prompt, numpy_llama.rows(tiny, list(tokens))]))[-1]

    beams = Beams(beams=width, max_tokens=6, returned=width)
    check(exact_llm.beam_search(Prompt.rows(rows) + Prompt.tokens(IDS), beams), beam_search(after, beams, {END}))


def test_rows_where_they_need_a_pass_of_their_own(tiny_gemma: TinyModel) -> None:
    """Beam search with one beam is greedy decoding, whatever the model."""
    rows = np.random.default_rng(4).standard_normal((3, 64)).astype(np.float32)
    prompt = Prompt.tokens(IDS) + Prompt.rows(rows) + Prompt.tokens(IDS[1:])
    with LLM.load(tiny_gemma.path, **EXACT) as llm:
        assert not llm.engine.single_pass
        [found] = llm.beam_search(prompt, Beams(beams=1, max_tokens=12))
        assert found.tokens == llm.generate(prompt, Sampling(max_tokens=12)).tokens
        [first] = llm.beam_search(prompt, Beams(beams=4, max_tokens=12))
        assert sum(llm.score(prompt, [first.tokens])[0]) == pytest.approx(first.logprob, abs=1e-3)


@pytest.fixture(params=[1, 3])
def several(request: pytest.FixtureRequest, tiny: TinyModel) -> Iterator[LLM]:
    with LLM.load(tiny.path, sequences=request.param, context=96, batch=32, **EXACT) as llm:
        yield llm


def test_two_beam_searches_and_three_others_at_once(several: LLM) -> None:
    """Each gives what it gives alone."""
    rows = np.random.default_rng(3).standard_normal((2, 64)).astype(np.float32)
    searches = [
        (Prompt.tokens(IDS * 6), Beams(beams=4, max_tokens=24, returned=4)),
        (Prompt.rows(rows) + Prompt.tokens(IDS), Beams(beams=8, max_tokens=20, returned=8, length_penalty=0.5)),
    ]
    others = [
        (Prompt.tokens(IDS * 9), Sampling(max_tokens=30, ignore_end=True)),
        (Prompt.rows(rows) + Prompt.tokens(IDS), Sampling(max_tokens=40, ignore_end=True)),
        (Prompt.tokens(IDS), Sampling(max_tokens=60, ignore_end=True, temperature=0.8, seed=3)),
    ]
    alone = [several.beam_search(*search) for search in searches]
    alone_others = [several.generate(*other).tokens for other in others]
    found: dict[int, Any] = {}

    def beams(i: int) -> None:
        found[i] = several.beam_search(*searches[i])

    def generate(i: int) -> None:
        found[2 + i] = several.generate(*others[i]).tokens

    threads = [threading.Thread(target=beams, args=(i,)) for i in range(2)]
    threads += [threading.Thread(target=generate, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    scores = several.score(Prompt.tokens(IDS), [[300, 301]])
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(scores, several.score(Prompt.tokens(IDS), [[300, 301]]), atol=1e-4)
    assert [found[2 + i] for i in range(3)] == alone_others
    for i, expected in enumerate(alone):
        assert [result.tokens for result in found[i]] == [result.tokens for result in expected]
        np.testing.assert_allclose(
            [result.score for result in found[i]], [result.score for result in expected], atol=1e-4
        )
    assert several.engine.live == 0


def test_the_context_ends_the_answers(tiny: TinyModel) -> None:
    with LLM.load(tiny.path, context=32, **EXACT) as llm:
        full = llm.beam_search(Prompt.tokens([1] * 32), Beams(max_tokens=500))
        assert len(full[0].tokens) <= 1
        shorter = llm.beam_search(Prompt.tokens(IDS), Beams(max_tokens=32 - len(IDS) + 1, returned=4))
        assert llm.beam_search(Prompt.tokens(IDS), Beams(max_tokens=500, returned=4)) == shorter
        with pytest.raises(ContextFullError, match="33.*32"):
            llm.beam_search(Prompt.tokens([1] * 33))


def test_more_beams_than_the_engine_has_cells_for_wait(tiny: TinyModel) -> None:
    with LLM.load(tiny.path, context=64, **EXACT) as llm:
        beams = Beams(beams=8, max_tokens=30, returned=8)
        expected = [one.tokens for one in llm.beam_search(Prompt.tokens(IDS), beams)]
        ids = [llm.engine.submit_beams(Prompt.tokens(IDS), beams) for _ in range(6)]
        found = {}
        while llm.engine.live:
            for event in llm.engine.step():
                found[event.sequence] = [one.tokens for one in event.hypotheses]
        assert found == dict.fromkeys(ids, expected)
        timings = llm.engine.timings(ids[-1])
        assert timings["prompt_tokens"] == len(IDS) and 1 <= timings["generated_tokens"] <= 30


def test_a_deadline_gives_what_there_is(tiny: TinyModel) -> None:
    """While it waits: one empty answer. While it runs: the beams as they are."""
    with LLM.load(tiny.path, context=4096, **EXACT) as llm:
        endless = Beams(beams=8, max_tokens=4000, returned=8, early_stopping="never", length_penalty=4.0)
        for seconds in (0.2, 1.0, 5.0):  # a busy machine may not get to the first token
            found = llm.beam_search(Prompt.tokens(IDS), endless, RequestOptions(deadline=seconds))
            assert "deadline" in {one.finish_reason for one in found}
            if len(found[0].tokens) > 1:
                break
        assert len(found) == 8 and len(found[0].tokens) > 1
        [nothing] = llm.beam_search(Prompt.tokens(IDS), endless, RequestOptions(deadline=1e-9))
        assert (nothing.tokens, nothing.text, nothing.finish_reason) == ([], "", "deadline")
        assert llm.engine.live == 0


def test_cancelling_and_resetting(tiny: TinyModel) -> None:
    with LLM.load(tiny.path, **EXACT) as llm:
        beams = Beams(max_tokens=200, early_stopping="never", length_penalty=4.0)
        ticket = llm.thread.submit_beams(Prompt.tokens(IDS), beams)
        ticket.cancel()
        with pytest.raises(CancelledError, match="cancelled"):
            results_of(ticket)
        ticket = llm.thread.submit_beams(Prompt.tokens(IDS), beams)
        del ticket  # nobody wants it any more
        ticket = llm.thread.submit_beams(Prompt.tokens(IDS), beams)
        llm.engine.reset()
        with pytest.raises(EngineError, match="reset"):
            results_of(ticket)
        assert llm.beam_search(Prompt.tokens(IDS), Beams(max_tokens=3))


def test_closing_ends_a_beam_search(tiny: TinyModel) -> None:
    llm = LLM.load(tiny.path, **EXACT)
    ticket = llm.thread.submit_beams(Prompt.tokens(IDS), Beams(max_tokens=200, early_stopping="never"))
    llm.close()
    with pytest.raises(EngineError, match="closed"):
        results_of(ticket)


def test_the_queue_is_bounded(tiny: TinyModel) -> None:
    with LLM.load(tiny.path, queue=2, **EXACT) as llm:
        ids = [llm.engine.submit_beams(Prompt.tokens(IDS), Beams(max_tokens=3)) for _ in range(2)]
        with pytest.raises(QueueFullError, match="2 beam searches wait"):
            llm.engine.submit_beams(Prompt.tokens(IDS), Beams(max_tokens=3))
        assert llm.engine.live == 2 and all(llm.engine.is_live(i) for i in ids)
        llm.engine.cancel(ids[0])
        [event] = llm.engine.step()
        assert (event.sequence, event.finish, event.hypotheses) == (ids[0], "cancelled", [])
        llm.engine.submit_beams(Prompt.tokens(IDS), Beams(max_tokens=3))
        llm.engine.reset()
        assert llm.engine.live == 0 and llm.engine.step() == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"beams": 0}, "beams must be 1 to 32, got 0"),
        ({"beams": 33}, "beams must be 1 to 32, got 33"),
        ({"beams": "4"}, "beams must be a number, got str"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"returned": 5}, r"returned must be 1 to beams \(4\), got 5"),
        ({"length_penalty": float("nan")}, "length_penalty must be a number from -16 to 16"),
        ({"length_penalty": None}, "length_penalty must be a number, got NoneType"),
        ({"early_stopping": "sometimes"}, "early_stopping must be False, True or .never., got 'sometimes'"),
        ({"early_stopping": 1}, "early_stopping must be False, True or .never., got 1"),
        ({"stop": "a"}, "stop must be a tuple of str, got one str"),
        ({"stop": ("",)}, "a stop string must be valid text and not empty"),
    ],
)
def test_options_are_checked(llm: LLM, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        llm.beam_search(Prompt.tokens(IDS), Beams(**changed))


def test_what_a_beam_search_does_not_take(llm: LLM) -> None:
    with pytest.raises(SamplingError, match="expected Beams, got Sampling: a beam search takes no grammar"):
        llm.beam_search(Prompt.tokens(IDS), Sampling(grammar="root ::= [a-z]+"))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="empty"):
        llm.beam_search(Prompt())
    assert llm.engine.live == 0


def test_logits_that_are_not_numbers_end_the_beam_search_only(model_folder: Path) -> None:
    shape = Shape(seed=4)
    weights = gguf_llama.random_weights(shape)
    weights["token_embd.weight"][77] = np.nan
    model = gguf_llama.write(model_folder / "beam-hole.gguf", shape, weights=weights)
    with LLM.load(model.path, sequences=2, **EXACT) as llm:
        running = llm.stream(Prompt.tokens(IDS), Sampling(max_tokens=20, ignore_end=True))
        tokens = list(next(running).tokens)
        expected = llm.beam_search(Prompt.tokens(IDS), Beams(max_tokens=5))
        with pytest.raises(EngineError, match="not finite"):
            llm.beam_search(Prompt.tokens([1, 77]), Beams(max_tokens=5))
        assert llm.beam_search(Prompt.tokens(IDS), Beams(max_tokens=5)) == expected
        tokens += [token for chunk in running for token in chunk.tokens]
        assert tokens == llm.generate(Prompt.tokens(IDS), Sampling(max_tokens=20, ignore_end=True)).tokens


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("how", ["ends", "cancelled"])
def test_the_memory_of_many_long_beams_is_given_back(tiny: TinyModel, how: str) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with LLM.load(tiny.path, context=8192, **EXACT) as llm:
        llm.beam_search(Prompt.tokens(IDS), Beams(beams=2, max_tokens=4))
        before = resident()
        deadline = RequestOptions(deadline=0.5) if how == "ends" else None
        sequence = llm.engine.submit_beams(Prompt.tokens(IDS), Beams(beams=32, max_tokens=8000), deadline)
        llm.engine.step()
        assert resident() - before > 100 << 20
        if how == "cancelled":
            llm.engine.cancel(sequence)
        while llm.engine.live:
            llm.engine.step()
        assert resident() - before < 30 << 20
        assert llm.beam_search(Prompt.tokens(IDS), Beams(beams=2, max_tokens=4))[0].tokens


def test_beams_that_would_take_too_much_memory_are_refused(tiny: TinyModel) -> None:
    with LLM.load(tiny.path, context=1 << 17, **EXACT) as llm:
        with pytest.raises(
            ContextFullError, match=r"32 beams and max_tokens 1000000 would take 20\d\d MiB.*gives 1024;"
        ):
            llm.beam_search(Prompt.tokens(IDS), Beams(beams=32, max_tokens=10**6))
        assert llm.engine.live == 0
        assert llm.beam_search(Prompt.tokens(IDS), Beams(beams=2, max_tokens=4))[0].tokens
