"""A run with an output: what is to be done, what is done, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BatchError
from .groups import Group, Head
from .ledger import Ledger, differing, is_done, record_path, sync_folder
from .meter import Meter, OnProgress
from .options import BatchOptions
from .outcomes import BatchSummary, Outcome
from .readers import Source
from .writers import check_output, put_in_place

if TYPE_CHECKING:
    from ..adapters import AdapterFolder
    from ..bundle import Bundle


class Job:
    """Made by :func:`open_job`."""

    def __init__(self, ledger: Ledger, source: Source, options: BatchOptions, told: OnProgress | None) -> None:
        self.ledger, self._source, self._options = ledger, source, options
        done = ledger.entries.values()
        rows, bad = sum(each.rows for each in done), sum(each.bad for each in done)
        share = max((each.share for each in done if each.share is not None), default=0.0)
        self.meter = Meter(told, rows=rows, bad=bad, share=share)
        self._resumed = rows + bad

    def todo(self) -> Iterator[Group]:
        """The groups that no earlier run has done. Raises BatchError where what was done was of other rows."""
        done = self.ledger.done
        for group in self._source.groups(self._options.group):
            if is_done(group, done):
                continue
            if self.ledger.complete:
                raise BatchError(f"{group.name} has grown since the run began; --overwrite to begin anew")
            yield group

    def add(self, group: Head, outcomes: Sequence[Outcome]) -> None:
        """Makes a group's outcomes last."""
        self.ledger.add(group, outcomes)

    def finish(self) -> BatchSummary:
        """Puts the output in place, with the record of the run beside it."""
        ledger = self.ledger
        ledger.finish()
        put_in_place(ledger.partial, ledger.output, self._source, self._options.keep)
        done = ledger.entries.values()
        summary = BatchSummary(
            output=ledger.output,
            bad_path=ledger.bad_path,
            rows=sum(each.rows for each in done),
            bad=sum(each.bad for each in done),
            cold_starts=sum(each.cold for each in done),
            prompt_tokens=sum(each.prompt_tokens for each in done),
            generated_tokens=sum(each.generated_tokens for each in done),
            resumed=self._resumed,
            seconds=self.meter.seconds,
        )
        _write_record(ledger.output, {**_plain(summary), "facts": ledger.facts, "digest": _rows_digest(ledger.done)})
        ledger.remove()
        return summary


def written_by(output: Path, bad: Path) -> dict[str, Path]:
    """The files that a run with an output writes, by what they are to it."""
    return {
        "the output": output,
        "the bad rows": bad,
        "the unfinished output": Path(f"{output}.partial"),
        "the ledger": Path(f"{output}.ledger"),
        "the record": record_path(output),
    }


@contextmanager
def open_job(
    bundle: Bundle,
    source: Source,
    output: str | os.PathLike[str],
    options: BatchOptions,
    *,
    adapters: AdapterFolder | None = None,
    bad: Path,
    overwrite: bool = False,
    told: OnProgress | None = None,
) -> Iterator[Job | BatchSummary]:
    """The run on an output, begun or gone on with; its summary where it was finished before. Raises BatchError."""
    path = Path(output)
    check_output(path)
    facts = json.loads(json.dumps({"input": source.facts(), **options.facts(bundle, adapters)}))
    finished = None if overwrite else _finished(path, source, options, facts)
    if finished is not None:
        yield replace(finished, output=path, bad_path=bad)
    else:
        with Ledger.open(path, bad, facts, overwrite=overwrite) as ledger:
            yield Job(ledger, source, options, told)


def _finished(output: Path, source: Source, options: BatchOptions, facts: dict[str, Any]) -> BatchSummary | None:
    """The summary of the run that made the output, if it was this one. Raises BatchError where it was another."""
    if Path(f"{output}.ledger").exists() or not output.exists():
        return None
    try:
        record = json.loads(record_path(output).read_bytes())
        before, digest = record.pop("facts"), record.pop("digest")
        summary = BatchSummary(**record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # no such record, or somebody else's file
        return None
    if changed := ", ".join(sorted(differing(before, facts))):
        raise BatchError(f"{output} was finished with another {changed}; give another output, or --overwrite it")
    rows = _rows_digest({group.key: group.head.digest for group in source.groups(options.group)})
    return replace(summary, resumed=summary.rows + summary.bad, seconds=0.0) if rows == digest else None


def _rows_digest(digests: dict[tuple[int, int], str]) -> str:
    return hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode()).hexdigest()


def _plain(summary: BatchSummary) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(summary).items()}


def _write_record(output: Path, record: dict[str, Any]) -> None:
    temporary = Path(f"{record_path(output)}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, record_path(output))
    sync_folder(output.parent)
