"""What an evaluation reads: tasks, their questions with the histories before them, and how records are checked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..errors import PersonaPlugError, TextError
from .files import DAMAGED, ENDINGS, open_binary

Kind = Literal["label", "rating", "text", "continuation"]
"""What a task asks for: one of its labels, a number among its labels, free text, or nothing: of a continuation only
the likelihood is measured (there is no need to generate one)."""


@dataclass(frozen=True)
class PastItem:
    """One history item: a text and what the user made of it ("" where nothing is known)."""

    text: str
    output: str = ""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question: ``input`` is the whole request, ``gold`` the user's answer, ``history`` the items before it."""

    id: str
    user_id: str
    input: str
    gold: str
    history: tuple[PastItem, ...]


@dataclass(frozen=True, kw_only=True)
class Task:
    """The questions of one task. ``labels`` is empty for free text; ``users`` holds all histories known, by user id;
    ``prior`` is the guess for a user of whom nothing is known; ``marker`` ends the wording of an input.

    ``examples`` and ``users`` may read from a file on each access (LaMP's do): go through them in order.
    ``name`` is the folder's, so that no two tasks of a run share it; ``official`` is the task's as LaMP's own files
    write it, which can differ ("LaMP_4" for a folder LaMP_4_time, "LaMP_2" for LaMP_2N).
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    examples: Sequence[Example]
    users: Mapping[str, tuple[PastItem, ...]]
    prior: str = ""
    marker: str = ":"
    official: str = ""


class NoQuestionError(PersonaPlugError):
    """A folder has questions, or posts, but none of the split asked for."""


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a JSON Lines file, plain, ``.gz`` or ``.xz``. Raises TextError naming file and line."""
    number = 0
    with open_binary(path) as lines:
        try:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                if not isinstance(row, dict):
                    raise TextError(f"{path}:{number}: expected a JSON object, got {type(row).__name__}")
                yield row
        except DAMAGED as error:
            raise TextError(f"{path}: cannot be read behind line {number}: {error}; fetch it again") from error
        except (ValueError, RecursionError) as error:
            if isinstance(error, PersonaPlugError):
                raise
            raise TextError(f"{path}:{number}: expected a JSON record: {error}; mend or remove the line") from error


def find_rows(folder: Path, stem: str) -> Path:
    """The file ``stem``.jsonl of a folder, plain or compressed. Raises PersonaPlugError where there is none, or two."""
    found = [path for ending in ENDINGS if (path := folder / f"{stem}.jsonl{ending}").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(path.name for path in found)
        raise PersonaPlugError(f"expected one {stem}.jsonl in {folder}, plain or compressed, found {names}: remove one")
    raise PersonaPlugError(f"expected {stem}.jsonl or {stem}.jsonl.xz in {folder}; see the data layout in the docs")


def text_of(row: Mapping[str, Any], field: str, where: str) -> str:
    """A field of a record as text; what no text may hold (NUL, lone surrogates) becomes U+FFFD.

    Whole numbers are written without a fraction. Raises TextError, naming ``where`` and the field, where it is
    missing, null or not a text or number.
    """
    if field not in row:
        raise TextError(f"{where} lacks {field!r}; it has {', '.join(row) or 'nothing'}")
    value = row[field]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        kind = "null" if value is None else type(value).__name__
        raise TextError(f"{where}: expected {field!r} to be a text, got {kind}")
    return clean_text(value) if isinstance(value, str) else str(value)


_UNFIT = re.compile("[\0\ud800-\udfff]")


def clean_text(text: str) -> str:
    """The text with U+FFFD for NUL characters and lone surrogates, which a JSON escape can bring in."""
    # Of gigabytes most is ASCII, which needs no search by a regular expression.
    return text if text.isascii() and "\0" not in text else _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text)


def check_gold(gold: str, kind: Kind, where: str, labels: Sequence[str] = ()) -> str:
    """The gold answer, of a task with labels as its labels are written: the likelihood is of these characters.

    Raises TextError for one that makes a figure wrong: empty, or a rating that is no number.
    """
    if not gold.strip():
        raise TextError(f"{where}: the wanted output is empty")
    if kind == "rating" and not is_number(gold.strip()):
        raise TextError(f"{where}: expected the wanted output to be a number, got {gold!r}")
    return like_labels(gold, kind, labels)


def like_labels(text: str, kind: Kind, labels: Sequence[str]) -> str:
    """An output as the labels are written: stripped, and a rating as the label of its value; free text as it is."""
    if kind == "rating":
        return same_label(text, labels)
    return text.strip() if kind == "label" else text


def same_label(text: str, labels: Sequence[str]) -> str:
    """The rating among the labels that has the value of a text ("5" for "5.0"); where none has, the stripped text."""
    text = text.strip()
    if text in labels or not is_number(text):
        return text
    return next((label for label in labels if is_number(label) and float(label) == float(text)), text)


LONGEST = (100, 500)
"""Words and characters of a continuation at most, whichever is less: so it fits the context of a small LLM (of 8,531
dev posts none has more than 324 tokens of the shipped bundle then, 101 on average; whole they have up to 1,022, 149).
"""


def cut_rest(text: str) -> str:
    """A continuation of at most LONGEST, cut at a space, or within its first word if that is longer."""
    words, characters = LONGEST
    return cut_text(" ".join(text.split()[:words]), characters)


def cut_text(text: str, characters: int) -> str:
    """The beginning of a text up to the last space within so many characters, or so many where there is none."""
    return text if len(text) <= characters else text[: text.rfind(" ", 0, characters)][:characters]


class Unique:
    """Tells ids apart: a repeated one would answer for two records."""

    def __init__(self, what: str) -> None:
        self._what, self._seen = what, set[str]()

    def __call__(self, name: str, where: str) -> str:
        """The id. Raises TextError for one that was there before."""
        if name in self._seen:
            raise TextError(f"{where}: the {self._what} {name!r} is there twice")
        self._seen.add(name)
        return name


T = TypeVar("T")


def spread(examples: Sequence[T], limit: int) -> list[T]:
    """``limit`` examples at even distances, all of them for 0: the first ones would be those of a few users."""
    if not 0 < limit < len(examples):
        return list(examples)
    return [examples[index * len(examples) // limit] for index in range(limit)]


def common_output(histories: Iterable[Sequence[PastItem]]) -> str:
    """The commonest output of the histories' first items, which must be no question's own; "" where there are none."""
    outputs = Counter(item.output for history in histories for item in history[:1] if item.output)
    return outputs.most_common(1)[0][0] if outputs else ""


def is_number(text: str) -> bool:
    """Whether Python reads the text as a finite number (LaMP's reading of a rating)."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


_LISTED = re.compile(r"(?:categories|tags): \[([^\]]+)\]")


def listed_labels(text: str) -> list[str]:
    """The labels that a wording names, as in ``categories: [women, religion, ...]`` (LaMP-2 and LaMP-2N)."""
    found = _LISTED.search(text)
    return [label.strip() for label in found[1].split(",")] if found else []
