"""The persona in a llama_cpp.Llama object: the same answer as our engine's, and nobody else's persona left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import gguf_llama
from models.gguf_llama import TinyModel
from personaplug_edge import LLM, Prompt, Sampling
from personaplug_edge.bundle import Bundle
from personaplug_edge.errors import BundleError, ContextFullError, DimensionError, EngineError, PromptError
from personaplug_edge.llama_cpp_adapter import attach


@pytest.fixture(scope="module")
def llama(tiny_gguf: Path) -> Iterator[Any]:
    from llama_cpp import Llama

    llama = Llama(str(tiny_gguf), n_ctx=128, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False)
    yield llama
    llama.close()


@pytest.fixture(scope="module")
def llm(tiny_gguf: Path) -> Iterator[LLM]:
    with LLM.load(tiny_gguf, context=128, threads=1, cache_type="f32", flash_attention="off") as llm:
        yield llm


def rows(seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)


def prompt(llm: LLM, seed: int) -> Prompt:
    return Prompt.tokens([llm.model.bos]) + Prompt.rows(rows(seed)) + Prompt.tokens(llm.tokenize("hello there"))


def ours(llm: LLM, what: Prompt) -> str:
    # llama_cpp leaves out bytes that are no whole character, where we put U+FFFD.
    return llm.generate(what, Sampling(max_tokens=8)).text.replace("\ufffd", "")


def greedy(llama: Any, ids: list[int]) -> str:
    return str(llama.create_completion(ids, max_tokens=8, temperature=0.0, repeat_penalty=1.0)["choices"][0]["text"])


def test_gives_the_text_that_our_engine_gives(llm: LLM, llama: Any) -> None:
    answers = set()
    for seed in range(5):
        expected = ours(llm, prompt(llm, seed))
        # create_completion goes past max_tokens to end a character that is not whole.
        assert greedy(llama, attach(llama, prompt(llm, seed))).startswith(expected)
        answers.add(expected)
    assert len(answers) > 1  # the rows decide, or the comparison says nothing


def test_a_new_persona_replaces_the_old_one(llm: LLM, llama: Any) -> None:
    first = greedy(llama, attach(llama, prompt(llm, 0)))
    greedy(llama, attach(llama, prompt(llm, 1)))
    assert greedy(llama, attach(llama, prompt(llm, 0))) == first
    plain = [llm.model.bos, *llm.tokenize("hello there")]
    assert greedy(llama, plain) == ours(llm, Prompt.tokens(plain))


def test_different_personas_have_different_placeholders(llm: LLM, llama: Any) -> None:
    marks = {tuple(attach(llama, prompt(llm, seed))[1:3]) for seed in range(20)}
    assert len(marks) == 20


def test_many_rows_go_in_pieces(llm: LLM, tiny_gguf: Path) -> None:
    from llama_cpp import Llama

    llama = Llama(
        str(tiny_gguf), n_ctx=128, n_batch=4, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False
    )
    long = Prompt.rows(rows(3, 11)) + Prompt.tokens(llm.tokenize("hello"))
    assert greedy(llama, attach(llama, long)) == ours(llm, long)
    llama.close()


def test_what_cannot_work_is_refused(llm: LLM, llama: Any) -> None:
    from llama_cpp import LlamaRAMCache

    with pytest.raises(PromptError, match="token ids"):
        attach(llama, Prompt.rows(rows(0)))
    with pytest.raises(PromptError, match="token ids"):
        attach(llama, Prompt())
    with pytest.raises(DimensionError, match="64"):
        attach(llama, Prompt.rows(np.zeros((1, 32), np.float32)) + Prompt.tokens([1]))
    with pytest.raises(DimensionError, match="finite"):
        attach(llama, Prompt.rows(np.full((1, 64), np.nan, np.float32)) + Prompt.tokens([1]))
    with pytest.raises(DimensionError, match="finite"):
        attach(llama, Prompt((np.full((1, 64), 1e300), [1])))
    with pytest.raises(ContextFullError, match=str(llama.n_ctx())):
        attach(llama, Prompt.rows(rows(0)) + Prompt.tokens([1] * llama.n_ctx()))
    llama.set_cache(LlamaRAMCache())
    with pytest.raises(PromptError, match="set_cache"):
        attach(llama, prompt(llm, 0))
    llama.set_cache(None)
    assert attach(llama, prompt(llm, 0))


GOOD = np.ones((1, 64), np.float32)


@pytest.mark.parametrize(
    "spans",
    [([512], GOOD, [1]), ([-1], GOOD, [1]), ([0.5], GOOD, [1]), (["a"], GOOD, [1]), (GOOD, [512]), (GOOD, [None])],
    ids=str,
)
def test_tokens_that_are_none(llm: LLM, llama: Any, spans: Any) -> None:
    with pytest.raises(PromptError, match="0 to 511"):
        attach(llama, Prompt(spans))
    assert greedy(llama, attach(llama, prompt(llm, 0))).startswith(ours(llm, prompt(llm, 0)))


@pytest.mark.parametrize(
    "what", ["text", None, Prompt((GOOD, [])), Prompt((GOOD, "text")), Prompt(([1], GOOD))], ids=str
)
def test_what_llama_cpp_cannot_continue(llama: Any, what: Any) -> None:
    with pytest.raises(PromptError, match="expected a"):
        attach(llama, what)


@pytest.mark.parametrize("rows", [GOOD.astype(object), GOOD.astype(int), np.array([["a"] * 64]), "text", (1, 2)])
def test_rows_of_another_kind(llama: Any, rows: Any) -> None:
    with pytest.raises(DimensionError, match="float32"):
        attach(llama, Prompt((rows, [1])))


def test_another_llm_than_the_bundles_is_refused(
    llm: LLM, llama: Any, random_bundle: Path, tiny: TinyModel, tmp_path: Path
) -> None:
    from llama_cpp import Llama

    bundle = Bundle.load(random_bundle)
    ids = attach(llama, prompt(llm, 0), bundle=bundle)
    assert greedy(llama, ids).startswith(ours(llm, prompt(llm, 0)))
    for name, change, told in (
        ("wider", {"width": 128}, "embedding width 64, got 128"),
        ("larger", {"vocabulary": 600}, "vocabulary size 512, got 600"),
        ("qwen2", {"architecture": "qwen2"}, "architecture llama, got qwen2"),
    ):
        path = gguf_llama.write(tmp_path / f"{name}.gguf", replace(tiny.shape, **change)).path
        other = Llama(str(path), n_ctx=64, n_threads=1, verbose=False)
        with pytest.raises(BundleError, match=told):
            attach(other, prompt(llm, 0), bundle=bundle)
        other.close()
    part = replace(bundle.manifest.llm, tokenizer_sha256="0" * 64)
    renamed = Bundle(bundle.folder, replace(bundle.manifest, llm=part))
    with pytest.raises(BundleError, match="expected tokenizer 0000"):
        attach(llama, prompt(llm, 0), bundle=renamed)
    part = replace(bundle.manifest.llm, embedding_width=128)
    wider = Bundle(bundle.folder, replace(bundle.manifest, llm=part))
    with pytest.raises(BundleError, match="embedding width 128, got 64"):
        attach(llama, prompt(llm, 0), bundle=wider)


def test_a_closed_llama_is_refused(llm: LLM, tiny_gguf: Path) -> None:
    from llama_cpp import Llama

    llama = Llama(str(tiny_gguf), n_ctx=64, n_threads=1, verbose=False)
    llama.close()
    with pytest.raises(EngineError, match="closed"):
        attach(llama, prompt(llm, 0))
