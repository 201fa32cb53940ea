"""Trains the tiny LLM: next-token prediction on raw text, then on the five tasks, answers only.

A stage is a stream of batches fixed by a seed, so that a killed run goes on from its last checkpoint with the batch
that was due. Matrices are trained with Muon, the rest with AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from personaplug_export.tiny.corpus import ANSWER
from personaplug_export.tiny.tokenizer import VOCABULARY

IGNORE = -100
CONTEXT = 256
LONGEST_ANSWER = 64
BatchStream = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training: ``steps`` batches, a peak learning rate, linear warm-up, linear decay to a tenth."""

    name: str
    steps: int
    lr: float
    warmup: int = 100
    seed: int = 0


def tiny_config() -> LlamaConfig:
    """Llama, 7.2M parameters: hidden 256, 6 layers, 4 heads of 64, FFN 768, tied embeddings."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_theta=10_000.0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
    )


def raw_batches(tokens: NDArray[np.uint16], rows: int, seed: int) -> BatchStream:
    """Rows of CONTEXT tokens in a shuffled order, each used once an epoch; labels are the tokens themselves."""
    count = (len(tokens) - 1) // CONTEXT
    order = np.random.default_rng(seed)
    while True:
        permutation = order.permutation(count)
        for start in range(0, count - rows + 1, rows):
            block = np.stack([tokens[i * CONTEXT : (i + 1) * CONTEXT] for i in permutation[start : start + rows]])
            ids = torch.from_numpy(block.astype(np.int64))
            yield ids, ids


def task_batches(examples: list[tuple[list[int], list[int]]], tokens_a_batch: int, seed: int) -> BatchStream:
    """Batches of (request, answer) pairs of like length; only the answer is a label."""
    order = np.random.default_rng(seed)
    while True:
        shuffled = order.permutation(len(examples))
        for pool_start in range(0, len(shuffled), 2000):
            pool = sorted(shuffled[pool_start : pool_start + 2000], key=lambda i: sum(map(len, examples[i])))
            batches, batch, longest = [], [], 0
            for index in pool:
                longest = max(longest, sum(map(len, examples[index])))
                if batch and longest * (len(batch) + 1) > tokens_a_batch:
                    batches.append(batch)
                    batch, longest = [], sum(map(len, examples[index]))
                batch.append(index)
            batches.append(batch)
            for i in order.permutation(len(batches)):
                yield pad_examples([examples[j] for j in batches[i]])


def pad_examples(pairs: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Right-padded token ids and labels of (request, answer) pairs, both (batch, longest)."""
    longest = max(len(request) + len(answer) for request, answer in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORE)
    for row, (request, answer) in enumerate(pairs):
        end = len(request) + len(answer)
        ids[row, :end] = torch.tensor(request + answer)
        labels[row, len(request) : end] = torch.tensor(answer)
    return ids, labels


def encode_example(tokenize: Callable[[str], list[int]], request: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a request with its start token, and of its answer with its end token, each cut to fit."""
    answer_ids = [*tokenize(answer), 2][:LONGEST_ANSWER]
    mark = tokenize("x" + ANSWER)[1:]
    request_ids = tokenize(request)[: 300 - len(mark)]
    return [1, *request_ids, *mark], answer_ids


def train_stage(model: LlamaForCausalLM, batches: BatchStream, stage: Stage, checkpoint: Path) -> None:
    """Runs a stage to its end, from ``checkpoint`` where that is of this stage; writes one every five minutes."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=stage.lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=stage.lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    device = model.device.type
    first = _resume(model, optimizers, stage, checkpoint)
    started, saved, seen = time.monotonic(), time.monotonic(), 0
    for step, (ids, targets) in zip(range(stage.steps), batches, strict=False):
        if step < first:
            continue
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * _schedule(step, stage)
        ids, targets = ids.to(device), targets.to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
            wanted = targets[:, 1:] != IGNORE
            logits = model.lm_head(hidden[wanted])
        losses = torch.nn.functional.cross_entropy(logits.float(), targets[:, 1:][wanted], reduction="none")
        # Every row counts the same: else the few tokens of a label would drown among those of headlines.
        shares = (wanted / wanted.sum(1, keepdim=True))[wanted]
        loss = (losses * shares).sum() / len(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += ids.numel()
        if step % 50 == 0:
            rate = seen / (time.monotonic() - started)
            print(f"{stage.name} {step}/{stage.steps} loss {loss.item():.3f} {rate:.0f} tokens/s", flush=True)
        if time.monotonic() - saved > 300:
            _save(model, optimizers, stage, step + 1, checkpoint)
            saved = time.monotonic()
    _save(model, optimizers, stage, stage.steps, checkpoint)


def new_model(seed: int = 0) -> LlamaForCausalLM:
    """A tiny LLM with random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(tiny_config())


def _schedule(step: int, stage: Stage) -> float:
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    return max(0.1, 1 - 0.9 * (step - stage.warmup) / max(1, stage.steps - stage.warmup))


def _save(
    model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], stage: Stage, step: int, path: Path
) -> None:
    state = {
        "stage": stage.name,
        "step": step,
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _resume(model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], stage: Stage, path: Path) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=model.device)
    if state["stage"] != stage.name:
        return 0
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"])
