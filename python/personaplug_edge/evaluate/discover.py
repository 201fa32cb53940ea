"""Which tasks a folder holds: itself one, or a folder a task; this project's layout, LaMP's or LongLaMP's files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import PersonaPlugError
from .blogs import USERS, is_blog, read_blog
from .data import NoQuestionError, Task
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
    """The tasks of a folder, those named or all that have questions of the split, in alphabetic order of their folders.

    All are read and checked before the first is given: what is wrong with the last must not end a run of hours. (The
    questions of LaMP and LongLaMP stay in their files.) A name is that of the task's folder; "LaMP-4" and "LaMP_4" are
    the same. Of a folder of posts so many ``bloggers`` are asked (0: all).

    Raises PersonaPlugError where there are none, one named is missing or has no question of the split, or two folders
    have one name; and what the readers raise.
    """
    found = _found(folder, split)
    wanted = [name.replace("-", "_") for name in names] or list(found)
    missing = [name for name, key in zip(names, wanted, strict=False) if key not in found]
    if missing or not found:
        expected = f"task {', '.join(missing)}" if missing else "a task"
        known = ", ".join(sorted(path.name for paths in found.values() for path in paths)) or "none"
        raise PersonaPlugError(
            f"expected {expected} in {folder}, found {known}: a task is a folder with users.jsonl"
            f" and questions.jsonl, LaMP's {split}_questions.json and {split}_outputs.json, or LongLaMP's {split}.json"
        )
    tasks: list[Task] = []
    for paths in (found[key] for key in sorted(set(wanted))):
        if len(paths) > 1:
            raise PersonaPlugError(f"{' and '.join(map(str, paths))} are one name for a task: rename or remove one")
        try:
            tasks.append(_read(paths[0], split, short, limit, bloggers))
        except NoQuestionError as error:  # of tasks that nobody named, those with the split are meant
            if names:
                raise
            without = error
    if not tasks:
        raise without
    return iter(tasks)


def _found(folder: Path, split: str) -> dict[str, list[Path]]:
    """The folders of tasks by name. One that is a task itself holds no others: a folder in it is that of its split."""
    folders = _folders(folder)
    found: dict[str, list[Path]] = {}
    for path in [folder] if _has_questions(folder, split) else sorted(folders):
        if _has_questions(path, split):
            found.setdefault(_name(path), []).append(path)
    return found


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
