"""Files of evaluation data: plain, ``.gz`` or ``.xz``; and JSON files of any size whose records are read by number.

A questions file of LaMP has up to gigabytes, for every question carries its profile. Its records are indexed by their
place in the file, once; after that each is read when it is asked for, in any order. No parser of JSON streams tells
those places, so the standard library's decoder is led over a window of the file.
"""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
import os
import re
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Any, BinaryIO, cast, overload

from ..errors import PersonaPlugError, TextError

ENDINGS = ("", ".gz", ".xz")
"""What may follow the name of a data file."""

CHUNK = 1 << 20
"""Bytes read at a time, at least."""
IN_MEMORY = 64 << 20
"""Bytes up to which a compressed file is kept unpacked in memory; a larger one is unpacked to a temporary file."""
LARGEST = 256 << 20
"""Characters of the largest record that is read; a LaMP question with a history of 1,000 papers has about 2 million."""

DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error)
"""What unpacking a file raises that is cut short, damaged or no archive."""
BROKEN = (*DAMAGED, ValueError, RecursionError)
"""The same for a file that may also be no JSON, or nested too deeply."""

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_CUT = 16
"""Characters before the end of a window within which a syntax error may come from the window's end alone."""


def name_of(folder: Path) -> str:
    """A folder's name, also that of "." and ".."; of a link its own, which tells what it is for."""
    return Path(os.path.abspath(folder)).name


def find_file(folder: Path, *names: str) -> Path | None:
    """The first of ``names``, plain or compressed, that is a file of ``folder``; None where there is none."""
    paths = (folder / f"{name}{ending}" for name in names for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def open_binary(path: Path) -> BinaryIO:
    """The file's bytes, unpacked on the way where its ending says so."""
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    return cast(BinaryIO, opener(path, "rb"))


def read_json(path: Path) -> Any:
    """The value of a small JSON file, plain or compressed. Raises TextError naming the file."""
    try:
        with open_binary(path) as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except BROKEN as error:
        raise TextError(f"{path}: expected JSON in UTF-8: {error}; mend it or fetch it again") from error


class Records(Sequence[dict[str, Any]]):
    """The objects of a JSON array or of JSON Lines, one in memory at a time. Close it, or leave it to be collected.

    ``scan`` reads the file once from its start and has to come first. Reading is safe from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _seekable(path)
        self._starts, self._sizes = array("Q"), array("Q")
        self._lock = Lock()

    def scan(self) -> Iterator[dict[str, Any]]:
        """Yields all records in order and keeps their places.

        Raises TextError naming the record where the file is broken, or holds something other than objects.
        """
        del self._starts[:], self._sizes[:]
        window = _Window(self._file)
        try:
            for start, size, value in window.values():
                if not isinstance(value, dict):
                    kind = type(value).__name__
                    raise TextError(f"{self.path}: record {len(self) + 1}: expected a JSON object, got {kind}")
                self._starts.append(start)
                self._sizes.append(size)
                yield value
        except BROKEN as error:
            if isinstance(error, PersonaPlugError):
                raise
            raise TextError(
                f"{self.path}: broken after record {len(self)}, near byte {window.place}: {error};"
                " the file may be cut short: fetch it again"
            ) from error

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, number: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        with self._lock:
            self._file.seek(self._starts[number])
            data = self._file.read(self._sizes[number])
        return cast("dict[str, Any]", json.loads(data))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()


class _Window:
    """A stretch of a file's text that moves on; ``place`` is the byte where its unread part starts."""

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self.place = "", 0, 0

    def values(self) -> Iterator[tuple[int, int, Any]]:
        """(first byte, bytes, value) of each element of an array, or of each of the values that follow each other."""
        if self._next() == "\N{ZERO WIDTH NO-BREAK SPACE}":  # a byte order mark
            self._skip(1)
        listed = self._next() == "["
        if listed:
            self._skip(1)
            if self._next() == "]":
                return self._end()
        while self._next():
            start = self.place
            value = self._value()
            yield start, self.place - start, value
            if listed:
                mark = self._next()
                if mark == "]":
                    return self._end()
                if mark != ",":
                    raise ValueError(f"expected , or ] after a record, got {mark or 'the end of the file'}")
                self._skip(1)
        if listed:
            raise ValueError("the list is not closed")

    def _end(self) -> None:
        self._skip(1)
        if mark := self._next():
            raise ValueError(f"expected the end of the file, got {mark!r}")

    def _value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                place = error.pos - self._at + 1
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _CUT
                if cut and len(self._text) - self._at > LARGEST:
                    raise ValueError(f"a record of more than {LARGEST >> 20} million characters") from None
                if not cut or not self._more():
                    raise ValueError(f"{error.msg} at character {place} of the record") from None
                continue
            self._skip(end - self._at)
            return value

    def _next(self) -> str:
        """The next character that is no white space, where the window then stands; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._skip(match.end() - self._at if match else 0)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _skip(self, count: int) -> None:
        passed = self._text[self._at : self._at + count]
        self.place += count if passed.isascii() else len(passed.encode())
        self._at += count

    def _more(self) -> bool:
        # As much again as there is: a record longer than the window is tried a few times, not once a chunk.
        raw = self._file.read(max(CHUNK, len(self._text) - self._at))
        self._text = self._text[self._at :] + self._decode.decode(raw, final=not raw)
        self._at = 0
        return bool(raw)


def _seekable(path: Path) -> IO[bytes]:
    if path.suffix not in ENDINGS[1:]:
        return path.open("rb")
    unpacked = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)
    try:
        with open_binary(path) as packed:
            shutil.copyfileobj(packed, unpacked, CHUNK)
    except DAMAGED as error:
        unpacked.close()
        raise TextError(f"{path}: cannot be unpacked: {error}; fetch it again") from error
    return cast(IO[bytes], unpacked)
