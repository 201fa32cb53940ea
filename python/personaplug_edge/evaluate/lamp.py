"""Reader of genuine LaMP files (arXiv 2304.11406): ``{split}_questions.json`` and ``{split}_outputs.json``.

The user-based and the time-based split are the same files in different folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import PersonaPlugError, TextError
from .data import Example, Task, Unique, check_gold, text_of
from .files import Records, find_file, read_json
from .profiles import Layout, question, survey, task_name

MOVIE_TAGS = (
    "action",
    "based on a book",
    "classic",
    "comedy",
    "dark comedy",
    "dystopia",
    "fantasy",
    "psychology",
    "romance",
    "sci-fi",
    "social commentary",
    "thought-provoking",
    "true story",
    "twist ending",
    "violence",
)
NEWS_CATEGORIES = (
    "business",
    "crime",
    "culture & arts",
    "education",
    "entertainment",
    "food & drink",
    "healthy living",
    "parents",
    "politics",
    "religion",
    "science & technology",
    "sports",
    "style & beauty",
    "travel",
    "women",
)
"""The labels that LaMP's own evaluation knows, in alphabetic order."""

LAYOUTS = {
    "LaMP_1": Layout(kind="label", text=("title", "abstract"), marker="[1]:", labels=("[1]", "[2]")),
    "LaMP_2": Layout(kind="label", text=("description",), output="tag", marker="description:", labels=MOVIE_TAGS),
    "LaMP_2N": Layout(kind="label", text=("text",), output="category", marker="article:", labels=NEWS_CATEGORIES),
    "LaMP_3": Layout(kind="rating", text=("text",), output="score", marker="review:", labels=("1", "2", "3", "4", "5")),
    "LaMP_4": Layout(kind="text", text=("text",), output="title", marker="article:"),
    "LaMP_5": Layout(kind="text", text=("abstract",), output="title", marker="paper:"),
    "LaMP_6": Layout(kind="text", text=("text",), output="title", marker="email:"),
    "LaMP_7": Layout(kind="text", text=("text",), marker="it:"),
}
"""By task. News and movies both call themselves "LaMP_2" in their outputs: their wording tells them apart."""


def find_lamp(folder: Path, split: str) -> Path | None:
    """LaMP's questions of a split in a folder, or in its folder named as the split; None where there are none."""
    name = f"{split}_questions.json"
    return find_file(folder, name) or find_file(folder / split, name)


def read_lamp(folder: Path, split: str = "dev", *, limit: int = 0) -> Task:
    """Reads a LaMP folder; ``limit`` takes so many questions, evenly spread (0: all). Fields not known are passed over.

    All questions are checked at once, but each is kept in the file and read when it is asked for.

    Raises PersonaPlugError when a file is missing or the task unknown, TextError when a record is malformed, naming it
    and its field.
    """
    path = find_lamp(folder, split)
    if path is None:
        raise PersonaPlugError(f"expected {split}_questions.json in {folder}, plain, .gz or .xz")
    golds, official = read_golds(path.parent, split)
    records = Records(path)
    name = _name(official, records, path)
    layout = LAYOUTS[name]
    found = survey(records, partial(_example, layout=layout, golds=golds, path=path), limit)
    if extra := golds.keys() - found.ids:
        raise TextError(f"{path}: {len(extra)} outputs have no question, such as {min(extra)!r}; is it the right file?")
    return Task(
        name=task_name(folder, split, name),
        kind=layout.kind,
        labels=(found.labels or layout.labels) if name in ("LaMP_2", "LaMP_2N") else layout.labels,
        examples=found.examples,
        users=found.users,
        prior=found.prior if layout.labels else "",
        marker=layout.marker,
        official=official,
    )


def read_golds(folder: Path, split: str) -> tuple[dict[str, str], str]:
    """The wanted outputs by question id, and the task's name as its file writes it ("LaMP_4")."""
    path = find_file(folder, f"{split}_outputs.json")
    if path is None:
        raise PersonaPlugError(
            f"expected {split}_outputs.json in {folder}; LaMP publishes no outputs for its test split: take dev"
        )
    table = read_json(path)
    golds = table.get("golds") if isinstance(table, dict) else None
    if not isinstance(golds, list) or "task" not in table:
        raise TextError(f'{path}: expected {{"task": ..., "golds": [{{"id": ..., "output": ...}}]}}')
    unique, outputs = Unique("question"), dict[str, str]()
    for number, gold in enumerate(golds, 1):
        where = f"{path}: gold {number}"
        if not isinstance(gold, dict):
            raise TextError(f"{where}: expected an object with id and output, got {type(gold).__name__}")
        outputs[unique(text_of(gold, "id", where), where)] = text_of(gold, "output", where)
    return outputs, str(table["task"])


def _name(official: str, records: Records, path: Path) -> str:
    name = official.replace("-", "_")
    if name not in LAYOUTS:
        raise PersonaPlugError(f"{path}: task {official!r} is unknown; known: {', '.join(LAYOUTS)}")
    first: Mapping[str, Any] = next(records.scan(), {})
    return "LaMP_2N" if name == "LaMP_2" and LAYOUTS["LaMP_2N"].marker in str(first.get("input")) else name


def _example(number: int, row: dict[str, Any], *, layout: Layout, golds: Mapping[str, str], path: Path) -> Example:
    where = f"{path}: question {number + 1}"
    name = text_of(row, "id", where)
    where += f" (id {name!r})"
    if name not in golds:
        raise TextError(f"{where} has no output in the outputs file")
    user = text_of(row, "user_id", where) if row.get("user_id") is not None else name
    gold = check_gold(golds[name], layout.kind, where, layout.labels)
    return question(row, layout, where, id=name, user_id=user, gold=gold)
