"""Tokenizer and LLM of the bundle ``tiny``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from personaplug_export.hf_llama import write_tokenizer
from personaplug_export.tiny import corpus, llm
from personaplug_export.tiny.context import Histories, context_examples
from personaplug_export.tiny.encoder import MAX_TOKENS
from personaplug_export.tiny.tokenizer import load_tokenizer, train_tokenizer
from personaplug_export.vectors import EncoderOptions

RAW_TOKENS = 26_000_000
RAW_ROWS = 32
TASK_STEPS = 680
FOLD_STEPS = 340
TASK_TOKENS = 4_096
SHARES = {
    "news_category": 4_500,
    "news_headline": 1_800,
    "email_subject": 2_200,
    "product_rating": 600,
    "film_rating": 5_000,
    "blog_continuation": 4_000,
}
"""Examples an epoch of a request alone, by task; a task with more is sampled, one with fewer repeats. With those of
``context.py`` a category is read about twice, an article having three views, and any other answer about once or less:
at one and a half times as many examples the LLM got the training answers by heart, and the dev questions got worse."""


def tokenized(documents: list[str], tokenizer_path: Path, target: Path, count: int) -> NDArray[np.uint16]:
    """The first ``count`` tokens of the documents, or all, each between start and end tokens; kept in ``target``."""
    if not target.exists() or len(np.load(target, mmap_mode="r")) < count:
        tokenizer = load_tokenizer(tokenizer_path)
        parts, total = [], 0
        for start in range(0, len(documents), 5_000):
            for ids in tokenizer.encode(documents[start : start + 5_000], num_threads=2):
                parts.append(np.array([1, *ids, 2], dtype=np.uint16))
                total += len(parts[-1])
            if total >= count:
                break
        np.save(target, np.concatenate(parts)[:count])
    kept: NDArray[np.uint16] = np.load(target, mmap_mode="r")
    return kept[:count]


def examples(
    data: Path, out: Path, encoder: Path, seed: int = 0, without_fold: int | None = None
) -> list[llm.TaskExample]:
    """One epoch of task examples: requests alone, and requests with something of their user in front."""
    tokenizer, order = load_tokenizer(out / "tokenizer.model"), np.random.default_rng(seed)
    chosen: list[llm.TaskExample] = []
    for task, pairs in corpus.task_examples(data, without_fold).items():
        picks: Iterator[int] = iter(np.resize(order.permutation(len(pairs)), SHARES[task]).tolist())
        chosen += [llm.encode_example(tokenizer.encode, *pairs[i]) for i in picks]
    options = EncoderOptions(pooling="mean", max_tokens=MAX_TOKENS)
    histories = Histories(data, encoder, options, out / "vectors", without_fold)
    return chosen + list(context_examples(histories, tokenizer.encode, order))


def build_llm(data: Path, encoder: Path, out: Path, *, raw_tokens: int = RAW_TOKENS, device: str = "cpu") -> Path:
    """Runs both stages, resuming where an earlier run was cut, and returns the folder of the LLM, ``out/llm``.

    ``encoder`` finds the past items that are near a request.
    """
    target = out / "llm"
    if (target / "config.json").exists():
        return target
    out.mkdir(parents=True, exist_ok=True)
    documents = corpus.raw_documents(data)
    tokenizer_path = train_tokenizer(documents, out)
    tokens = tokenized(documents, tokenizer_path, out / "raw.npy", raw_tokens)
    (out / "raw_tokens.json").write_text(json.dumps(len(tokens)) + "\n")
    print(f"{len(tokens)} raw tokens", flush=True)
    checkpoint, raw_done = out / "checkpoint.pt", out / "raw"
    if (raw_done / "config.json").exists():
        model = LlamaForCausalLM.from_pretrained(raw_done).to(device)
    else:
        model = llm.new_model().to(device)
        stage = llm.Stage(name="raw", steps=len(tokens) // (RAW_ROWS * llm.CONTEXT), lr=5e-3)
        llm.train_stage(model, llm.raw_batches(tokens, RAW_ROWS, seed=1), stage, checkpoint)
        model.save_pretrained(raw_done)
    return _tune(model, data, encoder, out, llm.Stage(name="llm", steps=TASK_STEPS, lr=1e-3, warmup=50))


def build_fold_llm(data: Path, encoder: Path, out: Path, fold: int, *, device: str = "cpu") -> Path:
    """Tunes the raw LLM of :func:`build_llm` on the users outside of ``fold`` alone: ``out/llm-without-FOLD``.

    The plug learns the users of that fold from it: from an LLM that has their answers by heart it would learn that a
    history is not needed.
    """
    target = out / f"llm-without-{fold}"
    if (target / "config.json").exists():
        return target
    model = LlamaForCausalLM.from_pretrained(out / "raw").to(device)
    stage = llm.Stage(name=target.name, steps=FOLD_STEPS, lr=1e-3, warmup=50)
    return _tune(model, data, encoder, out, stage, fold)


def _tune(
    model: LlamaForCausalLM, data: Path, encoder: Path, out: Path, stage: llm.Stage, fold: int | None = None
) -> Path:
    target = out / stage.name
    batches = llm.task_batches(examples(data, out, encoder, without_fold=fold), TASK_TOKENS, seed=2)
    llm.train_stage(model, batches, stage, target.with_suffix(".checkpoint"))
    model.save_pretrained(target)
    write_tokenizer(target, out / "tokenizer.model")
    return target
