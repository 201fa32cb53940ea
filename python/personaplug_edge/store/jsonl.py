"""Histories as JSON Lines: one object a line, UTF-8. Export writes a whole file or none; import checks line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from personaplug_edge.errors import StoreError, TextError
from personaplug_edge.store.checks import MAX_TEXT_BYTES
from personaplug_edge.store.failures import translated
from personaplug_edge.store.item_record import owned_item_of
from personaplug_edge.store.records import Item, NewItem

_FIELDS = ("user", "text", "output", "time", "source", "created")
"""Fields of an export."""

MAX_LINE_BYTES = 20 * MAX_TEXT_BYTES
"""Three fields of the largest size, each byte escaped as \\u00XX at worst, and some room."""


def record_of(item: Item) -> dict[str, Any]:
    """An item as an export writes it."""
    return {field: getattr(item, field) for field in _FIELDS}


def write_items(path: str | Path, items: Iterable[Item]) -> int:
    """Write the items to a new file in the same folder, then put it in the place of ``path``; returns how many.

    The file is readable by its owner alone: it holds personal data.
    """
    import tempfile  # here: nothing else needs it, nor the 0.7 MB that it imports

    target = Path(os.path.abspath(path))
    with translated(str(target)):
        if target.is_dir():
            raise StoreError(f"cannot export to {target}: it is a folder; give the path of a file")
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            count = 0
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                for item in items:
                    count += 1
                    file.write(json.dumps(record_of(item), ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(target.parent)
    return count


def _sync_folder(folder: Path) -> None:
    """Make the renaming last through a power cut, where the system can (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_items(path: str | Path) -> Iterator[tuple[str | None, NewItem]]:
    """The records of a file; see :func:`read_records`."""
    with translated(str(path)), open(path, "rb") as file:
        yield from read_records(file, str(path))


def read_records(file: BinaryIO, name: str) -> Iterator[tuple[str | None, NewItem]]:
    """The records of an open file, one at a time: (user or None, item). TextError names the line and what is wrong.

    A record is what :func:`owned_item_of` reads. Blank lines are passed over.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name}, line {number}"
        if len(line) > MAX_LINE_BYTES:
            raise TextError(f"{where}: longer than {MAX_LINE_BYTES} bytes; one record a line is expected")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield _read_record(line, where)


def _read_record(line: bytes, where: str) -> tuple[str | None, NewItem]:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TextError(f"{where}: not JSON in UTF-8: {error}") from None
    try:
        return owned_item_of(record)
    except TextError as error:
        raise TextError(f"{where}: {error}") from None
