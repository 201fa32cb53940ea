"""Reader of genuine LaMP files (arXiv 2304.11406): ``{split}_questions.json`` and ``{split}_outputs.json``.

The questions file of a task has up to gigabytes (every question carries its profile), so it is streamed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, PersonaPlugError, TextError
from .data import Example, Kind, PastItem, Task, common_output


@dataclass(frozen=True)
class Layout:
    """Fields of a LaMP task: the profile fields joined to a text, the one with the user's output, the wording's end."""

    kind: Kind
    text: tuple[str, ...]
    output: str
    marker: str
    labels: tuple[str, ...] = ()


LAYOUTS = {
    "LaMP_1": Layout("label", ("title", "abstract"), "", 'title "', ("[1]", "[2]")),
    "LaMP_2": Layout("label", ("description",), "tag", "description:"),
    "LaMP_2N": Layout("label", ("text",), "category", "article:"),
    "LaMP_3": Layout("rating", ("text",), "score", "review:", ("1", "2", "3", "4", "5")),
    "LaMP_4": Layout("text", ("text",), "title", "article:"),
    "LaMP_5": Layout("text", ("abstract",), "title", "paper:"),
    "LaMP_6": Layout("text", ("text",), "title", "email:"),
    "LaMP_7": Layout("text", ("text",), "", "it:"),
}
"""By task. News and movies both call themselves "LaMP_2" in their outputs: the profile fields tell them apart."""


def query_text(text: str, marker: str) -> str:
    """What an input is about: the part after its wording, which ends with ``marker``; the whole input without one.

    LaMP-1 quotes the title: there the text up to the closing quote. For LaMP-2N this is the article alone.
    """
    _, found, rest = text.partition(marker)
    if not found:
        return text.strip()
    return (rest.partition('"')[0] if marker.endswith('"') else rest).strip()


def is_lamp(folder: Path, split: str) -> bool:
    """Whether a folder holds LaMP's questions of a split."""
    return (folder / f"{split}_questions.json").is_file()


def read_lamp(folder: Path, split: str = "dev", *, limit: int = 0) -> Task:
    """Reads a LaMP folder; ``limit`` stops after so many questions (0: all).

    Raises PersonaPlugError when a file is missing or the task unknown, TextError when a record is malformed.
    """
    golds, name = read_golds(folder / f"{split}_outputs.json")
    rows = list(islice(stream_questions(folder / f"{split}_questions.json"), limit or None))
    if not rows:
        raise PersonaPlugError(f"{folder}/{split}_questions.json has no question")
    if name == "LaMP_2" and any("category" in item for row in rows for item in row["profile"][:1]):
        name = "LaMP_2N"
    if name not in LAYOUTS:
        raise PersonaPlugError(f"{folder}: task {name!r} is unknown; known: {', '.join(LAYOUTS)}")
    layout = LAYOUTS[name]
    examples = tuple(_example(row, layout, golds, folder) for row in rows)
    labels = layout.labels or (label_list(examples) if layout.kind == "label" else ())
    users = {example.user_id: example.history for example in examples}
    prior = common_output(users.values()) if labels else ""
    return Task(
        name=name,
        kind=layout.kind,
        labels=labels,
        examples=examples,
        users=users,
        prior=prior,
        marker=layout.marker,
    )


def read_golds(path: Path) -> tuple[dict[str, str], str]:
    """The wanted outputs by question id, and the task's name as its file writes it ("LaMP_4")."""
    if not path.is_file():
        raise PersonaPlugError(f"expected {path}; LaMP publishes no outputs for its test split: take train or dev")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {str(gold["id"]): str(gold["output"]) for gold in table["golds"]}, str(table["task"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise TextError(f'{path}: expected {{"task", "golds": [{{"id", "output"}}]}}: {error!r}') from error


def stream_questions(path: Path) -> Iterator[dict[str, Any]]:
    """Yields LaMP questions one by one: ``id``, ``input``, ``profile``; one question is in memory at a time."""
    try:
        ijson: Any = import_module("ijson")
    except ImportError as error:
        raise MissingExtraError("reading LaMP files needs ijson: pip install 'personaplug-edge[eval]'") from error
    with path.open("rb") as file:
        yield from _checked(ijson.items(file, "item", use_float=True), path, ijson.JSONError)


def label_list(examples: tuple[Example, ...]) -> tuple[str, ...]:
    """The labels that the wording names, sorted: ``categories: [women, religion, ...]`` (LaMP-2 and LaMP-2N)."""
    labels: set[str] = set()
    for example in examples:
        if found := re.search(r"(?:categories|tags): \[([^\]]+)\]", example.input):
            labels.update(label.strip() for label in found[1].split(","))
    if not labels:
        raise TextError("no question names its labels as 'categories: [...]' or 'tags: [...]'; is this a LaMP-2 file?")
    return tuple(sorted(labels))


def _checked(rows: Iterator[Any], path: Path, syntax: type[Exception]) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not {"id", "input", "profile"} <= row.keys():
                raise TextError(f"{path}: question {number}: expected an object with id, input and profile")
            yield row
    except syntax as error:
        raise TextError(f"{path}: broken after question {number}: {error}; the file may be cut short") from error


def _example(row: dict[str, Any], layout: Layout, golds: dict[str, str], folder: Path) -> Example:
    key = str(row["id"])
    if key not in golds:
        raise TextError(f"{folder}: question {key!r} has no output in the outputs file")
    history = tuple(_item(item, layout, key) for item in row["profile"])
    return Example(id=key, user_id=key, input=str(row["input"]), gold=golds[key], history=history)


def _item(item: dict[str, Any], layout: Layout, question: str) -> PastItem:
    missing = [field for field in (*layout.text, layout.output) if field and field not in item]
    if missing:
        raise TextError(f"question {question!r}: a profile item lacks {', '.join(missing)}; it has {', '.join(item)}")
    text = " ".join(str(item[field]).strip() for field in layout.text)
    return PastItem(text, str(item[layout.output]) if layout.output else "")
