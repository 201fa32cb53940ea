"""Figures with limits: how a comparison is told, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure and what it must not exceed (or, with ``at_least``, fall below). Without a limit it informs."""

    name: str
    figure: float
    limit: float | None
    at_least: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the figure is within its limit; NaN is not."""
        if self.limit is None:
            return True
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


def relative(wanted: Rows, found: Rows) -> float:
    """Largest absolute difference over the largest absolute value wanted; NaN where shapes differ."""
    if wanted.shape != found.shape:
        return float("nan")
    if not wanted.size:
        return 0.0
    return float(np.abs(wanted - found).max() / max(float(np.abs(wanted).max()), 1e-12))


def unit_vectors(generator: np.random.Generator, items: int, width: int) -> Rows:
    """Random vectors of length 1, float32 (items, width)."""
    vectors = generator.standard_normal((items, width)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def to_json(checks: Sequence[Check]) -> str:
    """The checks as JSON."""
    rows: list[dict[str, Any]] = [{**asdict(check), "passed": check.passed} for check in checks]
    return json.dumps({"passed": all(check.passed for check in checks), "checks": rows}, indent=2) + "\n"


def show(checks: Sequence[Check]) -> None:
    """Prints the checks as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("check", "figure", "limit", ""):
        table.add_column(title, no_wrap=True)
    table.add_column("")
    for check in checks:
        sign = ">=" if check.at_least else "<="
        limit = "" if check.limit is None else f"{sign} {check.limit:g}"
        verdict = "" if check.limit is None else "[green]pass[/]" if check.passed else "[bold red]FAIL[/]"
        table.add_row(check.name, f"{check.figure:.3g}", limit, verdict, check.note)
    Console().print(table)
