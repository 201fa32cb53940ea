"""Trains the tiny LLM: next-token prediction on raw text, then on the five tasks, answers only; in front of some
requests stand soft rows (see ``context.py``).

A stage is a stream of batches fixed by a seed, so that a killed run goes on from its last checkpoint with the batch
that was due. Matrices are trained with Muon, the rest with AdamW.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


class SoftRow(NamedTuple):
    """A row in front of a request: a weighted mean of token rows, and noise."""

    tokens: tuple[int, ...]
    """none: the row is noise alone"""
    weights: tuple[float, ...]
    noise: float
    """length of the noise where that of the mean is 1; the sum is brought to the mean length of a token row"""


class TaskExample(NamedTuple):
    """Token ids of a request with its start token and of an answer with its end token, and rows behind the former."""

    request: list[int]
    answer: list[int]
    rows: tuple[SoftRow, ...] = ()

    @property
    def length(self) -> int:
        """Positions that it takes."""
        return len(self.request) + len(self.answer) + len(self.rows)


class Batch(NamedTuple):
    """Right-padded token ids and labels, both (batch, longest); rows stand at positions 1.. of their sequence."""

    ids: Tensor
    labels: Tensor
    rows: list[tuple[SoftRow, ...]]


BatchStream = Iterator[Batch]


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
            yield Batch(ids, ids, [])


def task_batches(examples: Sequence[TaskExample], tokens_a_batch: int, seed: int) -> BatchStream:
    """Batches of examples of like length; only the answer is a label."""
    order = np.random.default_rng(seed)
    while True:
        shuffled = order.permutation(len(examples))
        for pool_start in range(0, len(shuffled), 2000):
            pool = sorted(shuffled[pool_start : pool_start + 2000], key=lambda i: examples[i].length)
            batches, batch, longest = [], [], 0
            for index in pool:
                longest = max(longest, examples[index].length)
                if batch and longest * (len(batch) + 1) > tokens_a_batch:
                    batches.append(batch)
                    batch, longest = [], examples[index].length
                batch.append(index)
            batches.append(batch)
            for i in order.permutation(len(batches)):
                yield pad_examples([examples[j] for j in batches[i]])


def pad_examples(examples: Sequence[TaskExample]) -> Batch:
    """A batch of the examples; where a row stands the token id is 0."""
    longest = max(example.length for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORE)
    for place, (request, answer, rows) in enumerate(examples):
        whole = request[:1] + [0] * len(rows) + request[1:] + answer
        ids[place, : len(whole)] = torch.tensor(whole)
        labels[place, len(whole) - len(answer) : len(whole)] = torch.tensor(answer)
    return Batch(ids, labels, [example.rows for example in examples])


def embed(table: torch.nn.Embedding, batch: Batch, noise: torch.Generator) -> Tensor:
    """The input rows of a batch, (batch, longest, H): token rows, and soft rows in their places.

    No gradient flows through a soft row: the token table is not to bend to what they are made of.
    """
    embedded: Tensor = table(batch.ids.to(table.weight.device))
    rows = [row for each in batch.rows for row in each]
    if not rows:
        return embedded
    weight = table.weight.detach()
    bags = torch.nn.functional.embedding_bag(
        torch.tensor([t for row in rows for t in row.tokens], dtype=torch.long, device=weight.device),
        weight,
        torch.tensor(np.cumsum([0] + [len(row.tokens) for row in rows[:-1]]), device=weight.device),
        mode="sum",
        per_sample_weights=torch.tensor([w for row in rows for w in row.weights]).to(weight),
    )
    levels = torch.tensor([[row.noise] for row in rows]).to(weight)
    unit = torch.nn.functional.normalize
    random = torch.randn(bags.shape, generator=noise).to(weight)
    soft = unit(unit(bags, dim=-1) + levels * unit(random, dim=-1), dim=-1) * weight.norm(dim=-1).mean()
    sequences = [place for place, each in enumerate(batch.rows) for _ in each]
    positions = [1 + i for each in batch.rows for i in range(len(each))]
    return embedded.index_put((torch.tensor(sequences), torch.tensor(positions)), soft.to(embedded.dtype))


def encode_example(
    tokenize: Callable[[str], list[int]], request: str, answer: str, rows: tuple[SoftRow, ...] = (), longest: int = 300
) -> TaskExample:
    """A request and its answer, each cut to fit: the request to ``longest`` tokens."""
    answer_ids = [*tokenize(answer), 2][:LONGEST_ANSWER]
    mark = tokenize("x" + ANSWER)[1:]
    request_ids = tokenize(request)[: longest - len(mark)]
    return TaskExample([1, *request_ids, *mark], answer_ids, rows)


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
    for step, batch in zip(range(stage.steps), batches, strict=False):
        if step < first:
            continue
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * _schedule(step, stage)
        targets = batch.labels.to(device)
        embedded = embed(model.get_input_embeddings(), batch, torch.Generator().manual_seed(step))
        with torch.autocast(device, dtype=torch.bfloat16):
            hidden = model.model(inputs_embeds=embedded).last_hidden_state[:, :-1]
            wanted = targets[:, 1:] != IGNORE
            logits = model.lm_head(hidden[wanted])
        losses = torch.nn.functional.cross_entropy(logits.float(), targets[:, 1:][wanted], reduction="none")
        # Every row counts the same: else the few tokens of a label would drown among those of headlines.
        shares = (wanted / wanted.sum(1, keepdim=True))[wanted]
        loss = (losses * shares).sum() / len(targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += targets.numel()
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
