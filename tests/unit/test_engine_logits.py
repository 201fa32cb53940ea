"""Logits of tokens, rows and mixtures against a forward pass in numpy; and what is exact must be exactly so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import numpy_llama
from models.gguf_llama import TinyModel
from personaplug_edge.engine import LLM
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling

TOLERANCE = 1e-3
IDS = [1, 300, 270, 264, 401, 333, 290, 511, 260, 3]


def exact(path: Path, **options: int) -> LLM:
    return LLM.load(path, threads=1, cache_type="f32", flash_attention="off", **options)


def random_rows(count: int, width: int = 64) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((count, width)).astype(np.float32)


def test_token_logits_are_numpys(exact_llm: LLM, tiny: TinyModel) -> None:
    expected = numpy_llama.logits(tiny, numpy_llama.rows(tiny, IDS))
    np.testing.assert_allclose(exact_llm.logits(Prompt.tokens(IDS)), expected, atol=TOLERANCE)


def test_row_logits_are_numpys(exact_llm: LLM, tiny: TinyModel) -> None:
    rows = random_rows(9)
    np.testing.assert_allclose(exact_llm.logits(Prompt.rows(rows)), numpy_llama.logits(tiny, rows), atol=TOLERANCE)


def test_mixed_logits_are_numpys(exact_llm: LLM, tiny: TinyModel) -> None:
    rows = random_rows(3)
    prompt = Prompt.tokens(IDS[:1]) + Prompt.rows(rows[:1]) + Prompt.rows(rows[1:]) + Prompt.tokens(IDS[1:])
    inputs = np.concatenate([numpy_llama.rows(tiny, IDS[:1]), rows, numpy_llama.rows(tiny, IDS[1:])])
    assert exact_llm.engine.single_pass
    np.testing.assert_allclose(exact_llm.logits(prompt), numpy_llama.logits(tiny, inputs), atol=TOLERANCE)


def test_qwen2_logits_are_numpys(tiny_qwen2: TinyModel) -> None:
    rows = random_rows(2)
    inputs = np.concatenate([numpy_llama.rows(tiny_qwen2, IDS[:2]), rows, numpy_llama.rows(tiny_qwen2, IDS[2:])])
    with exact(tiny_qwen2.path) as llm:
        found = llm.logits(Prompt.tokens(IDS[:2]) + Prompt.rows(rows) + Prompt.tokens(IDS[2:]))
    np.testing.assert_allclose(found, numpy_llama.logits(tiny_qwen2, inputs), atol=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_small_batches_change_nothing(tiny: TinyModel, exact_llm: LLM, batch: int) -> None:
    prompt = Prompt.tokens(IDS) + Prompt.rows(random_rows(5)) + Prompt.tokens(IDS)
    with exact(tiny.path, batch=batch) as llm:
        np.testing.assert_allclose(llm.logits(prompt), exact_llm.logits(prompt), atol=TOLERANCE)


def test_more_positions_than_one_decode_gives_logits_for(exact_llm: LLM, tiny: TinyModel) -> None:
    ids = [(i * 31 + 3) % 512 for i in range(150)]
    np.testing.assert_allclose(
        exact_llm.logits(Prompt.tokens(ids)), numpy_llama.logits(tiny, numpy_llama.rows(tiny, ids)), atol=TOLERANCE
    )


@pytest.mark.parametrize("options", [{"micro_batch": 64}, {"micro_batch": 3}, {"micro_batch": 64, "batch": 64}])
def test_a_sliding_window_in_a_pool(tiny_window: TinyModel, options: dict[str, int]) -> None:
    """Many prompts at once, longer than window and graph: the first token's log-probability is that of each alone."""
    random = np.random.default_rng(3)
    lengths = random.choice([100, 200, 300, 500], 30)
    prompts = [Prompt.tokens([1, *random.integers(260, 512, length).tolist()]) for length in lengths]
    first = Sampling(max_tokens=2, ignore_end=True, logprobs=1)
    with exact(tiny_window.path, prefix_bytes=0) as alone:
        expected = [alone.generate(prompt, first) for prompt in prompts]
    with exact(tiny_window.path, sequences=5, cells=1500, prefix_bytes=0, **({"batch": 256} | options)) as pool:
        found = pool.generate_all(prompts, first)
        scores = pool.score(prompts[3], [[5, 6], [7]])
    for one, other in zip(found, expected, strict=True):
        assert one.tokens[0] == other.tokens[0]
        assert one.logprobs[0] == pytest.approx(other.logprobs[0], abs=TOLERANCE)
    with exact(tiny_window.path, prefix_bytes=0) as alone:
        for a, b in zip(scores, alone.score(prompts[3], [[5, 6], [7]]), strict=True):
            np.testing.assert_allclose(a, b, atol=TOLERANCE)


