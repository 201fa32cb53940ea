"""What can be told of a store's path before SQLite opens it, so that the message says more than "unable to open"."""

from __future__ import annotations

import os
from pathlib import Path

from personaplug_edge.errors import StoreError

HEADER_BYTES = 100
"""Length of the header of a SQLite file; the page size is at bytes 16 and 17 (https://www.sqlite.org/fileformat.html)."""


def check_path(path: Path, read_only: bool) -> None:
    """StoreError for a path that cannot be that of a usable store; an empty file is one that is still to be filled."""
    if "\0" in str(path):
        raise StoreError(f"history store {path}: the path holds a null character; remove it")
    if path.is_dir():
        raise StoreError(f"history store {path} is a folder; give the path of a file, such as {path / 'history.db'}")
    if not path.parent.is_dir():
        raise StoreError(f"history store {path}: the folder {path.parent} does not exist; create it first")
    exists = path.exists()
    if exists and not path.is_file():
        raise StoreError(f"history store {path} is not a plain file; choose another path")
    if read_only and not exists:
        raise StoreError(f"history store {path} does not exist; open it without read_only to create it")
    if not read_only and not may_write(path):
        raise StoreError(
            f"history store {path}: the file or its folder is read-only; change the permissions, "
            "or open it with read_only=True"
        )
    if exists and _cut_off(path) and log_is_empty(path) and _cut_off(path):
        # Looked at twice, as another process may have been writing from the log into the file meanwhile.
        raise StoreError(
            f"history store {path}: the file is damaged: its end is cut off ({path.stat().st_size} bytes); "
            "it was not changed; restore a backup"
        )


def log_is_empty(path: Path) -> bool:
    """Whether the file alone is the whole store: nothing waits in its write-ahead log."""
    log = Path(f"{path}-wal")
    return not log.exists() or log.stat().st_size == 0


def may_write(path: Path) -> bool:
    """Whether this user may write a store, or make it: the folder too, as SQLite puts its log beside the file."""
    return all(
        os.access(each, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
        for each in (path.parent, path)
        if each.exists()
    )


def _cut_off(path: Path) -> bool:
    """Whether a SQLite file ends inside its header or a page.

    SQLite would fill the page with zeros, and take a file of one byte, whatever it is, for a new one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if size > 1 and not header.startswith(b"SQLite format 3\0"[:size]):
        return False  # no SQLite file, which SQLite will say
    page_size = int.from_bytes(header[16:18], "big")  # 1 stands for 65536
    return 0 < size < HEADER_BYTES or (page_size > 1 and size % page_size != 0)
