"""This project's layout of a task: a folder with ``users.jsonl`` and ``questions.jsonl``, plain or compressed.

The profile of a question is the first ``n_history`` items of its user's history, never the target or anything later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import TextError
from .data import (
    Example,
    Kind,
    NoQuestionError,
    PastItem,
    Task,
    Unique,
    check_gold,
    common_output,
    cut_rest,
    cut_text,
    find_rows,
    is_number,
    like_labels,
    read_rows,
    spread,
    text_of,
)
from .files import find_file, name_of
from .labels import labels_of

OUTPUT_FIELD = {
    "news_category": "category",
    "news_headline": "title",
    "email_subject": "title",
    "product_rating": "score",
}
"""The field of a history item with the user's own output, by task; other tasks take the first of OUTPUT_FIELDS."""
OUTPUT_FIELDS = ("output", "category", "tag", "score", "title")

SHORT = {
    "article:": {"category": "category of article:", "title": "headline of article:"},
    "email:": {"title": "subject of email:"},
    "review:": {"score": "score of review:"},
    "post:": {"": "continuation of post:"},
}
"""The wording for small LLMs by what ends LaMP's wording and by output field, for questions without a short input."""

SHORT_LENGTH = 500
"""Characters of a short input at most behind its wording."""


@dataclass(frozen=True)
class _User:
    """A history and the ids of its items ("" where an item has none)."""

    items: tuple[PastItem, ...]
    ids: tuple[str, ...]

    def first(self, count: int) -> tuple[PastItem, ...]:
        """The first ``count`` items but those without text, which no encoder reads."""
        return tuple(item for item in self.items[:count] if item.text)

    def like(self, kind: Kind, labels: Sequence[str]) -> _User:
        """The same with its outputs as the labels are written, so that a vote for "5.0" is one for "5"."""
        items = (PastItem(item.text, like_labels(item.output, kind, labels)) for item in self.items)
        return _User(tuple(items), self.ids)


def is_task(folder: Path) -> bool:
    """Whether a folder holds questions in this layout."""
    return find_file(folder, "questions.jsonl") is not None


def read_task(folder: Path, split: str = "dev", *, short: bool = True, limit: int = 0) -> Task:
    """Reads one task's folder. ``short`` takes the wording made for small LLMs.

    ``limit`` takes so many questions, evenly spread (0: all). Fields that are not known are passed over; ``split``
    may be missing from all questions, ``short_input`` from any, and the file ``labels.json`` where the wording or the
    score tells the labels. What would make a figure wrong is refused: an id or user twice, a history shorter than
    ``n_history``, a profile with the question's own item in it.

    Raises PersonaPlugError when a file is missing, NoQuestionError when the split is empty, TextError when a record is
    malformed.
    """
    task, path = name_of(folder), find_rows(folder, "questions")
    named = _of_split(_named(path), split, folder)
    field = OUTPUT_FIELD.get(task, "")
    users, used = read_users(folder, field)
    labels = labels_of(folder, named, field or used)
    marker = _marker([row for _, row in named])
    kind = _kind(task, labels, marker)
    users = {name: user.like(kind, labels) for name, user in users.items()} if labels else users
    short_wording = SHORT.get(marker, {}).get(field or used, "") if short else ""
    seen = Unique("question")
    examples = []
    for where, row in named:
        seen(row["id"], where)
        text = _input(row, where, short, marker, short_wording)
        gold = check_gold(text_of(row, "output", where), kind, where, labels)
        examples.append(_example(row, users, where, text, cut_rest(gold) if kind == "continuation" else gold))
    return Task(
        name=task,
        kind=kind,
        labels=labels,
        examples=tuple(spread(examples, limit)),
        users={name: user.first(len(user.items)) for name, user in users.items()},
        prior=_prior(users, examples, [row for _, row in named]) if labels else "",
        marker=marker,
    )


def _prior(users: Mapping[str, _User], examples: Sequence[Example], rows: Sequence[Mapping[str, Any]]) -> str:
    """The commonest first output, but of users who are asked before their first item alone: it can be the answer."""
    longest: dict[str, int] = {}
    for example, row in zip(examples, rows, strict=True):
        longest[example.user_id] = max(longest.get(example.user_id, 0), row["n_history"])
    return common_output(user.items for name, user in users.items() if longest.get(name, 1))


