"""History items from the command line and from JSONL files, checked whole before anything is stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TextError
from .terminal import decoding, progress_bar

if TYPE_CHECKING:
    from ..plug import PersonaPlug
    from ..store import Item, NewItem

_FIELDS = ("text", "output", "time", "source")
_GIVEN_ANEW = ("id", "user", "created", "digest")
"""Fields of an export that a store makes itself."""


def parse_time(value: str | float | None) -> float | None:
    """Seconds since 1970 from a number or an ISO 8601 text (UTC when it names no zone); TextError otherwise."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise TextError(f"expected a time as 2026-01-31T12:00 or as seconds since 1970, got {value!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def read_items(lines: Iterable[str], *, source: str = "") -> Iterator[NewItem]:
    """One item a line: a JSON object with text, output, time, source, or a JSON string. Blank lines are not items.

    The fields that an export has besides these are not read; any other is refused, as it may be a misspelled one.
    Raises TextError with the line's number at the first line that is not an item: nothing is skipped in silence.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip("\ufeff \t\r\n"):
            try:
                yield _item(json.loads(line.removeprefix("\ufeff")), source)
            except (TextError, ValueError, RecursionError) as error:
                raise TextError(f"line {number} is not a history item: {error}; nothing was stored") from None


def _item(row: Any, source: str) -> NewItem:
    from ..store import NewItem
    from ..store.checks import check_item

    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, dict):
        raise TextError(f"expected an object or a string, got {type(row).__name__}")
    if unknown := sorted(set(row) - set(_FIELDS) - set(_GIVEN_ANEW)):
        raise TextError(f"expected the fields {', '.join(_FIELDS)}, got also {', '.join(unknown)}")
    for name in ("text", "output", "source"):
        if not isinstance(row.get(name) or "", str):
            raise TextError(f"expected {name} to be a string, got {type(row[name]).__name__}")
    if not row.get("text"):
        raise TextError("expected a text, got none")
    item = NewItem(row["text"], row.get("output") or "", parse_time(row.get("time")), row.get("source") or source)
    return check_item(item)


def read_file(file: Path, *, source: str = "") -> list[NewItem]:
    """The items of a JSONL file, or of standard input for ``-``."""
    if str(file) == "-":
        with decoding("standard input"):
            return list(read_items(sys.stdin, source=source))
    with decoding(file), file.open(encoding="utf-8") as lines:
        return list(read_items(lines, source=source))


def store_items(plug: PersonaPlug, user: str, items: list[NewItem]) -> dict[str, Any]:
    """Stores the items under a progress bar; how many are new, the places of those that were there, and all ids."""
    with progress_bar("remembering", len(items)) as progress:
        added = plug.user(user).remember_all(items, progress=lambda done: progress(done, None))
    repeated = [place for place, new in enumerate(added.new, start=1) if not new]
    return {"user": user, "stored": sum(added.new), "duplicates": repeated, "ids": list(added.ids)}


def told(report: dict[str, Any]) -> str:
    """The sentence for what ``store_items`` returned."""
    repeated = report["duplicates"]
    places = ", ".join(map(str, repeated[:10])) + (", ..." if len(repeated) > 10 else "")
    known = f"; {len(repeated)} already there (given as number {places})" if repeated else ""
    return f"stored {report['stored']} new for {report['user']}{known}"


def as_row(item: Item) -> dict[str, Any]:
    """An item as JSON writes it."""
    return asdict(item)
