"""Quality against cost: what each method gains over ``none`` in all tasks, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .costs import Cost
from .report import TaskReport

COSTS: dict[str, tuple[str, Callable[[Cost], float | None]]] = {
    "first_token_ms": ("time to the first token, ms", lambda cost: cost.first_token_ms),
    "prompt_tokens": ("prompt tokens", lambda cost: cost.prompt_tokens),
    "bytes_per_user": ("bytes kept a user", lambda cost: cost.bytes_per_user),
    "training_seconds": ("seconds of training a user", lambda cost: cost.training_seconds),
}


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a method gains over ``none``: positive is better. Of one task in its first metric; of several, the mean of
    each task's gain in units of half the interval of ``none`` there.
    """

    value: float
    low: float
    high: float
    """95 %, paired; of several tasks combined as if they were independent of each other"""
    tasks: int
    """tasks that have the method"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method in one panel."""

    method: str
    cost: float
    """mean over the tasks that have the method"""
    gain: Gain


def gains(reports: Sequence[TaskReport]) -> dict[str, Gain]:
    """By method, where ``none`` was run; that of ``none`` itself is 0."""
    usable = [report for report in reports if "none" in report.methods]
    methods = dict.fromkeys(method for report in usable for method in report.methods)
    found = {}
    for method in methods:
        each = [gain for report in usable if (gain := _gain(report, method, scaled=len(usable) > 1))]
        if each:
            found[method] = _mean(each)
    return found


def cost_panels(reports: Sequence[TaskReport]) -> dict[str, list[Point]]:
    """By cost the points of the methods that have it; costs that none has are left out."""
    gained = gains(reports)
    panels = {}
    for name, (_, read) in COSTS.items():
        points = []
        for method, gain in gained.items():
            known = [value for r in reports if method in r.costs and (value := read(r.costs[method])) is not None]
            if known:
                points.append(Point(method=method, cost=sum(known) / len(known), gain=gain))
        if any(point.cost for point in points):
            panels[name] = points
    return panels


def _gain(report: TaskReport, method: str, *, scaled: bool) -> Gain | None:
    metric, up = next(iter(report.directions.items()))
    base = report.figure("none", metric)
    unit = (base.high - base.low) / 2 if base and scaled else 1.0
    if method == "none":
        return Gain(value=0.0, low=0.0, high=0.0, tasks=1)
    differences = (
        d.estimate for d in report.differences if (d.method, d.baseline, d.metric) == (method, "none", metric)
    )
    if (found := next(differences, None)) is None or not unit:
        return None
    value, ends = found.value, sorted((found.low, found.high), key=lambda end: end if up else -end)
    sign = 1 if up else -1
    return Gain(value=sign * value / unit, low=sign * ends[0] / unit, high=sign * ends[1] / unit, tasks=1)


def _mean(each: Sequence[Gain]) -> Gain:
    count = len(each)
    value = sum(gain.value for gain in each) / count
    down = math.sqrt(sum((gain.value - gain.low) ** 2 for gain in each)) / count
    up = math.sqrt(sum((gain.high - gain.value) ** 2 for gain in each)) / count
    return Gain(value=value, low=value - down, high=value + up, tasks=count)
