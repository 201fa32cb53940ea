"""Which tasks a folder holds: itself one, or a folder a task; this project's layout, LaMP's or LongLaMP's files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import PersonaPlugError
from .blogs import USERS, is_blog, read_blog
from .data import Task
from .files import name_of
from .lamp import find_lamp, read_lamp
from .longlamp import find_longlamp, read_longlamp
from .questions import is_task, read_task


def read_tasks(
    folder: Path,
    names: Sequence[str] = (),
    split: str = "dev",
    *,
    short: bool = True,
    limit: int = 0,
    bloggers: int = USERS,
) -> Iterator[Task]:
    """Yields the tasks of a folder one after the other, those named or all that have questions, in alphabetic order.

    A name is that of the task's folder; "LaMP-4" and "LaMP_4" are the same. Of a folder of posts so many ``bloggers``
    are asked (0: all).

    Raises PersonaPlugError where there are none, or one named is missing, before anything is read.
    """
    found = {_name(path): path for path in [folder, *_folders(folder)] if _has_questions(path, split)}
    wanted = [name.replace("-", "_") for name in names]
    missing = [name for name, key in zip(names, wanted, strict=True) if key not in found]
    if missing or not found:
        expected = f"task {', '.join(missing)}" if missing else "a task"
        known = ", ".join(sorted(path.name for path in found.values())) or "none"
        raise PersonaPlugError(
            f"expected {expected} in {folder}, found {known}: a task is a folder with users.jsonl"
            f" and questions.jsonl, LaMP's {split}_questions.json and {split}_outputs.json, or LongLaMP's {split}.json"
        )
    return (_read(found[name], split, short, limit, bloggers) for name in sorted(found) if not names or name in wanted)


def _has_questions(path: Path, split: str) -> bool:
    return is_task(path) or bool(find_lamp(path, split) or find_longlamp(path, split)) or is_blog(path)


def _read(path: Path, split: str, short: bool, limit: int, bloggers: int) -> Task:
    if is_task(path):
        return read_task(path, split, short=short, limit=limit)
    if find_lamp(path, split):
        return read_lamp(path, split, limit=limit)
    if find_longlamp(path, split):
        return read_longlamp(path, split, limit=limit)
    return read_blog(path, split, short=short, limit=limit, sample=bloggers)


def _name(path: Path) -> str:
    return name_of(path).replace("-", "_")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PersonaPlugError(f"expected a folder with tasks, got {folder}, which is none")
    return [path for path in folder.iterdir() if path.is_dir()]
