"""Readers of personalisation data: users with histories, and questions asked on their behalf.

The layout is a folder a task, holding ``users.jsonl.xz`` (one user a line: ``user_id`` and ``history``, items in time
order) and ``questions.jsonl.xz`` (``id``, ``user_id``, ``split``, ``input``, ``short_input``, ``output``,
``n_history``). The profile of a question is the first ``n_history`` items of that user's history.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTPUT_FIELD = {
    "news_category": "category",
    "news_headline": "title",
    "email_subject": "title",
    "product_rating": "score",
}
"""The field of a history item that holds what the user answered, by task."""


@dataclass(frozen=True)
class Item:
    """One history item: what the user read or wrote, and what the user made of it ("" where nothing is known)."""

    text: str
    output: str = ""


@dataclass(frozen=True)
class Question:
    """One request on a user's behalf; ``history`` holds what was known of the user before it."""

    id: str
    user_id: str
    split: str
    input: str
    output: str
    history: tuple[Item, ...]


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a JSON Lines file, ``.xz`` or plain."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}:{number}: not a JSON record: {error}") from error


def find_table(folder: Path, stem: str) -> Path:
    """The file ``stem``.jsonl.xz or ``stem``.jsonl of a folder."""
    for name in (f"{stem}.jsonl.xz", f"{stem}.jsonl"):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"no {stem}.jsonl or {stem}.jsonl.xz in {folder}")


def read_histories(folder: Path, output_field: str = "") -> dict[str, tuple[Item, ...]]:
    """Histories of a task's folder by user id; ``output_field`` defaults to that of the task named so."""
    output_field = output_field or OUTPUT_FIELD.get(folder.name, "")
    return {
        user["user_id"]: tuple(Item(i["text"], str(i.get(output_field, ""))) for i in user["history"])
        for user in read_jsonl(find_table(folder, "users"))
    }


def read_questions(folder: Path, split: str = "", *, short: bool = True) -> list[Question]:
    """The questions of a task's folder, of one split or of all; ``short`` takes the wording made for small LLMs."""
    histories = read_histories(folder)
    return [
        Question(
            row["id"],
            row["user_id"],
            row["split"],
            row["short_input"] if short else row["input"],
            str(row["output"]),
            histories[row["user_id"]][: row["n_history"]],
        )
        for row in read_jsonl(find_table(folder, "questions"))
        if not split or row["split"] == split
    ]
