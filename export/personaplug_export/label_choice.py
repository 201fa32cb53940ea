"""The likeliest of some labels, in PyTorch, as the runtime's ``choose`` finds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from personaplug_edge.evaluate.data import Example
from personaplug_export.examples import Examples
from personaplug_export.loss import IGNORE
from personaplug_export.train import Trainer


@torch.no_grad()
def choose_label(trainer: Trainer, examples: Examples, question: Example, labels: Sequence[str]) -> str:
    """The label of the highest likelihood, its end token included; the prompt is read once for all of them."""
    rows = trainer.rows(examples, [question], None)
    request = examples.tokens(question)[0]
    answers = [examples.answer_tokens(question, label) for label in labels]
    table = trainer.llm.get_input_embeddings()
    embedded = table(torch.tensor([request], device=rows.device))
    whole = torch.cat([embedded[:, :1], rows.to(embedded.dtype), embedded[:, 1:]], dim=1)
    read = trainer.llm(inputs_embeds=whole, use_cache=True)
    ids, targets = _padded(answers, rows.device)
    cache = read.past_key_values
    cache.batch_repeat_interleave(len(labels))
    later = trainer.llm(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True).logits
    logits = torch.cat([read.logits[:, -1:].expand(len(labels), -1, -1), later], dim=1).float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")
    return labels[int(losses.sum(1).argmin())]


def _padded(answers: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, answers))
    ids = torch.zeros(len(answers), longest, dtype=torch.long)
    targets = torch.full_like(ids, IGNORE)
    for row, answer in enumerate(answers):
        ids[row, : len(answer)] = targets[row, : len(answer)] = torch.tensor(answer)
    return ids.to(device), targets.to(device)
