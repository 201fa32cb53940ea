"""Weights and probabilities as bars in the terminal, and as rows of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .terminal import line, table

if TYPE_CHECKING:
    from ..results import Attribution

_WIDTH = 24
_EIGHTHS = "▏▎▍▌▋▊▉█"


def bar(share: float, width: int = _WIDTH) -> str:
    """A bar of ``share`` (0 to 1) of ``width`` characters, in eighths of a character."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest - 1] if rest else "")


def label_table(chosen: str, shares: dict[str, float]) -> Table:
    """The labels, the likeliest first."""
    shown = table("label", "probability", "")
    for label, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        shown.add_row(line(label), f"{share:6.1%}", bar(share), style="bold" if label == chosen else "")
    return shown


def attribution_table(attribution: Sequence[Attribution], top: int) -> Table:
    """The history items that weigh most; bars relative to the heaviest."""
    shown = table("weight", "", "id", "output", "text")
    most = max((each.weight for each in attribution), default=1.0) or 1.0
    for each in attribution[:top]:
        item = each.item
        shown.add_row(
            f"{each.weight:6.1%}",
            bar(each.weight / most, 12),
            str(getattr(item, "id", "")),
            line(item.output),
            line(item.text),
        )
    return shown


def attribution_rows(attribution: Sequence[Attribution]) -> list[dict[str, Any]]:
    """The attribution as JSON, the heaviest first."""
    return [
        {
            "item": getattr(each.item, "id", None),
            "weight": each.weight,
            "text": each.item.text,
            "output": each.item.output,
            "time": each.item.time,
        }
        for each in attribution
    ]
