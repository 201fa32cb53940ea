"""The model card of a bundle: what it is, from what, how large, how good, and what it must not be taken for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a reader of a bundle has to know and no file can tell."""

    summary: str = "A plug for one LLM: it turns a user's history into rows that stand in front of the prompt."
    """one paragraph"""
    data: str = "Not stated."
    """what LLM, encoder and plug were trained on, and under which licenses"""
    intended_use: str = "Not stated."
    """what it was made for"""
    limits: str = "Not stated."
    """what it cannot do, and where it was seen to fail"""


def render_card(
    card: ModelCard,
    *,
    name: str,
    version: str,
    license: str,
    shape: Mapping[str, Any],
    sizes: Mapping[str, int],
    measured: Mapping[str, Any],
) -> str:
    """The card as Markdown; ``sizes`` in bytes by file, ``measured`` as nested as it comes."""
    sections = [
        f"# {name} {version}\n\n{card.summary}\n\nMethod: PPlug (arXiv 2409.11901). License: {license}",
        f"## Intended use\n\n{card.intended_use}",
        f"## Training data\n\n{card.data}",
        "## Parts\n\n" + _table(("part", "value"), [(key, str(value)) for key, value in shape.items()]),
        "## Sizes\n\n"
        + _table(
            ("file", "MB"),
            [(file, f"{size / 1e6:.2f}") for file, size in sizes.items()]
            + [("all", f"{sum(sizes.values()) / 1e6:.2f}")],
        ),
        "## Measured\n\n" + (_table(("figure", "value"), _flat(measured)) if measured else "Nothing yet."),
        f"## Limits\n\n{card.limits}",
        "## Privacy\n\nA history and its vectors are personal data: short texts can be recovered from their vectors "
        "(arXiv 2310.06816). The bundle itself holds nothing of any user.",
    ]
    return "\n\n".join(sections) + "\n"


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}: ")
        else:
            rows.append((f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *((key, value.replace("|", "\\|").replace("\n", "\\n")) for key, value in rows)]
    return "\n".join(f"| {key} | {value} |" for key, value in lines)
