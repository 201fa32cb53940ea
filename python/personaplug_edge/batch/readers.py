"""The input as groups of rows: JSONL (plain or .gz), Parquet, standard input, or rows of a Python program."""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO, Any, Literal, Protocol, cast

from ..errors import BatchError
from .groups import MAX_LINE_BYTES, Group
from .remote import import_pyarrow, is_address, list_folder, open_binary, size_of

Kind = Literal["jsonl", "gz", "parquet", "stdin"]
_ENDINGS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".jsonl.gz": "gz",
    ".ndjson.gz": "gz",
    ".json.gz": "gz",
    ".parquet": "parquet",
}


class Source(Protocol):
    """Something that groups of rows are read from, as often as asked."""

    def groups(self, size: int) -> Iterator[Group]:
        """Groups of ``size`` rows, the last of a file smaller. Raises BatchError."""
        ...

    def facts(self) -> Any:
        """What tells this input from another, as JSON; the rows' contents are told apart by the groups' digests."""
        ...


@dataclass(frozen=True)
class InputFile:
    """One file of the input."""

    path: str
    kind: Kind
    size: int
    """Bytes; 0 for standard input."""
    name: str = ""
    """The end of the path that tells it from the others, as ids and bad rows name it."""


class FileSource:
    """Files, read as a stream: memory does not grow with them."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.files = tuple(files)

    @classmethod
    def find(cls, paths: Iterable[str | os.PathLike[str]]) -> FileSource:
        """The files of paths and folders (those whose name begins with . or _ are left out). Raises BatchError."""
        files = [file for path in paths for file in _files_of(os.fspath(path))]
        if not files:
            raise BatchError("no input; give a .jsonl or .parquet file, a folder of them, or - for standard input")
        if sum(file.kind == "stdin" for file in files) and len(files) > 1:
            raise BatchError("standard input (-) is an input of its own; leave out the other files")
        return cls(_named(files))

    def facts(self) -> Any:
        """Names and sizes."""
        return [[file.name, file.size] for file in self.files]

    def groups(self, size: int) -> Iterator[Group]:
        """The groups of all files, one file after the other."""
        for number in range(len(self.files)):
            yield from self.file_groups(number, size)

    def file_groups(self, number: int, size: int) -> Iterator[Group]:
        """The groups of one file, by its index."""
        file = self.files[number]
        total = sum(each.size for each in self.files)
        before = sum(each.size for each in self.files[:number])
        read = _parquet if file.kind == "parquet" else _lines
        for index, (numbers, rows, done) in enumerate(read(file, size)):
            share = (before + file.size * done) / total if total else None
            yield Group(number, index, file.name, numbers, rows, share, len(self.files) == 1)


class RowSource:
    """Rows that a program makes; ``len`` of them, if they have one, tells how many there are."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._rows = rows

    def facts(self) -> Any:
        """Nothing: rows are told apart by their content alone."""
        return "rows"

    def groups(self, size: int) -> Iterator[Group]:
        """The groups; an iterator can be read once."""
        total = len(self._rows) if isinstance(self._rows, Sequence) else None
        rows, first = iter(self._rows), 1
        for index, batch in enumerate(iter(lambda: tuple(islice(rows, size)), ())):
            numbers = tuple(range(first, first + len(batch)))
            first += len(batch)
            yield Group(0, index, "rows", numbers, batch, (first - 1) / total if total else None, True)


def _files_of(path: str) -> list[InputFile]:
    if path == "-":
        return [InputFile(path, "stdin", 0)]
    inside = list_folder(path)
    if inside is None:
        kind = _kind(path)
        if kind is None:
            raise BatchError(f"{path}: expected a name ending in {', '.join(_ENDINGS)}")
        return [InputFile(path, kind, size_of(path))]
    hidden = len(path.rstrip("/")) + 1
    found = [(each, _kind(each)) for each in inside if not _hidden(each[hidden:])]
    files = [InputFile(each, kind, size_of(each)) for each, kind in found if kind is not None]
    if not files:
        raise BatchError(f"the folder {path} holds no file ending in {', '.join(_ENDINGS)}")
    return files


