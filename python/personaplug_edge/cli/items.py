"""History items from the command line and from JSONL files, checked whole before anything is stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TextError
from .terminal import progress_bar

if TYPE_CHECKING:
    from ..plug import PersonaPlug
    from ..store import Item, NewItem


def read_file(file: Path, *, source: str = "") -> list[NewItem]:
    """The items of a JSONL file, or of standard input for ``-``; ``source`` is that of those that name none.

    Raises TextError with the line's number at the first line that is not an item: nothing is skipped in silence.
    """
    from ..store.jsonl import read_records

    try:
        if str(file) == "-":
            return _sourced(read_records(sys.stdin.buffer, "standard input"), source)
        with file.open("rb") as opened:
            return _sourced(read_records(opened, str(file)), source)
    except TextError as error:
        raise TextError(f"{error}; nothing was stored") from None


def _sourced(records: Iterator[tuple[str | None, NewItem]], source: str) -> list[NewItem]:
    return [item if item.source else replace(item, source=source) for _, item in records]


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
