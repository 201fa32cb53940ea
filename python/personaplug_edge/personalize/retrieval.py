"""Retrieval baseline: the history items that BM25 finds nearest to a request, as text in front of it (LaMP, section 3).

Costs prompt tokens for every request, where a persona costs a row; it needs no trained part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..errors import MissingExtraError
from ..prompt import Prompt


class TextItem(Protocol):
    """What is read of a history item; items of the store have more."""

    @property
    def text(self) -> str:
        """What the user read or wrote."""

    @property
    def output(self) -> str:
        """What the user made of it."""


T = TypeVar("T", bound=TextItem)

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words of a text, punctuation left out."""
    return _WORD.findall(text.lower())


def bm25_top(query: str, items: Sequence[T], k: int) -> list[T]:
    """The ``k`` items with the highest Okapi BM25 score against ``query``, best first; of equal ones the later first.

    Raises MissingExtraError without rank-bm25.
    """
    if k < 1 or not items:
        return []
    try:
        from rank_bm25 import BM25Okapi
    except ImportError as error:
        raise MissingExtraError("BM25 needs rank-bm25: pip install 'personaplug-edge[eval]'") from error
    corpus = [words(item.text) for item in items]
    if not any(corpus):  # rank-bm25 divides by the mean length
        return list(items[::-1][:k])
    scores = BM25Okapi(corpus).get_scores(words(query))
    order = sorted(range(len(items)), key=lambda index: (-float(scores[index]), -index))
    return [items[index] for index in order[:k]]


def with_items(
    text: str, items: Sequence[TextItem], render: Callable[[TextItem], str], fits: Callable[[str], bool]
) -> str:
    """``text`` behind the rendered items, the best one next to it; items are left out, worst first, until it ``fits``.

    ``items`` come best first. The bare text is returned even where it does not fit: cutting it is the caller's affair.
    """
    for count in range(len(items), 0, -1):
        joined = "".join(render(item) for item in reversed(items[:count])) + text
        if fits(joined):
            return joined
    return text


def retrieval_prompt(
    text: str,
    items: Sequence[TextItem],
    *,
    tokenize: Callable[[str], list[int]],
    k: int = 4,
    query: str = "",
    max_tokens: int = 1024,
    render: Callable[[TextItem], str] = lambda item: f"{item.text}\n{item.output}\n\n",
) -> Prompt:
    """A prompt of tokens only: the ``k`` items nearest to ``query`` (default: ``text``) and then ``text``."""
    best = bm25_top(query or text, items, k)
    return Prompt.tokens(tokenize(with_items(text, best, render, lambda joined: len(tokenize(joined)) <= max_tokens)))
