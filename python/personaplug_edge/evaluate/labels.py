"""The labels of a task in this project's layout, and which of them an answer means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TextError
from .data import clean_text, is_number, listed_labels, same_label, text_of
from .files import find_file, read_json

STARS = ("1", "2", "3", "4", "5")


def labels_of(folder: Path, rows: Sequence[tuple[str, Mapping[str, Any]]], field: str) -> tuple[str, ...]:
    """Those of labels.json; else those that the wordings list, or 1 to 5 where the output field is the score.

    ``rows`` are the questions, each behind what an error calls it. Raises TextError for labels.json of another form,
    and for a score that is none of 1 to 5: without labels.json nothing tells its scale.
    """
    if path := find_file(folder, "labels.json"):
        return _read(path)
    if field in ("category", "tag"):
        return tuple(sorted({label for _, row in rows for label in listed_labels(clean_text(str(row.get("input"))))}))
    if field != "score":
        return ()
    for where, row in rows:
        if same_label(score := text_of(row, "output", where), STARS) not in STARS:
            wanted = f"expected 'output' to be one of {', '.join(STARS)}, got {score!r}"
            raise TextError(f"{where}: {wanted}; list the ratings of another scale in labels.json")
    return STARS


def _read(path: Path) -> tuple[str, ...]:
    found = read_json(path)
    if not isinstance(found, list) or not found:
        raise TextError(f"{path}: expected a list of labels, got {found if found == [] else type(found).__name__}")
    labels = [text_of({"label": each}, "label", f"{path}: entry {n}").strip() for n, each in enumerate(found, 1)]
    for number, label in enumerate(labels, 1):
        if not label:
            raise TextError(f"{path}: entry {number} is empty; expected a label")
    if twice := _repeated(labels):
        raise TextError(f"{path}: the label {twice!r} is there twice; leave one of them out")
    return tuple(labels)


def _repeated(labels: Sequence[str]) -> str:
    """The first label that is there twice, of ratings also in another writing ("4" and "4.0"); "" for none."""
    values: Iterable[str | float] = map(float, labels) if all(map(is_number, labels)) else labels
    seen = set[str | float]()
    for label, value in zip(labels, values, strict=True):
        if value in seen:
            return label
        seen.add(value)
    return ""
