"""Rows for tests of batches, of every kind that a real file has."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.onnx_models import WORDS


def make_rows(count: int, *, seed: int = 0, bad: bool = True) -> list[dict[str, Any]]:
    """Rows with and without history, user, labels and draws; with ``bad`` some that have no answer."""
    chance = random.Random(seed)

    def text(least: int, most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(least, most)))

    rows: list[dict[str, Any]] = []
    for number in range(count):
        row: dict[str, Any] = {"id": f"row-{number}", "prompt": text(1, 9)}
        kind = number % 5
        if kind == 0:
            row["history"] = [{"text": text(1, 8), "output": text(1, 1)} for _ in range(chance.randint(1, 4))]
        if kind == 1:
            row["user"] = chance.choice(["anna", "ben", "stranger"])
        if kind == 2:
            row |= {"persona": "static", "user": "anna"}
        if kind == 3:
            row["persona"] = "off"
        if number % 3 == 0:
            row["options"] = {"temperature": 1.5, "max_tokens": chance.randint(2, 9)}
        if number % 11 == 7:
            row["labels"] = ["yes", "no"]
        if bad and number % 13 == 5:
            row = chance.choice([{"prompt": " "}, {"id": "x"}, {"prompt": "a", "prmpt": "b"}])
        rows.append(row)
    return rows


def with_methods(rows: list[dict[str, Any]], methods: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with methods by turns, in place of their personas."""
    found = []
    for number, row in enumerate(rows):
        rest = {name: value for name, value in row.items() if name != "persona"}
        found.append({**rest, "user": row.get("user", "ben"), "method": methods[number % len(methods)]})
    return found


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
