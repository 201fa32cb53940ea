"""Where a picture goes, checked before the work that it shows."""

from __future__ import annotations

from pathlib import Path

import typer

ENDINGS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


def picture_path(path: Path | None) -> Path | None:
    """The path of an option, if matplotlib can write it. Raises typer.BadParameter."""
    if path is not None and path.suffix.lower() not in ENDINGS:
        raise typer.BadParameter(f"expected a name ending in {', '.join(ENDINGS)}, got {str(path)!r}")
    if path is not None and not path.parent.is_dir():
        raise typer.BadParameter(f"the folder {str(path.parent)!r} does not exist; make it first")
    return path
