"""A file of histories by user, laid out on disk so that any of them is found without holding the file in memory."""

from __future__ import annotations

import gzip
import json
import sqlite3
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from ..errors import BatchError, TextError
from ..store import NewItem
from ..store.checks import check_user
from ..store.item_record import FIELDS, owned_item_of
from .groups import MAX_LINE_BYTES
from .remote import open_binary
from .schema import parse_history


class Histories:
    """Histories of a JSONL file: ``{"user": .., "history": [..]}``, or an item a line as ``history export`` writes it.

    Lines of one user add up, in their order. Thread-safe. Raises BatchError with the line that is wrong.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="personaplug-histories-")
        self._lock = threading.Lock()
        self._lines = sqlite3.connect(Path(self._folder.name) / "lines.db", check_same_thread=False)
        # A scratch file: it need not survive anything.
        self._lines.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; CREATE TABLE lines (user TEXT, items TEXT)"
        )
        try:
            self._lines.executemany("INSERT INTO lines VALUES (?, ?)", _read(str(path)))
        except (OSError, EOFError, zlib.error) as error:
            self.close()
            raise BatchError(f"{path} cannot be read: {error}") from error
        except BaseException:
            self.close()
            raise
        self._lines.execute("CREATE INDEX by_user ON lines (user)")

    def get(self, user: str) -> tuple[NewItem, ...] | None:
        """The items of a user; None where the file has none of them."""
        with self._lock:
            found = self._lines.execute("SELECT items FROM lines WHERE user = ? ORDER BY rowid", (user,)).fetchall()
        if not found:
            return None
        return tuple(item for (items,) in found for item in parse_history(json.loads(items)))

    def close(self) -> None:
        """Removes the scratch file."""
        self._lines.close()
        self._folder.cleanup()


def _read(path: str) -> Iterator[tuple[str, str]]:
    """User and items (JSON) of each line."""
    with open_binary(path) as raw:
        lines = cast("IO[bytes]", gzip.open(raw)) if path.lower().endswith(".gz") else raw
        number = 0
        while line := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            if line.strip():
                try:
                    yield _line(json.loads(line.decode("utf-8-sig")))
                except (TextError, ValueError, RecursionError) as error:
                    raise BatchError(f"{path}, line {number}: {error}; nothing was generated") from None


def _line(row: Any) -> tuple[str, str]:
    if not isinstance(row, dict) or "user" not in row:
        raise TextError('expected {"user": .., "history": [..]}, or an item: {"user": .., "text": ..}')
    user = check_user(row["user"])
    if "history" in row:
        parse_history(row["history"])
        return user, json.dumps(row["history"])
    owned_item_of(row)
    return user, json.dumps([{name: row[name] for name in FIELDS if name in row}])