def _named(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The questions, each with its id as text and behind what an error calls it."""
    named = []
    for number, row in enumerate(read_rows(path), 1):
        row["id"] = text_of(row, "id", f"{path}: question {number}")
        named.append((f"{path}: question {number} (id {row['id']!r})", row))
    return named


def _of_split(named: list[tuple[str, dict[str, Any]]], split: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The questions of a split; all of them where none names one. Raises TextError where only some do."""
    splits = [row.get("split") for _, row in named]
    if named and not any(each is not None for each in splits):
        return named
    for where, row in named:
        if row.get("split") is None:
            raise TextError(f"{where} lacks 'split', which other questions have: name it there, or nowhere")
    chosen = [(where, row) for where, row in named if row["split"] == split]
    if not chosen:
        known = ", ".join(sorted(set(map(str, splits))))
        raise NoQuestionError(f"no question of split {split!r} in {folder}; it has {known or 'no question'}")
    return chosen


def read_users(folder: Path, field: str = "") -> tuple[dict[str, _User], str]:
    """The histories of ``users.jsonl`` by user id, and the output field used: ``field``, or the items' usual one."""
    path = find_rows(folder, "users")
    users: dict[str, _User] = {}
    seen = Unique("user")
    rows: Iterable[dict[str, Any]] = read_rows(path)
    if not field:
        rows = list(rows)
        field = _usual_field(rows)
    for place, row in enumerate(rows, 1):
        name = text_of(row, "user_id", f"{path}: user {place}")
        where = f"{path}: user {place} (user_id {name!r})"
        seen(name, where)
        history = row.get("history")
        if not isinstance(history, list) or not all(isinstance(item, dict) for item in history):
            raise TextError(f"{where}: expected 'history' to be a list of objects")
        items = [_item(item, field, f"{where}, item {number}") for number, item in enumerate(history, 1)]
        ids = [text_of(item, "id", where) if item.get("id") is not None else "" for item in history]
        users[name] = _User(tuple(items), tuple(ids))
    return users, field


def _usual_field(rows: Iterable[Mapping[str, Any]]) -> str:
    """The first of OUTPUT_FIELDS that most of the items with an output have, or else the commonest; "" for none."""
    counts, answered = Counter[str](), 0
    for item in (item for row in rows if isinstance(row.get("history"), list) for item in row["history"]):
        found = [each for each in OUTPUT_FIELDS if isinstance(item, dict) and item.get(each) is not None]
        counts.update(found)
        answered += bool(found)
    commonest = max(OUTPUT_FIELDS, key=counts.__getitem__) if answered else ""
    return next((each for each in OUTPUT_FIELDS if 2 * counts[each] > answered), commonest)


def _item(row: Mapping[str, Any], field: str, where: str) -> PastItem:
    output = text_of(row, field, where).strip() if row.get(field) is not None else ""
    return PastItem(text_of(row, "text", where).strip(), output)


def _example(row: Mapping[str, Any], users: Mapping[str, _User], where: str, text: str, gold: str) -> Example:
    name, count = text_of(row, "user_id", where), row.get("n_history")
    if name not in users:
        raise TextError(f"{where}: user {name!r} is not in its users file")
    user = users[name]
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= len(user.items):
        raise TextError(f"{where}: expected 'n_history' from 0 to {len(user.items)}, the user's items; got {count!r}")
    if row["id"] in user.ids[:count]:
        raise TextError(f"{where}: its own item is among the {count} of its profile; the answer would be given away")
    return Example(
        id=row["id"],
        user_id=name,
        input=text,
        gold=gold,
        history=user.first(count),
    )


def _input(row: Mapping[str, Any], where: str, short: bool, marker: str, wording: str) -> str:
    field = "short_input" if short and row.get("short_input") not in (None, "") else "input"
    text = text_of(row, field, where)
    if not text.strip():
        raise TextError(f"{where}: {field!r} is empty; expected a request")
    if field == "short_input":
        return text
    _, found, rest = text.partition(marker)
    return f"{wording} {cut_text(rest.strip(), SHORT_LENGTH)}" if wording and found else text


def _kind(task: str, labels: Sequence[str], marker: str) -> Kind:
    if labels:
        return "rating" if all(map(is_number, labels)) else "label"
    return "continuation" if marker == "post:" or task == "blog_posts" else "text"


def _marker(rows: Sequence[Mapping[str, Any]]) -> str:
    texts = [str(row.get("input", "")) for row in rows[:20]]
    return next((marker for marker in SHORT if all(marker in text for text in texts)), ":")
