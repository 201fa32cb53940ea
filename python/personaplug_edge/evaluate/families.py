"""Kinds of methods, each with its color: the same in every panel of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import MethodError
from ..personalize import registry
from .methods import WRONG_USER
from .report import OWN, TaskReport


@dataclass(frozen=True)
class Family:
    """Methods of a kind."""

    name: str
    color: str
    marker: str = "o"


# Colors: Okabe and Ito, "Color Universal Design", 2008; told apart by the color-blind.
NOTHING = Family("no history", "#777777")
PPLUG = Family("PPlug", "#0072b2")
BOTH = Family("PPlug with text", "#56b4e9")
TEXT = Family("text in the prompt", "#d55e00")
TRAINED = Family("trained for each user", "#cc79a7")
LABELS = Family("labels alone, no LLM", "#009e73")
WRONG = Family("another user's history", "#000000", "X")
OTHER = Family("other", "#b8a000")
FAMILIES = (NOTHING, PPLUG, BOTH, TEXT, TRAINED, LABELS, WRONG, OTHER)

_TRAINED = {"lora", "prompt-tuning"}
_PERSONA = {"pplug", "pplug-static"}
_TEXT = {"recency", "random", "bm25", "dense", "summary"}


def family_of(method: str) -> Family:
    """The kind of a method or combination; OTHER for what another package brought."""
    if method == WRONG_USER:
        return WRONG
    try:
        names = {part.name for part in registry.parse(method)}
    except MethodError:  # a report of a machine with other packages
        return OTHER
    if names & _TRAINED:
        return TRAINED
    if names & _PERSONA:
        return BOTH if names & _TEXT else PPLUG
    if names <= {"none", "instruction"}:
        return NOTHING
    return TEXT if names & _TEXT else LABELS if names & set(registry.LABEL_METHODS) else OTHER


def numbered(reports: Sequence[TaskReport]) -> dict[str, int]:
    """The methods of all reports by family, each with its number from 1: what stands beside points."""
    names = list(dict.fromkeys(name for report in reports for name in report.methods))
    return {name: n for n, name in enumerate(sorted(names, key=lambda name: FAMILIES.index(family_of(name))), 1)}


def telling(report: TaskReport, metric: str, most: int = 5) -> list[str]:
    """The methods that a crowded panel names: none, PPlug, another user's history, then the best of the others."""
    own = next((name for name in OWN if name in report.methods), "")
    first = [name for name in ("none", own, WRONG_USER) if name in report.methods]
    up = report.directions[metric]
    others = [
        (figure.value * (-1 if up else 1), name)
        for name in report.methods
        if name not in first and (figure := report.figure(name, metric))
    ]
    return [*first, *(name for _, name in sorted(others))][:most]
