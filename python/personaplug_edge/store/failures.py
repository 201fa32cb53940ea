"""SQLite's errors as StoreError: the path, what is wrong, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from personaplug_edge.errors import StoreError

# By message: Python 3.10 does not tell SQLite's error code. The texts are those of sqlite3ErrStr and have not changed
# in years.
_REMEDIES = (
    (
        "is full",
        "the disk, or the size allowed for the file, is full; nothing of this change was stored; free some space",
    ),
    ("readonly", "the file or its folder is read-only; change the permissions, or open it with read_only=True"),
    ("read-only", "the file or its folder is read-only; change the permissions, or open it with read_only=True"),
    ("Permission denied", "this user may not read or write the file or its folder; change the permissions"),
    ("locked", "another program holds the file's lock; nothing was changed; close that program or try again"),
    (
        "not a database",
        "the file is not a SQLite database; it was not changed; choose another path, or restore a backup",
    ),
    (
        "malformed",
        "the file is damaged; it was not changed; restore a backup, or save what can be read with SQLite's .recover",
    ),
    ("Could not decode", "the file is damaged (text that is not UTF-8); restore a backup"),
    ("unable to open", "the file cannot be opened; check that its folder exists and that both may be read and written"),
    (
        "disk I/O",
        "the file system refused to read or write (size limit, full or bad disk); nothing of this change was stored",
    ),
    ("no such table", "the file has the mark of a history store but not its tables; restore a backup"),
    ("no such column", "the file has the mark of a history store but not its columns; restore a backup"),
)


def store_error(path: str, error: Exception) -> StoreError:
    """The StoreError for an error of SQLite or the operating system."""
    message = str(error)
    for key, remedy in _REMEDIES:
        if key in message:
            return StoreError(f"history store {path}: {remedy} ({message})")
    return StoreError(f"history store {path}: {message}")


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Inside, errors of SQLite and of the operating system become StoreError."""
    try:
        yield
    except StoreError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise store_error(path, error) from error
