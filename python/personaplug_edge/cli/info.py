"""``personaplug info``: versions, devices and the bundle's facts, for a bug report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .settings import settings
from .terminal import line, out, table, write_json


def info(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """What is installed and what it can run on. Tells what is missing or broken instead of failing on it."""
    from ..info import collect

    facts = collect(settings().bundle, store=settings().store_path)
    if json:
        return write_json(facts)
    measured = facts["bundle"].pop("measured", {})
    shown = table("", "")
    for name, value in _flat(facts):
        shown.add_row(name, line(value))
    out().print(shown)
    if measured:
        out().print(f"and {len(measured)} measured figures of the bundle: --json shows them", style="dim")


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [row for key, child in value.items() for row in _flat(child, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [row for place, child in enumerate(value) for row in _flat(child, f"{prefix}[{place}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(map(_told, value)) or "none")]
    return [(prefix, "" if value is None else _told(value))]


def _told(value: Any) -> str:
    return repr(value) if isinstance(value, str) and not value.isprintable() else str(value)  # a template's new lines
