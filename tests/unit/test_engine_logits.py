"""Logits of tokens, rows and mixtures against a forward pass in numpy; and what is exact must be exactly so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import numpy_llama
from models.gguf_llama import TinyModel
from personaplug_edge.engine import LLM
from personaplug_edge.prompt import Prompt

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
