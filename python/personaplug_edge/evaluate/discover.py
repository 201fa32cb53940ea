"""Which tasks a folder holds: itself one, or a folder a task; this project's layout or LaMP's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import PersonaPlugError
from .data import Task, is_task, read_task
from .lamp import is_lamp, read_lamp


def read_tasks(
    folder: Path, names: Sequence[str] = (), split: str = "dev", *, short: bool = True, limit: int = 0
) -> Iterator[Task]:
    """Yields the tasks of a folder one after the other, those named or all that have questions, in alphabetic order.

    Raises PersonaPlugError where there are none, or one named is missing, before anything is read.
    """
    found = {path.name: path for path in [folder, *_folders(folder)] if is_task(path) or is_lamp(path, split)}
    missing = [name for name in names if name not in found]
    if missing or not found:
        wanted = f"task {', '.join(missing)}" if missing else "a task"
        raise PersonaPlugError(
            f"expected {wanted} in {folder}, found {', '.join(sorted(found)) or 'none'}: a task is a folder with"
            f" users.jsonl and questions.jsonl, or LaMP's {split}_questions.json and {split}_outputs.json"
        )
    return (_read(found[name], split, short, limit) for name in sorted(found) if not names or name in names)


def _read(path: Path, split: str, short: bool, limit: int) -> Task:
    return read_task(path, split, short=short, limit=limit) if is_task(path) else read_lamp(path, split, limit=limit)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PersonaPlugError(f"expected a folder with tasks, got {folder}, which is none")
    return [path for path in folder.iterdir() if path.is_dir()]
