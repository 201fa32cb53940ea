"""What the tiny LLM reads: raw text first, then the five tasks without a persona.

Nothing of a dev question enters: of every user only the items before the first dev question are read.
"""

from __future__ import annotations

import lzma
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from personaplug_edge.evaluate.blogs import GIVEN, SHORT_WORDING
from personaplug_edge.evaluate.data import find_rows, read_rows
from personaplug_export.folds import fold_of

ANSWER = "\nanswer:"
"""What parts a request from its answer, in every prompt of the tiny LLM."""

NEWS_REPEATS = 8
EMAIL_REPEATS = 3
"""Passes over the small in-domain texts, so that they are not lost among the blogs."""

CONTINUED_POSTS = 20_000
"""Posts of general_text that are read as continuations: none is by a blogger of the task."""


def known_items(folder: Path, without_fold: int | None = None) -> Iterator[dict[str, str]]:
    """The history items of a task that precede each user's first dev question; ``without_fold`` leaves out the users
    of that fold.
    """
    first_dev: dict[str, int] = {}
    for row in read_rows(find_rows(folder, "questions")):
        if row["split"] == "dev":
            user = row["user_id"]
            first_dev[user] = min(first_dev.get(user, row["n_history"]), row["n_history"])
    for user in read_rows(find_rows(folder, "users")):
        if fold_of(user["user_id"]) != without_fold:
            yield from user["history"][: first_dev.get(user["user_id"])]


def raw_documents(data: Path, seed: int = 0) -> list[str]:
    """Raw text in a shuffled order: blogs, film reviews, and the news and e-mails of the tasks, repeated."""
    documents = [line for row in _text_lines(data / "general_text" / "blogs.txt.xz") if len(line := row.strip()) > 80]
    documents += [row["text"] for row in read_rows(data / "general_text" / "film_reviews.jsonl.xz")]
    for item in known_items(data / "news_headline"):
        documents += [f"{item['title']}\n{item['text']}"] * NEWS_REPEATS
    for item in known_items(data / "email_subject"):
        documents += [f"{item['title']}\n{item['text']}"] * EMAIL_REPEATS
    documents += [item["text"] for item in known_items(data / "product_rating")] * EMAIL_REPEATS
    random.Random(seed).shuffle(documents)
    return documents


def task_examples(data: Path, without_fold: int | None = None) -> dict[str, list[tuple[str, str]]]:
    """(request, answer) pairs by task. News has three views of an article, ratings also those of film reviews."""

    def items(task: str) -> Iterator[dict[str, str]]:
        return known_items(data / task, without_fold)

    news = list(items("news_category"))
    return {
        "news_category": [(f"category of article: {text}", i["category"]) for i in news for text in _views(i)],
        "news_headline": [(f"headline of article: {i['text']}", i["title"]) for i in items("news_headline")],
        "email_subject": [(f"subject of email: {i['text']}", i["title"]) for i in items("email_subject")],
        "product_rating": [(f"score of review: {i['text']}", i["score"]) for i in items("product_rating")],
        "film_rating": [
            (f"score of review: {row['text'][:400]}", str((int(row["rating"]) + 1) // 2))
            for row in read_rows(data / "general_text" / "film_reviews.jsonl.xz")
            if row["rating"] is not None
        ],
        "blog_continuation": list(islice(_continuations(data), CONTINUED_POSTS)),
    }


def _continuations(data: Path) -> Iterator[tuple[str, str]]:
    for post in _text_lines(data / "general_text" / "blogs.txt.xz"):
        words = post.split()
        if len(words) >= 2 * GIVEN:
            yield f"{SHORT_WORDING} {' '.join(words[:GIVEN])}", " ".join(words[GIVEN : GIVEN + 100])


def _views(item: dict[str, str]) -> tuple[str, str, str]:
    return item["text"], item["title"], f"{item['title']}. {item['text']}"


def _text_lines(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        yield from lines
