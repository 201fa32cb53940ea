"""Where a projector starts: at rows that the LLM can read before anything is learned through it.

From random weights a plug has to find, through the frozen LLM alone, any row that tells it something. The LLM's own
token rows do from the first step: an item's rows start near the mean row of the words that the user answered with, or
of its text where there is no answer. Training goes on from there; of several persona tokens the first half can be held.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from personaplug_edge.evaluate.data import PastItem
from personaplug_export.examples import Examples, item_text
from personaplug_export.reference import Plug, Projector

STEPS = 4_000
BATCH = 128
"""Items of each task in a step: a task of few items counts as much as one of many."""
LR = 2e-3
WEIGHT_DECAY = 1e-2
WORDS = 64
"""Tokens of a text that count."""


class WarmStart:
    """The items of the tasks' histories, and where their rows are to be.

    Args:
        tasks: the training questions.
        table: the LLM's token rows, (vocabulary, H).
        tokenizer: the LLM's.
    """

    def __init__(self, tasks: Iterable[Examples], table: Tensor, tokenizer: PreTrainedTokenizerBase) -> None:
        self._parts = [_vectors_and_targets(examples, table, tokenizer) for examples in tasks]

    def fit(self, plug: Plug, seed: int) -> float:
        """Fits the projector; returns the mean cosine of the items' rows to their targets."""
        order = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(plug.projector.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = LR * min(1.0, 20 * step / STEPS) * (1 + math.cos(math.pi * step / STEPS)) / 2
            loss = self.distance(plug.projector, plug.config.persona_tokens, order)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            near = [
                torch.cosine_similarity(plug.projector(vectors), targets[:, None], dim=-1).mean()
                for vectors, targets in self._parts
            ]
        return float(torch.stack(near).mean())

    def distance(self, projector: Projector, count: int, order: torch.Generator) -> Tensor:
        """How far the first ``count`` rows of some items are from their targets: the mean squared distance."""
        drawn = [torch.randint(len(vectors), (BATCH,), generator=order) for vectors, _ in self._parts]
        vectors = torch.cat([part[0][chosen] for part, chosen in zip(self._parts, drawn, strict=True)])
        targets = torch.cat([part[1][chosen] for part, chosen in zip(self._parts, drawn, strict=True)])
        return (projector(vectors)[:, :count] - targets[:, None]).square().sum(-1).mean()


def _vectors_and_targets(
    examples: Examples, table: Tensor, tokenizer: PreTrainedTokenizerBase
) -> tuple[Tensor, Tensor]:
    """Of each item, its vector (items, d) and the unit row (items, H) of its words."""
    known = {item_text(item, examples.options.history_template): item for item in _items(examples)}
    vectors = torch.stack([examples.vectors[text] for text in known])
    targets = torch.stack([_mean_row(item.output or item.text, table, tokenizer) for item in known.values()])
    return vectors.to(table.device), targets


def _items(examples: Examples) -> Iterator[PastItem]:
    for question in examples.questions:
        yield from question.history[-examples.options.max_items :]


def _mean_row(text: str, table: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    ids = tokenizer(text[: 16 * WORDS], add_special_tokens=False)["input_ids"][:WORDS]
    return torch.nn.functional.normalize(table[torch.tensor(ids or [0], device=table.device)].float().mean(0), dim=0)
