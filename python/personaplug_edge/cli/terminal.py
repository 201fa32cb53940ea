"""Writing: consoles, JSON, and texts that cannot steer the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import TextError


def out() -> Console:
    """A console on stdout: made on each use, so that whoever has put another stdout there gets the text."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def err() -> Console:
    """A console on stderr, for progress, notices and errors."""
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def notice(text: str) -> None:
    """A remark that is not the command's output."""
    err().print(f"personaplug: {text}", style="dim", soft_wrap=True)


def write_json(value: Any) -> None:
    """JSON on stdout, the only thing there under --json."""
    print(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON for stdout: in ASCII where that is not UTF-8."""
    ascii_only = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False)


def clean(text: str) -> str:
    """The text without control characters: a stored or generated text must not move the cursor or set the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() or ord(c) > 0x9F else "\N{REPLACEMENT CHARACTER}" for c in text)


def line(text: str) -> str:
    """The text on one line, for a table's cell."""
    return " ".join(clean(text).split())


def name(text: str) -> str:
    """A user's id for a table's cell: quoted where white space begins, ends or widens it, and would not be seen."""
    return line(text) if line(text) == text else repr(text)


def moment(seconds: float | None) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, shortened to the minute; empty for None."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # beyond the calendar: a store holds any finite number
        return f"{seconds:.0f} s"


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; numbers and ids do not wrap."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, no_wrap=name in ("id", "time", "weight", "items"), overflow="fold")
    return made


@contextmanager
def progress_bar(label: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, on a terminal only and gone afterwards; yields ``(done, total)``, total None: as before."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def decoding(name: object) -> Iterator[None]:
    """Inside, bytes that are no text are a TextError with the name of where they came from."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise TextError(f"{name} is not {error.encoding}: {error}; convert it first") from None
