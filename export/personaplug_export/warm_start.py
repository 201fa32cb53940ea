"""Where a projector starts: at rows that the LLM can read before anything is learned through it.

From random weights a plug has to find, through the frozen LLM alone, any row that tells it something. The LLM's own
token rows do from the first step: the first half of an item's rows start near the mean row of the words that the user
answered with, the others near that of the item's text. Training goes on from there; nothing holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from personaplug_edge.evaluate.data import PastItem
from personaplug_export.examples import Examples, item_text
from personaplug_export.reference import Plug

STEPS = 600
BATCH = 512
LR = 2e-3
WORDS = 64
"""Tokens of a text that count."""


def warm_start(
    plug: Plug, tasks: Iterable[Examples], table: Tensor, tokenizer: PreTrainedTokenizerBase, seed: int
) -> float:
    """Fits the projector to token rows of the LLM (``table``: vocabulary, H) on the items of the tasks' histories.

    Returns the mean cosine of its rows to their targets.
    """
    device = table.device
    known = {item_text(item, examples.options.history_template): (item, examples) for item, examples in _items(tasks)}
    vectors = torch.stack([examples.vectors[text] for text, (_, examples) in known.items()]).to(device)
    targets = torch.stack(
        [_targets(item, plug.config.persona_tokens, table, tokenizer) for item, _ in known.values()]
    ).to(device)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(plug.projector.parameters(), lr=LR, weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / STEPS)
        chosen = torch.randint(len(vectors), (BATCH,), generator=order).to(device)
        loss = (plug.projector(vectors[chosen]) - targets[chosen]).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float(torch.cosine_similarity(plug.projector(vectors), targets, dim=-1).mean())


def _items(tasks: Iterable[Examples]) -> Iterator[tuple[PastItem, Examples]]:
    for examples in tasks:
        for question in examples.questions:
            for item in question.history[-examples.options.max_items :]:
                yield item, examples


def _targets(item: PastItem, count: int, table: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Unit rows (count, H)."""
    texts = [item.output or item.text] * ((count + 1) // 2) + [item.text] * (count // 2)
    rows = {text: _mean_row(text, table, tokenizer) for text in set(texts)}
    return torch.stack([rows[text] for text in texts])


def _mean_row(text: str, table: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    ids = tokenizer(text[: 16 * WORDS], add_special_tokens=False)["input_ids"][:WORDS]
    return torch.nn.functional.normalize(table[torch.tensor(ids or [0], device=table.device)].float().mean(0), dim=0)
