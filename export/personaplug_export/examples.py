"""Examples as the trainer reads them: token ids of request and answer, and the vectors of all they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from personaplug_edge.bundle.template import fill
from personaplug_edge.evaluate.data import Example, PastItem
from personaplug_export.train_options import TrainOptions
from personaplug_export.vectors import FrozenEncoder, cached_vectors


def item_text(item: PastItem, template: str) -> str:
    """The text of a history item that the behavior encoder reads; the bundle's history template says the same."""
    return fill(template, text=item.text, output=item.output) if item.output else item.text


class Examples:
    """Examples with tokenized request and answer, and the vectors of everything they refer to."""

    def __init__(
        self,
        questions: Sequence[Example],
        tokenizer: PreTrainedTokenizerBase,
        encoder: FrozenEncoder,
        options: TrainOptions,
        cache: Path,
        *,
        labels: Sequence[str] = (),
    ) -> None:
        self.questions, self.options, self.labels = questions, options, labels
        self.tokenizer, self.encoder = tokenizer, encoder
        self.vectors = cached_vectors(encoder, self._texts(questions), cache)

    def _texts(self, questions: Sequence[Example]) -> list[str]:
        texts = [q.input for q in questions]
        return texts + [
            item_text(i, self.options.history_template) for q in questions for i in q.history[-self.options.max_items :]
        ]

    def learn(self, questions: Sequence[Example]) -> None:
        """Encodes what these questions refer to and is not known yet."""
        new = sorted(set(self._texts(questions)) - self.vectors.keys())
        self.vectors |= dict(zip(new, self.encoder.encode(new), strict=True))

    def tokens(self, question: Example) -> tuple[list[int], list[int]]:
        """Token ids of the request with its start token, and of the answer with its end token."""
        return self._tokens(question, question.gold)

    def answer_tokens(self, question: Example, answer: str) -> list[int]:
        """Token ids that another answer to a question would have, with its end token."""
        return self._tokens(question, answer)[1]

    def _tokens(self, question: Example, answer: str) -> tuple[list[int], list[int]]:
        head, tail = self.options.template.split("{input}")
        request = question.input
        prompt = self.tokenizer(head + request + tail, add_special_tokens=False)["input_ids"]
        while len(prompt) > self.options.max_input_tokens:
            request = request[: int(len(request) * self.options.max_input_tokens / len(prompt))]
            prompt = self.tokenizer(head + request + tail, add_special_tokens=False)["input_ids"]
        whole = self.tokenizer(head + request + tail + " " + answer, add_special_tokens=False)["input_ids"]
        start = [self.tokenizer.bos_token_id] if self.tokenizer.bos_token_id is not None else []
        return start + prompt, whole[len(prompt) :] + [self.tokenizer.eos_token_id]

    def history(self, question: Example, order: np.random.Generator | None) -> list[Tensor]:
        """The vectors of a question's history; with ``order``, part of them dropped at random."""
        items = question.history[-self.options.max_items :]
        if order is not None:
            if order.random() < self.options.drop_all:
                return []
            kept = order.random(len(items)) >= order.uniform(0, self.options.drop)
            items = tuple(item for item, keep in zip(items, kept, strict=True) if keep)
        return [self.vectors[item_text(item, self.options.history_template)] for item in items]


def pad_histories(histories: list[list[Tensor]], width: int, device: str) -> tuple[Tensor, Tensor]:
    """Vectors (batch, longest, d) and their mask (batch, longest); at least one column."""
    longest = max(1, *map(len, histories))
    vectors = torch.zeros(len(histories), longest, width)
    mask = torch.zeros(len(histories), longest, dtype=torch.bool)
    for row, history in enumerate(histories):
        if history:
            vectors[row, : len(history)] = torch.stack(history)
            mask[row, : len(history)] = True
    return vectors.to(device), mask.to(device)


def population_mean(examples: dict[str, Examples]) -> Tensor:
    """The mean over users of the mean vector of each user's items (d,)."""
    users: dict[str, tuple[PastItem, ...]] = {}
    vectors: dict[str, Tensor] = {}
    for task in examples.values():
        vectors |= task.vectors
        for question in task.questions:
            if len(question.history) > len(users.get(question.user_id, ())):
                users[question.user_id] = question.history
    template = next(iter(examples.values())).options.history_template
    limit = next(iter(examples.values())).options.max_items
    means = [torch.stack([vectors[item_text(i, template)] for i in items[-limit:]]).mean(0) for items in users.values()]
    return torch.stack(means).mean(0)
