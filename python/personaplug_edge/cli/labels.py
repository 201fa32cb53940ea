"""The option ``--labels`` of ``generate`` and ``batch``."""

from __future__ import annotations

import typer


def labels_of(given: str | None) -> list[str]:
    """The labels between the commas; none where the option was not given. Raises typer.BadParameter."""
    if given is None:
        return []
    labels = [label.strip() for label in given.split(",") if label.strip()]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise typer.BadParameter(f"expected two labels or more, each once, in --labels, got {given!r}")
    return labels