def _named(files: Sequence[InputFile]) -> list[InputFile]:
    """With names: the last parts of their paths, as many as it takes to tell them apart."""
    parts = [file.path.replace(os.sep, "/").strip("/").split("/") for file in files]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return [replace(file, name=name) for file, name in zip(files, names, strict=True)]
    raise BatchError(f"an input file is given twice among {', '.join(file.path for file in files)!s:.200}")


def _hidden(inside: str) -> bool:
    return any(part.startswith((".", "_")) for part in inside.replace(os.sep, "/").split("/"))


def _kind(path: str) -> Kind | None:
    endings = [ending for ending in _ENDINGS if path.lower().endswith(ending)]
    return _ENDINGS[max(endings, key=len)] if endings else None


_Read = Iterator[tuple[tuple[int, ...], tuple[Any, ...], float]]
"""Numbers, rows, and the share of the file that has been read."""


def _lines(file: InputFile, size: int) -> _Read:
    """Groups of lines; blank ones count as lines, and are no rows."""
    try:
        with _standard_input() if file.kind == "stdin" else open_binary(file.path) as raw:
            stream = cast("IO[bytes]", gzip.open(raw)) if file.kind == "gz" else raw
            numbers: list[int] = []
            rows: list[bytes] = []
            for number, line in enumerate(_bounded_lines(stream), start=1):
                if line.strip():
                    numbers.append(number)
                    rows.append(line)
                if len(rows) == size:
                    yield tuple(numbers), tuple(rows), raw.tell() / file.size if file.size else 0.0
                    numbers, rows = [], []
            if rows:
                yield tuple(numbers), tuple(rows), 1.0
    except (OSError, EOFError, zlib.error) as error:
        raise BatchError(f"{file.path} cannot be read on: {error}; mend the file and start again") from error


def _standard_input() -> IO[bytes]:
    """A reader of its own over the descriptor: with that of ``sys.stdin`` a thread that waits in it as the interpreter
    ends, after Ctrl-C, is a fatal error."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (AttributeError, OSError, ValueError):  # a program has put something else there
        return sys.stdin.buffer


def _bounded_lines(stream: IO[bytes]) -> Iterator[bytes]:
    first = True
    while line := stream.readline(MAX_LINE_BYTES + 1):
        rest = line
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE_BYTES + 1)  # of a line too long: passed over
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


def _parquet(file: InputFile, size: int) -> _Read:
    """Groups of a Parquet file's rows: one row group is in memory at most."""
    parquet = import_pyarrow("parquet", f"reading {file.path}")
    try:
        source = open_binary(file.path) if is_address(file.path) else file.path
        with parquet.ParquetFile(source, pre_buffer=is_address(file.path)) as table:
            total, done = table.metadata.num_rows, 0
            for batch in table.iter_batches(batch_size=size):
                rows = tuple(_nested(row) for row in _records(batch))
                numbers = tuple(range(done + 1, done + 1 + len(rows)))
                done += len(rows)
                yield numbers, rows, done / total
    except Exception as error:  # pyarrow's errors share no base but Exception
        if isinstance(error, (BatchError, MemoryError)):
            raise
        raise BatchError(f"{file.path} cannot be read as Parquet: {error}; write the file again") from error


def _records(batch: Any) -> list[dict[str, Any]]:
    """The rows of a record batch; bytes of a text that are no UTF-8 become lone surrogates, which refuse its row."""
    try:
        return cast("list[dict[str, Any]]", batch.to_pylist())
    except UnicodeDecodeError:
        columns = [_values(column) for column in batch.columns]
        return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: Any) -> list[Any]:
    if str(column.type) not in ("string", "large_string"):
        return cast("list[Any]", column.to_pylist())
    binary = column.cast("large_binary" if str(column.type) == "large_string" else "binary")
    return [None if each is None else each.decode("utf-8", "surrogateescape") for each in binary.to_pylist()]


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """With JSON texts in the place of nested values parsed, as tools without nested types write them."""
    for name in ("history", "options", "labels"):
        value = row.get(name)
        if isinstance(value, str):
            try:
                row[name] = json.loads(value)
            except (ValueError, RecursionError):
                pass  # refused as what it is: a text
    return row
