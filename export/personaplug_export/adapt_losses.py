"""The loss of each answer of an adapted plug, of the request alone, and of users of whom nothing is known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from personaplug_edge.evaluate.data import Example
from personaplug_export.examples import Examples
from personaplug_export.loss import plug_loss
from personaplug_export.train import Trainer

BATCH = 32


def answer_losses(trainer: Trainer, examples: Examples) -> list[float]:
    """In nats, in the order of the questions."""
    return _batched(examples, lambda questions: trainer.loss(examples, questions, None, each=True))


def bare_losses(trainer: Trainer, examples: Examples) -> list[float]:
    """In nats, given the request alone, without any row."""
    table = trainer.llm.get_input_embeddings().weight
    kind = "cuda" if trainer.options.device.startswith("cuda") else "cpu"

    def loss(questions: Sequence[Example]) -> Tensor:
        rows = torch.zeros(len(questions), 0, table.shape[1], device=table.device)
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=trainer.options.bf16):
            return plug_loss(trainer.llm, rows, [examples.tokens(q) for q in questions], each=True)

    return _batched(examples, loss)


def without_history(examples: Examples) -> Examples:
    """The same questions from users of whom nothing is known."""
    blank = copy.copy(examples)
    blank.questions = [replace(question, history=()) for question in examples.questions]
    return blank


@torch.no_grad()
def _batched(examples: Examples, loss: Callable[[Sequence[Example]], Tensor]) -> list[float]:
    questions = examples.questions
    order = sorted(range(len(questions)), key=lambda i: len(questions[i].input) + len(questions[i].gold))
    losses = [0.0] * len(questions)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        for index, value in zip(chosen, loss([questions[i] for i in chosen]).tolist(), strict=True):
            losses[index] = value
    return losses
