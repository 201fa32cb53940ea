"""The loss of a plug: next-token cross-entropy of the answer, through the frozen LLM (arXiv 2409.11901, eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

IGNORE = -100
"""The label of a position that is not predicted."""


def plug_loss(
    llm: PreTrainedModel, rows: Tensor, pairs: Sequence[tuple[list[int], list[int]]], *, each: bool = False
) -> Tensor:
    """Cross-entropy of answers given [start; rows; request], rows (batch, r + k, H); mean, or each answer's sum."""
    device = rows.device
    longest = max(len(request) + len(answer) for request, answer in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    labels = torch.full((len(pairs), longest), IGNORE)
    for row, (request, answer) in enumerate(pairs):
        ids[row, : len(request) + len(answer)] = torch.tensor(request + answer)
        labels[row, len(request) : len(request) + len(answer)] = torch.tensor(answer)
    table = llm.get_input_embeddings()
    embedded = table(ids.to(device))
    whole = torch.cat([embedded[:, :1], rows.to(embedded.dtype), embedded[:, 1:]], dim=1)
    blank = torch.full((len(pairs), rows.shape[1]), IGNORE)
    labels = torch.cat([labels[:, :1], blank, labels[:, 1:]], dim=1).to(device)
    hidden = llm.base_model(inputs_embeds=whole).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != IGNORE
    logits = llm.get_output_embeddings()(hidden[wanted]).float()
    losses = torch.nn.functional.cross_entropy(logits, labels[:, 1:][wanted], reduction="none")
    if not each:
        return losses.mean()
    return torch.zeros(len(pairs), device=device).index_add(0, wanted.nonzero()[:, 0], losses)
