"""Prompts that cannot work: a typed error each, and the engine goes on."""

from __future__ import annotations

import numpy as np
import pytest

from personaplug_edge.engine import LLM
from personaplug_edge.errors import ContextFullError, DimensionError, PromptError
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling

ALIVE = Sampling(max_tokens=2, ignore_end=True)


def alive(llm: LLM) -> bool:
    return len(llm.generate(Prompt.tokens([1, 300]), ALIVE).tokens) == 2


ROWS = np.ones((2, 64), np.float32)


@pytest.mark.parametrize(
    "rows",
    [
        np.ones((2, 63), np.float32),
        np.ones((2, 64)),
        np.ones((2, 64), np.float16),
        np.ones((2, 64, 1), np.float32),
        np.ones(64, np.float32),
        np.ones((2, 128), np.float32)[:, ::2],
        np.asfortranarray(ROWS),
        np.full((2, 64), np.nan, np.float32),
        np.full((2, 64), np.inf, np.float32),
        np.ones((2, 0), np.float32),
        ROWS.astype(">f4"),
    ],
)
def test_rows_that_do_not_fit(llm: LLM, rows: np.ndarray) -> None:
    prompt = Prompt((rows, [5]))
    for call in (lambda: llm.generate(prompt), lambda: llm.logits(prompt), lambda: llm.score(prompt, [[3]])):
        with pytest.raises(DimensionError):
            call()
    assert alive(llm)


def test_rows_of_two_widths(llm: LLM) -> None:
    with pytest.raises(DimensionError, match="differ"):
        llm.generate(Prompt.rows(ROWS) + Prompt.rows(np.ones((1, 32), np.float32)))


@pytest.mark.parametrize("ids", [[-1], [512], [2**31], [2**70], [1.5], ["a"], [None], "abc"])
def test_tokens_that_are_none(llm: LLM, ids: list[object]) -> None:
    prompt = Prompt((ids,))  # type: ignore[arg-type]
    for call in (lambda: llm.generate(prompt), lambda: llm.logits(prompt), lambda: llm.model.detokenize(ids)):  # type: ignore[arg-type]
        with pytest.raises(PromptError):
            call()
    assert alive(llm)


def test_single_tokens_that_are_none(llm: LLM) -> None:
    for call in (llm.model.piece, llm.model.is_end):
        for token in (-1, 512):
            with pytest.raises(PromptError):
                call(token)
    with pytest.raises(PromptError):
        llm.embedding_rows([512])


def test_empty_prompts(llm: LLM) -> None:
    for prompt in (Prompt(), Prompt(([],)), Prompt((np.ones((0, 64), np.float32),))):
        with pytest.raises(PromptError, match="empty"):
            llm.generate(prompt)
        with pytest.raises(PromptError, match="empty"):
            llm.logits(prompt)
    assert alive(llm)


def test_not_a_prompt(llm: LLM) -> None:
    with pytest.raises(PromptError, match="expected a Prompt"):
        llm.generate(3)  # type: ignore[arg-type]


def test_prompts_longer_than_the_context(llm: LLM) -> None:
    prompt = Prompt.tokens([5] * 257)
    for call in (lambda: llm.generate(prompt), lambda: llm.logits(prompt), lambda: llm.score(prompt, [[3]])):
        with pytest.raises(ContextFullError, match="257.*256"):
            call()
    assert alive(llm)


def test_huge_rows_do_no_harm(llm: LLM) -> None:
    expected = llm.generate(Prompt.tokens([1, 300]), Sampling(max_tokens=8, ignore_end=True)).tokens
    for value in (3e38, -3e38, 1e-45):
        llm.generate(Prompt.rows(np.full((1, 64), value, np.float32)) + Prompt.tokens([5]), ALIVE)
    assert llm.generate(Prompt.tokens([1, 300]), Sampling(max_tokens=8, ignore_end=True)).tokens == expected
