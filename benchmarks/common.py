"""What the benchmarks share: rounds in which contenders take turns, summaries, the machine, and the JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """One figure a contender and round, after one round that warms up and is dropped.

    Contenders take turns within a round, every other round in reverse, so that a machine that slows down, or what one
    leaves in the caches, meets all alike.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        order = list(contenders) if number % 2 else list(contenders)[::-1]
        for name in order:
            figure = contenders[name]()
            if number:
                figures[name].append(figure)
    return figures


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest, and all values."""
    return {"median": median(values), "least": min(values), "greatest": max(values), "rounds": list(values)}


def ratio(values: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """Summary of the ratios of each round: what slows a whole round cancels."""
    return summary([value / other for value, other in zip(values, base, strict=True)])


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    packages = {name: version(name) for name in ("numpy", "llama-cpp-python")}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": load,
        "packages": packages,
    }


def write_json(report: Mapping[str, Any], path: Path | None) -> None:
    """Writes the report, with the machine beside it."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**report, "machine": machine()}, indent=1) + "\n")


def prompt_ids(count: int, vocabulary: int) -> list[int]:
    """The prompt that c_loop makes too."""
    return [(index * 7919 + 13) % vocabulary for index in range(count)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
