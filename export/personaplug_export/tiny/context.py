"""Task examples with something of their user in front: soft rows, or past items as text.

A large LLM has learned to read what stands before a request; one of some million parameters that is tuned on bare
requests alone has not: to it a persona is noise, and so is a retrieved item. The rows here come from no plug: each is a
weighted mean of the LLM's own token rows, of words that the user answered before, with noise. What the LLM learns from
them is to read such rows where they tell something and to let them be where they do not; it never meets a plug before
the plug is trained, and that finds it frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.evaluate.data import Example, PastItem
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_edge.personalize.wording import wording_of
from personaplug_export.examples import item_text
from personaplug_export.folds import fold_of
from personaplug_export.tiny.corpus import ANSWER
from personaplug_export.tiny.llm import SoftRow, TaskExample, encode_example
from personaplug_export.vectors import EncoderOptions, FrozenEncoder, cached_vectors

Tokenize = Callable[[str], list[int]]
Vectors = dict[str, NDArray[np.float32]]

TEMPLATE = "{output}: {text}"
"""How an item is encoded where its nearness to a request is asked; a plug may encode it in another way."""
BLOGGERS = 600
WITH_ROWS = {
    "news_category": 4_500,
    "news_headline": 1_200,
    "email_subject": 1_200,
    "product_rating": 300,
    "blog_posts": 1_500,
}
WITH_TEXT = {
    "news_category": 500,
    "news_headline": 300,
    "email_subject": 300,
    "product_rating": 100,
    "blog_posts": 400,
}
"""Examples an epoch, by task."""

MOST_ROWS = 5
ITEMS_A_ROW = 32
TOKENS_AN_ITEM = 3
NOISE_ALONE = 0.15
"""Share of rows that tell nothing: an instruction embedding is such a row, and a persona that knows nothing."""
MOST_ITEMS = 4
TEXT_TOKENS = 360
"""Tokens of a request with past items in front of it."""


class Histories:
    """The training questions of the tasks, and how near each past item is to its request."""

    def __init__(self, data: Path, encoder: Path, options: EncoderOptions, cache: Path, fold: int | None) -> None:
        """``fold``: the users of this fold are left out."""
        reader = FrozenEncoder(encoder, options)
        self.questions: dict[str, list[Example]] = {}
        self.vectors: Vectors = {}
        for name in WITH_ROWS:
            for task in read_tasks(data / name, split="train", bloggers=BLOGGERS):
                texts = [
                    text for q in task.examples for text in (q.input, *(item_text(i, TEMPLATE) for i in q.history))
                ]
                found = cached_vectors(reader, texts, cache / f"{name}-train.pt")
                self.vectors |= {text: vector.numpy() for text, vector in found.items()}
                self.questions[name] = [q for q in task.examples if q.history and fold_of(q.user_id) != fold]

    def nearness(self, question: Example) -> NDArray[np.float32]:
        """Cosine of each past item to the request, (n,), the oldest first."""
        items = np.stack([self.vectors[item_text(item, TEMPLATE)] for item in question.history])
        near: NDArray[np.float32] = items @ self.vectors[question.input]
        return near


def context_examples(histories: Histories, tokenize: Tokenize, order: np.random.Generator) -> Iterator[TaskExample]:
    """One epoch of examples with rows and of examples with text, in no order."""
    for task, count in WITH_ROWS.items():
        for question in _some(histories.questions[task], count, order):
            rows = soft_rows(question.history, histories.nearness(question), tokenize, order)
            yield encode_example(tokenize, question.input, question.gold, rows)
    for task, count in WITH_TEXT.items():
        for question in _some(histories.questions[task], count, order):
            yield _with_text(question, histories.nearness(question), tokenize, order)


def soft_rows(
    items: Sequence[PastItem], nearness: NDArray[np.float32], tokenize: Tokenize, order: np.random.Generator
) -> tuple[SoftRow, ...]:
    """One to MOST_ROWS rows of a history, those that the request does not matter to first, as a persona has them."""
    count = int(order.integers(1, MOST_ROWS + 1))
    of_request = sorted(order.random(count) < 0.8)
    return tuple(_soft_row(items, nearness if near else None, tokenize, order) for near in of_request)


def _soft_row(
    items: Sequence[PastItem], nearness: NDArray[np.float32] | None, tokenize: Tokenize, order: np.random.Generator
) -> SoftRow:
    noise = float(order.uniform(0, 0.7))
    if order.random() < NOISE_ALONE:
        return SoftRow((), (), 1.0)
    kept = np.flatnonzero(order.random(len(items)) < order.uniform(0.5, 1.0))
    if not len(kept):
        kept = np.array([len(items) - 1])
    if nearness is None:
        kept, weights = order.permutation(kept)[:ITEMS_A_ROW], np.ones(min(len(kept), ITEMS_A_ROW))
    else:
        age = np.log(len(items) - kept)
        scores = order.uniform(7, 25) * nearness[kept] - order.uniform(0, 1.5) * age
        first = np.argsort(-scores, kind="stable")[:ITEMS_A_ROW]
        kept, weights = kept[first], np.exp(scores[first] - scores[first[0]])
    ids: list[int] = []
    shares: list[float] = []
    for place, weight in zip(kept.tolist(), (weights / weights.sum()).tolist(), strict=True):
        item = items[place]
        tokens = tokenize(item.output or item.text[:400])
        told = [tokens[i] for i in order.permutation(len(tokens))[:TOKENS_AN_ITEM].tolist()]
        ids += told
        shares += [weight / max(1, len(told))] * len(told)
    return SoftRow(tuple(ids), tuple(shares), noise)


def _with_text(
    question: Example, nearness: NDArray[np.float32], tokenize: Tokenize, order: np.random.Generator
) -> TaskExample:
    """A request behind one to MOST_ITEMS past items, the nearest, the latest or any, as the runtime writes them."""
    wording = wording_of("{input}" + ANSWER, question.input)
    ranking = (np.argsort(-nearness, kind="stable"), np.arange(len(nearness))[::-1], order.permutation(len(nearness)))
    chosen = ranking[order.choice(3, p=(0.6, 0.2, 0.2))][: order.integers(1, MOST_ITEMS + 1)]
    written = [wording.write(question.history[i].text, question.history[i].output) for i in chosen.tolist()]
    room = TEXT_TOKENS - len(tokenize(question.input))
    while written and sum(len(tokenize(item)) for item in written) > room:
        written.pop()
    front, request = wording.place(question.input, written) if written else ("", question.input)
    return encode_example(tokenize, front + request, question.gold, longest=TEXT_TOKENS + len(tokenize(ANSWER)))


def _some(questions: Sequence[Example], count: int, order: np.random.Generator) -> Iterator[Example]:
    """``count`` questions: each as often as any other, but for one."""
    picks: list[int] = np.resize(order.permutation(len(questions)), count).tolist()
    return (questions[i] for i in picks)
