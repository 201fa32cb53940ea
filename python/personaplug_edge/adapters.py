"""A folder with what was trained for each user of one LLM: LoRA adapters (GGUF) and rows of prompt tuning (NPY).

``index.jsonl`` says what is there: first a line about the folder, then a line a file, written once the file is whole.
A run that was cut off leaves at most a torn last line, which the next one takes away. Names of files tell no user: a
file is called by a digest of the user's id.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from .errors import AdapterError

if TYPE_CHECKING:
    from .bundle import Bundle

Kind = Literal["lora", "prompt"]
"""A LoRA adapter, or rows in front of the request (prompt tuning)."""

INDEX = "index.jsonl"
FORMAT = 1
SUFFIXES: dict[str, str] = {"lora": ".gguf", "prompt": ".npy"}


@dataclass(frozen=True, kw_only=True)
class AdapterBase:
    """What all files of a folder were trained for."""

    weights: str
    """SHA-256 over the weights that were trained on, as :func:`personaplug_export` computes it"""
    gguf: str = ""
    """SHA-256 of the GGUF file that is to be run with them; "" where it was not named: then nothing is compared"""
    architecture: str = ""
    """as the GGUF has it: "llama" """
    width: int = 0
    """floats of an embedding"""


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """One user's file."""

    user: str
    kind: Kind
    file: str
    """name inside of the folder"""
    bytes: int
    sha256: str
    rank: int
    """of the adapter; of prompt tuning, the number of rows"""
    training_seconds: float
    items: int
    """history items it was trained on"""
    loss: float
    """nats a token of the user's own outputs, of the last epoch"""


def file_name(user: str, kind: Kind) -> str:
    """A name that is safe in every file system and tells nothing of the user, who may have any id."""
    return hashlib.sha256(user.encode()).hexdigest()[:32] + SUFFIXES[kind]


class AdapterFolder:
    """The index of a folder, read once; thread-safe, as it does not change."""

    def __init__(self, folder: str | Path) -> None:
        """Reads the index. Raises AdapterError where there is none, or it is damaged or of a newer format."""
        self.folder = Path(folder)
        self.base, self._entries, self._end = _read(self.folder)

    def find(self, user: str, kind: Kind = "lora") -> AdapterEntry | None:
        """What was trained for a user, or None."""
        return self._entries.get((user, kind))

    def check(self, bundle: Bundle) -> None:
        """Raises AdapterError unless the files were trained for a bundle's LLM, as far as the index tells."""
        llm = bundle.manifest.llm
        found = bundle.manifest.files[llm.file].sha256
        if self.base.gguf and self.base.gguf != found:
            raise AdapterError(
                f"{self.folder} was trained for the GGUF file {self.base.gguf[:12]}, the bundle's is "
                f"{found[:12]}; train again with --gguf for this bundle's"
            )
        ours = (llm.architecture, llm.embedding_width)
        if (self.base.architecture, self.base.width) != ours:
            raise AdapterError(
                f"{self.folder} was trained for an LLM of architecture {self.base.architecture} and width "
                f"{self.base.width}, the bundle's has {ours[0]} and {ours[1]}; train again for this one"
            )

    def path(self, entry: AdapterEntry) -> Path:
        """Where an entry's file lies. Raises AdapterError where it does not, or has another size than the index says.

        The digest is not computed anew: what the engine reads, it checks.
        """
        path = self.folder / entry.file
        size = path.stat().st_size if path.is_file() else -1
        if size != entry.bytes:
            found = f"{size} bytes" if size >= 0 else "no file"
            raise AdapterError(f"{path}: expected {entry.bytes} bytes, found {found}; train the user's adapter anew")
        return path

    @property
    def digest(self) -> str:
        """Of the folder as its index tells it: equal for equal files of the same users, whenever they were made."""
        content = hashlib.sha256(json.dumps(asdict(self.base)).encode())
        for entry in sorted(self._entries.values(), key=lambda entry: entry.file):
            content.update(f"{entry.file} {entry.sha256}\n".encode())
        return content.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> tuple[AdapterEntry, ...]:
        """All of them, in the order in which they were trained."""
        return tuple(self._entries.values())


class AdapterWriter:
    """Adds to a folder, a new one or one that an earlier run has begun; one process at a time."""

    def __init__(self, folder: Path, base: AdapterBase) -> None:
        """Raises AdapterError for a folder whose files are for another LLM."""
        self.folder, self._entries = folder, dict[tuple[str, Kind], AdapterEntry]()
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX
        if index.exists():
            there, self._entries, end = _read(folder)
            if there != base:
                raise AdapterError(
                    f"{folder} holds adapters for another LLM ({there.weights[:12]}, not {base.weights[:12]}; "
                    f"GGUF {there.gguf[:12] or 'not named'}, not {base.gguf[:12] or 'not named'}); take another folder"
                )
            os.truncate(index, end)
        else:
            self._append({"format": FORMAT, **asdict(base)})

    def has(self, user: str, kind: Kind) -> bool:
        """Whether the user's file is there already."""
        return (user, kind) in self._entries

    def add(self, entry: AdapterEntry, content: bytes) -> None:
        """Writes a file, and then its line."""
        path = self.folder / entry.file
        partial = path.with_name(path.name + ".partial")
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        self._append(asdict(entry))
        self._entries[entry.user, entry.kind] = entry

    def _append(self, row: dict[str, Any]) -> None:
        with open(self.folder / INDEX, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _read(folder: Path) -> tuple[AdapterBase, dict[tuple[str, Kind], AdapterEntry], int]:
    """The folder's base, its entries, and where the last whole line ends."""
    path = folder / INDEX
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AdapterError(
            f"expected {INDEX} in {folder}, a folder that personaplug-export lora wrote: {error}"
        ) from error
    end = data.rfind(b"\n") + 1
    lines = data[:end].splitlines()
    if not lines:
        raise AdapterError(f"{path} has no whole line; remove it and train again")
    head = _row(path, 1, lines[0])
    if head.pop("format", None) != FORMAT:
        raise AdapterError(f"{path}: expected format {FORMAT}; a newer personaplug-edge may read it")
    base = _made(AdapterBase, head, f"{path}:1")
    entries = dict[tuple[str, Kind], AdapterEntry]()
    for number, line in enumerate(lines[1:], 2):
        entry = _made(AdapterEntry, _row(path, number, line), f"{path}:{number}")
        if entry.kind not in get_args(Kind) or entry.file != file_name(entry.user, entry.kind):
            raise AdapterError(f"{path}:{number}: expected the name of a user's lora or prompt, got {entry.file!r}")
        entries[entry.user, entry.kind] = entry
    return base, entries, end


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise AdapterError(f"{path}:{number} is damaged: {error}; train again into another folder") from error
    if not isinstance(row, dict):
        raise AdapterError(f"{path}:{number}: expected an object, got {type(row).__name__}")
    return row


TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "Kind": (str,)}


def _made(kind: type[Any], row: dict[str, Any], where: str) -> Any:
    """A dataclass of a row; fields that are not known are passed over."""
    values = {}
    for field in fields(kind):
        if field.name not in row:
            raise AdapterError(f"{where} lacks {field.name!r}")
        value = row[field.name]
        if isinstance(value, bool) or not isinstance(value, TYPES[str(field.type)]):
            raise AdapterError(f"{where}: expected {field.name!r} as {field.type}, got {value!r:.80}")
        values[field.name] = value
    return kind(**values)
