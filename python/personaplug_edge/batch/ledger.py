"""What is done, so that it survives kill -9: answers appended to a file, and a ledger of the groups they belong to.

A group is done when its line is in the ledger: the answers are written and synced first, then the line, which says
where the files end with them. After a kill the files are cut to where the last whole line says, and the groups without
a line are done again. Lines carry a checksum, so that a torn one is seen; it can only be the last.

    OUTPUT.partial      answers (JSON Lines), until the run is finished and they become OUTPUT
    OUTPUT.ledger       this file
    OUTPUT.bad.jsonl    rows without an answer
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from ..errors import BatchError
from .groups import Group, Head
from .outcomes import BadRow, Outcome, to_line

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One group's line in the ledger."""

    file: int
    index: int
    digest: str
    """Of the group's rows, as they were read."""
    rows: int
    bad: int
    cold: int
    prompt_tokens: int
    generated_tokens: int
    end: int
    """Bytes of the answers with this group."""
    bad_end: int
    share: float | None


class Ledger:
    """The state of one run on disk. Open it by :meth:`open`; one process at a time."""

    _file: IO[bytes]
    _answers: IO[bytes]
    _bad: IO[bytes]

    def __init__(self, output: Path, bad_path: Path, facts: dict[str, Any]) -> None:
        self.output, self.bad_path = output, bad_path
        self.partial, self.path = Path(f"{output}.partial"), Path(f"{output}.ledger")
        self.facts = facts
        self.entries: dict[tuple[int, int], Entry] = {}
        self.complete = False
        """Whether every group was done when it was opened."""
        self._end = self._bad_end = 0

    @classmethod
    @contextmanager
    def open(cls, output: Path, bad_path: Path, facts: dict[str, Any], *, overwrite: bool = False) -> Iterator[Ledger]:
        """The state of a run on ``output``, gone on with where ``facts`` (plain JSON) are those it was begun with.

        Raises BatchError: another run's output is there, the facts differ, or another process is at it.
        """
        ledger = cls(output, bad_path, facts)
        if not output.parent.is_dir():
            raise BatchError(f"{output}: the folder {output.parent} does not exist; create it first")
        with open(ledger.path, "a+b") as file:
            _lock(file, output)
            ledger._file = file
            if overwrite:
                ledger._begin_anew()
            ledger._read()
            if ledger.complete:  # the answers may be in place already
                yield ledger
            else:
                with open(ledger.partial, "ab") as answers, open(bad_path, "ab") as bad:
                    ledger._answers, ledger._bad = answers, bad
                    ledger._cut()
                    yield ledger

    def add(self, group: Head, outcomes: Sequence[Outcome]) -> Entry:
        """Makes a group's outcomes last."""
        bad = [each for each in outcomes if isinstance(each, BadRow)]
        answers = [each for each in outcomes if not isinstance(each, BadRow)]
        self._end += _append(self._answers, answers)
        self._bad_end += _append(self._bad, bad)
        entry = Entry(
            file=group.file,
            index=group.index,
            digest=group.digest,
            rows=len(answers),
            bad=len(bad),
            cold=sum(each.cold_start for each in answers),
            prompt_tokens=sum(each.prompt_tokens for each in answers),
            generated_tokens=sum(each.generated_tokens for each in answers),
            end=self._end,
            bad_end=self._bad_end,
            share=group.share,
        )
        self._write(asdict(entry))
        self.entries[group.key] = entry
        return entry

    @property
    def done(self) -> dict[tuple[int, int], str]:
        """Groups that are done, and the digests of their rows."""
        return {key: entry.digest for key, entry in self.entries.items()}

    def finish(self) -> None:
        """Notes that all groups are done."""
        if not self.complete:
            self._write({"complete": True})
            self.complete = True

    def remove(self) -> None:
        """Deletes what only an unfinished run needs, once its output is in place."""
        if not self._bad_end:
            self.bad_path.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        sync_folder(self.output.parent)

    def _begin_anew(self) -> None:
        for path in (self.output, self.partial, self.bad_path, record_path(self.output)):
            path.unlink(missing_ok=True)
        self._file.truncate(0)

    def _read(self) -> None:
        """Reads the ledger up to its last whole line; a new one is begun."""
        self._file.seek(0)
        whole = 0
        records = []
        for line in self._file:
            record = _record(line)
            if record is None:
                break
            records.append(record)
            whole += len(line)
        self._file.truncate(whole)
        if not records:
            self._refuse_foreign_files()
            return self._write({"format": FORMAT, "facts": self.facts})
        self._check(records[0])
        for record in records[1:]:
            if record.get("complete"):
                self.complete = True
            else:
                entry = Entry(**{field.name: record[field.name] for field in fields(Entry)})
                self.entries[entry.file, entry.index] = entry
                self._end, self._bad_end = entry.end, entry.bad_end

    def _refuse_foreign_files(self) -> None:
        for path in (self.output, self.bad_path):
            if path.exists():
                self.path.unlink(missing_ok=True)
                raise BatchError(f"{path} is there already; give another output, or --overwrite to replace it")

    def _check(self, head: dict[str, Any]) -> None:
        if head.get("format") != FORMAT:
            raise BatchError(
                f"{self.path} is of format {head.get('format')}, expected {FORMAT}; finish the run with the version of "
                "personaplug-edge that began it, or --overwrite to begin anew"
            )
        if changed := sorted(differing(head["facts"], self.facts)):
            raise BatchError(
                f"{self.partial} was begun with another {', '.join(changed)}; run it as it was begun, or --overwrite "
                "to begin anew"
            )

    def _cut(self) -> None:
        """Removes what was written after the last group that is done."""
        for file, end in ((self._answers, self._end), (self._bad, self._bad_end)):
            size = os.fstat(file.fileno()).st_size
            if size < end:
                raise BatchError(f"{file.name} has {size} bytes, expected {end} or more; --overwrite to begin anew")
            if size > end:
                file.truncate(end)

    def _write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record)
        self._file.write(f"{zlib.crc32(text.encode()):08x} {text}\n".encode())
        _sync(self._file)


def is_done(group: Group, done: Mapping[tuple[int, int], str]) -> bool:
    """Whether the group is among those done. Raises BatchError where its rows are others now."""
    digest = done.get(group.key)
    if digest is not None and digest != group.head.digest:
        raise BatchError(
            f"{group.name}, rows {group.numbers[0]} to {group.numbers[-1]} have changed since the run began; "
            "give the former input, or --overwrite to begin anew"
        )
    return digest is not None


def record_path(output: Path) -> Path:
    """Of the record that a finished run leaves beside its output."""
    return Path(f"{output}.run.json")


def sync_folder(folder: Path) -> None:
    """Makes renamings last through a power cut, where the system can (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _append(file: IO[bytes], outcomes: Sequence[Outcome]) -> int:
    lines = b"".join(to_line(each.record()) for each in outcomes)
    file.write(lines)
    _sync(file)
    return len(lines)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line says; None for one that is torn."""
    checksum, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text[:-1]):
        return None
    found: dict[str, Any] = json.loads(text)
    return found


def differing(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Names of what differs, of options each by its own."""
    if isinstance(before, dict) and isinstance(now, dict) and name in ("", "options"):
        for key in before.keys() | now.keys():
            yield from differing(before.get(key), now.get(key), key)
    elif before != now:
        yield name


def _lock(file: IO[bytes], output: Path) -> None:
    """Held until the file is closed, by the kernel: a kill frees it. Not on Windows."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise BatchError(f"another run is writing {output}; wait for it, or give another output") from error
