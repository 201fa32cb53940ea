"""Reader of LongLaMP (arXiv 2407.11016) as its Hugging Face data set is exported: ``{split}.json`` or ``.jsonl``.

Each record holds ``input``, ``output`` and ``profile``; the user's name stands in another field for each task. The
data set calls the dev split "val". The e-mail task is not in it: its texts need a license.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import PersonaPlugError
from .data import Example, Task, check_gold, text_of
from .files import Records, find_file
from .profiles import Layout, question, survey, task_name

LAYOUTS = {
    "LongLaMP_abstract_generation": Layout(kind="text", text=("title",), output="abstract", marker="items:"),
    "LongLaMP_topic_writing": Layout(kind="text", text=("summary",), output="content", marker="reddit post"),
    "LongLaMP_product_review": Layout(
        kind="text", text=("overall", "summary", "description"), output="reviewText", marker="with description"
    ),
}
USERS = ("reviewerId", "author", "name", "user_id")
"""The fields that may name a record's user."""

_WORDINGS = {"an abstract": "abstract_generation", "reddit post": "topic_writing", "review text": "product_review"}


def find_longlamp(folder: Path, split: str) -> Path | None:
    """LongLaMP's records of a split in a folder; None where there are none."""
    names = ("dev", "val", "validation") if split in ("dev", "val") else (split,)
    return find_file(folder, *(f"{name}.{end}" for name in names for end in ("json", "jsonl")))


def read_longlamp(folder: Path, split: str = "dev", *, limit: int = 0) -> Task:
    """Reads a LongLaMP folder; ``limit`` takes so many questions, evenly spread (0: all).

    A record without an id gets the split's name and its number. Raises as read_lamp does.
    """
    path = find_longlamp(folder, split)
    if path is None:
        raise PersonaPlugError(f"expected {split}.json or {split}.jsonl in {folder}, plain, .gz or .xz")
    records = Records(path)
    first: Mapping[str, Any] = next(records.scan(), {})
    wording = str(first.get("input")).casefold()
    name = next((f"LongLaMP_{task}" for words, task in _WORDINGS.items() if words in wording), "")
    if not name:
        known = ", ".join(map(repr, _WORDINGS))
        raise PersonaPlugError(f"{path}: not a task of LongLaMP: expected the first input to speak of {known}")
    layout = LAYOUTS[name]
    found = survey(records, partial(_example, layout=layout, path=path, split=split), limit)
    return Task(
        name=task_name(folder, split, name),
        kind=layout.kind,
        labels=(),
        examples=found.examples,
        users=found.users,
        marker=layout.marker,
        official=name,
    )


def _example(number: int, row: dict[str, Any], *, layout: Layout, path: Path, split: str) -> Example:
    where = f"{path}: record {number + 1}"
    name = text_of(row, "id", where) if row.get("id") is not None else f"{split}-{number}"
    field = next((field for field in USERS if row.get(field) is not None), "")
    gold = check_gold(text_of(row, "output", where), layout.kind, where)
    user = text_of(row, field, where) if field else name
    return question(row, layout, where, id=name, user_id=user, gold=gold)
