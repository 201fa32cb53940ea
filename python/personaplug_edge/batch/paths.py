"""No file that a run writes may be one that it reads, or be written twice: --overwrite would delete it first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import BatchError
from .remote import is_address


def check_apart(written: Mapping[str, Path], read: Mapping[str, Iterable[str | os.PathLike[str]]]) -> None:
    """Raises BatchError that names both; the keys say what the files are to the run. Addresses are passed over."""
    taken: dict[str, str] = {}
    for what, paths in read.items():
        for path in paths:
            if not is_address(os.fspath(path)):
                taken.update(dict.fromkeys(_names(path), what))
    for what, target in written.items():
        names = _names(target)
        if other := next((taken[name] for name in names if name in taken), None):
            raise BatchError(f"{target} would be {what} of this run and is {other}; give another path")
        taken.update(dict.fromkeys(names, what))


def _names(path: str | os.PathLike[str]) -> list[str]:
    """What tells a file from others: its path without links, and its place on the disk where it is there."""
    names = [os.path.realpath(path)]
    try:
        found = os.stat(path)
    except OSError:
        return names
    return names if os.path.isdir(path) or not found.st_ino else [*names, f"{found.st_dev}:{found.st_ino}"]