@pytest.mark.parametrize("kind", [{"sequences": 1, "cells": 256}, {"sequences": 2, "cells": 256}, {"mamba": True}])
def test_scoring_does_not_depend_on_company(tiny: TinyModel, tiny_mamba: TinyModel, kind: dict[str, int]) -> None:
    """Where others have claimed the cells, it has a place of its own as long as it lasts."""
    options = dict(kind)
    path = (tiny_mamba if options.pop("mamba", 0) else tiny).path
    prompt, continuations = Prompt.tokens(IDS), [[5, 6, 7], [8], [9, 10]] * 10
    with exact(path, context=256, **options) as llm:
        expected = llm.score(prompt, continuations)
        logits = llm.logits(prompt)
        other = llm.submit(Prompt.tokens([1, 300]), Sampling(max_tokens=250, ignore_end=True))
        scores = []
        while not other.done:
            scores.append((llm.score(prompt, continuations), llm.logits(prompt)))
        assert len(other.result().tokens) == 250
        assert len(scores) > 1
        for found, after in scores:
            np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=TOLERANCE)
            np.testing.assert_allclose(after, logits, atol=TOLERANCE)
        full = [[5] * (256 - len(IDS) + 1)]  # the last token needs no cell
        assert len(llm.score(prompt, full)[0]) == len(full[0])


def test_embedding_rows_are_the_table(exact_llm: LLM, tiny: TinyModel) -> None:
    np.testing.assert_array_equal(exact_llm.embedding_rows(IDS), numpy_llama.rows(tiny, IDS))
    assert exact_llm.embedding_rows([]).shape == (0, 64)


def test_quantized_rows_are_dequantized(quantized: TinyModel) -> None:
    with exact(quantized.path) as llm:
        rows = llm.embedding_rows(IDS)
        assert llm.engine.single_pass
        np.testing.assert_allclose(rows, numpy_llama.rows(quantized, IDS), atol=0.02)
        np.testing.assert_allclose(llm.logits(Prompt.rows(rows)), llm.logits(Prompt.tokens(IDS)), atol=TOLERANCE)


def test_gemma_rows_are_not_its_tokens(tiny_gemma: TinyModel) -> None:
    """Gemma 3 scales tokens and leaves rows alone: the probe must see it, and spans go one kind after the other."""
    with exact(tiny_gemma.path) as llm:
        assert not llm.engine.single_pass
        scaled = llm.embedding_rows(IDS) * np.float32(np.sqrt(64))
        expected = llm.logits(Prompt.tokens(IDS))
        mixed = Prompt.tokens(IDS[:3]) + Prompt.rows(scaled[3:5]) + Prompt.tokens(IDS[5:])
        np.testing.assert_allclose(llm.logits(mixed), expected, atol=TOLERANCE)


def test_mrope_rows_have_four_positions(tiny_mrope: TinyModel) -> None:
    """llama.cpp #28902: rows of M-RoPE models were given one position of four."""
    with exact(tiny_mrope.path) as llm:
        assert llm.engine.single_pass
        rows = llm.embedding_rows(IDS)
        np.testing.assert_allclose(llm.logits(Prompt.rows(rows)), llm.logits(Prompt.tokens(IDS)), atol=TOLERANCE)
