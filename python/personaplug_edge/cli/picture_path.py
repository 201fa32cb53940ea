"""Where a report or a picture goes, checked before the work that it shows."""

from __future__ import annotations

import os
from pathlib import Path

import typer

ENDINGS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


def picture_path(path: Path | None) -> Path | None:
    """The path of an option, if matplotlib can write it. Raises typer.BadParameter."""
    if path is not None and path.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"expected a name ending in {', '.join(ENDINGS)}, got {str(path)!r}")
    return writable(path)


def writable(path: Path | None) -> Path | None:
    """The path of an option, if a file can be written there. Raises typer.BadParameter."""
    if path is None:
        return None
    if path.is_dir():
        raise typer.BadParameter(f"expected a file, got the folder {str(path)!r}")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"the folder {str(path.parent)!r} does not exist; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"{str(path)!r} cannot be written; choose another place or change the permissions")
    return path
