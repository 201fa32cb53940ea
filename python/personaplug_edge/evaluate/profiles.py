"""Questions that carry their own profile, as LaMP's and LongLaMP's do: what to take from a record, read when needed."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from ..errors import PersonaPlugError, TextError
from .data import Example, Kind, PastItem, Unique, clean_text, like_labels, listed_labels, spread, text_of
from .files import Records, name_of


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Fields of a task: those of a profile item joined to a text, and the one with the user's output ("": none);
    what ends the wording of an input; the labels.
    """

    kind: Kind
    text: tuple[str, ...]
    output: str = ""
    marker: str
    labels: tuple[str, ...] = ()


def task_name(folder: Path, split: str, own: str) -> str:
    """The folder's name, for two folders can hold one task (LaMP's splits by user and by time); ``own``, the task's,
    where the folder is named after the split alone.
    """
    name = name_of(folder).replace("-", "_")
    return own if name == split else name


Make = Callable[[int, dict[str, Any]], Example]
"""Makes the example of a record and its number, from 0; raises TextError naming record and field."""


def question(row: Mapping[str, Any], layout: Layout, where: str, *, id: str, user_id: str, gold: str) -> Example:
    """The example of a record with ``input`` and ``profile``; a profile without dates is in time order as it is."""
    profile = row.get("profile")
    if isinstance(profile, dict):  # a Parquet column of structures can be written as an object of lists
        profile = _transposed(profile, where)
    if not isinstance(profile, list) or not all(isinstance(item, dict) for item in profile):
        raise TextError(f"{where}: expected 'profile' to be a list of objects, got {type(row.get('profile')).__name__}")
    text = text_of(row, "input", where)
    if not text.strip():
        raise TextError(f"{where}: 'input' is empty")
    items = [_item(item, layout, f"{where}, profile item {number}") for number, item in enumerate(profile, 1)]
    # Some papers have no abstract, some products no description; what has no text at all, no encoder reads.
    history = tuple(item for item in _by_date(profile, items) if item.text)
    return Example(id=id, user_id=user_id, input=text, gold=gold, history=history)


class ProfileExamples(Sequence[Example]):
    """Examples read from their file one by one; the last few are kept."""

    KEPT = 8

    def __init__(self, records: Records, make: Make, numbers: Sequence[int]) -> None:
        self._records, self._make, self._numbers = records, make, numbers
        self._last: OrderedDict[int, Example] = OrderedDict()

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return ProfileExamples(self._records, self._make, self._numbers[index])
        number = self._numbers[index]
        found = self._last.get(number)
        if found is None:
            found = self._last[number] = self._make(number, self._records[number])
            while len(self._last) > self.KEPT:
                try:
                    self._last.popitem(last=False)
                except KeyError:  # another thread was first
                    break
        return found


class ProfileUsers(Mapping[str, tuple[PastItem, ...]]):
    """The histories of the users of some examples, read when asked for: that of a user's last question.

    ``sizes``: their items, by user id; known without reading them.
    """

    def __init__(self, examples: Sequence[Example], places: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        self._examples, self._places, self.sizes = examples, places, sizes

    def __getitem__(self, user: str) -> tuple[PastItem, ...]:
        return self._examples[self._places[user]].history

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one pass over all records tells; ``ids`` are those of the file, also of questions that are not chosen."""

    examples: Sequence[Example]
    users: Mapping[str, tuple[PastItem, ...]]
    labels: tuple[str, ...]
    prior: str
    ids: frozenset[str]


def survey(records: Records, make: Make, limit: int) -> Found:
    """Reads and checks every record once. ``limit`` chooses so many examples, evenly spread (0: all).

    Raises TextError for a malformed record, or an id that is there twice; PersonaPlugError for a file without any.
    """
    unique, ids, owners = Unique("question"), list[str](), list[str]()
    labels, firsts, sizes = set[str](), Counter[str](), dict[str, int]()
    for number, row in enumerate(records.scan()):
        example = make(number, row)
        ids.append(unique(example.id, f"{records.path}: question {number + 1}"))
        owners.append(example.user_id)
        sizes[example.user_id] = len(example.history)
        labels.update(listed_labels(example.input))
        firsts.update(item.output for item in example.history[:1] if item.output)
    if not ids:
        raise PersonaPlugError(f"{records.path} has no question")
    chosen = spread(range(len(ids)), limit)
    # All users are known, also those that are not asked: who stands in as the wrong one must not depend on ``limit``.
    everybody = ProfileExamples(records, make, range(len(ids)))
    return Found(
        examples=ProfileExamples(records, make, chosen),
        users=ProfileUsers(everybody, {owner: number for number, owner in enumerate(owners)}, sizes),
        labels=tuple(sorted(labels)),
        prior=firsts.most_common(1)[0][0] if firsts else "",
        ids=frozenset(ids),
    )


def _item(item: Mapping[str, Any], layout: Layout, where: str) -> PastItem:
    missing = [field for field in (*layout.text, layout.output) if field and field not in item]
    if missing:
        raise TextError(f"{where} lacks {', '.join(missing)}; it has {', '.join(item) or 'nothing'}")
    text = " ".join(part for field in layout.text if (part := _part(item, field, where)))
    output = _part(item, layout.output, where) if layout.output else ""
    return PastItem(text, like_labels(output, layout.kind, layout.labels))


def _part(item: Mapping[str, Any], field: str, where: str) -> str:
    value = item[field]
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):  # Amazon's product descriptions
        return clean_text(" ".join(value)).strip()
    return text_of(item, field, where).strip()


def _by_date(rows: Sequence[Mapping[str, Any]], items: list[PastItem]) -> list[PastItem]:
    """The items in time order where each has a date ("2016-05-30") or year, as LaMP's evaluation sorts them."""
    for field in ("date", "year"):
        try:
            dates = [tuple(int(part) for part in str(row[field]).split("-")) for row in rows]
        except (KeyError, ValueError):
            continue
        return [items[place] for place in sorted(range(len(items)), key=dates.__getitem__)]
    return items


def _transposed(columns: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    if not all(isinstance(values, list) for values in columns.values()):
        raise TextError(f"{where}: expected 'profile' to be a list of objects, or an object of lists")
    if len({len(values) for values in columns.values()}) > 1:
        raise TextError(f"{where}: the lists of 'profile' differ in length")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
