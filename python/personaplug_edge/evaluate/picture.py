"""The report as a picture: a row of panels a task, and quality against cost of all methods below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..plots import DPI, empty_figure
from .families import family_of, numbered, telling
from .lengths import LengthFigure
from .picture_costs import draw_costs
from .report import Difference, TaskReport
from .tables import TITLES
from .tradeoff import cost_panels

BETTER, WORSE, OPEN = "#1b7837", "#b2182b", "#777777"
"""Colors of a difference whose interval lies on the better side of zero, on the worse side, or on both."""

Panel = Callable[[Any, TaskReport], None]


def draw(reports: Sequence[TaskReport], path: Path) -> None:
    """Writes a picture (format by the suffix).

    A row of panels a task: what each method changes in the first metric and in the likelihood, the first metric by
    the length of the history, and with histories cut to their latest items, as far as it was measured. Below, a panel
    a cost with every method's gain.

    Raises MissingExtraError without matplotlib.
    """
    numbers, costs = numbered(reports), cost_panels(reports)
    columns = _columns(reports, numbers)
    heights = [0.9 + max(2.0, 0.19 * len(report.methods)) for report in reports]
    bottom = 0.6 + max(3.4, 0.22 * (len(numbers) + 10)) if costs else 0.0
    width = max(4.4 * len(columns), 3.7 * len(costs) + 2.4)
    canvas = empty_figure(width, sum(heights) + bottom + 0.3)
    parts = canvas.subfigures(
        1 + bool(costs), 1, height_ratios=[sum(heights), bottom][: 1 + bool(costs)], squeeze=False
    )
    grid = parts[0, 0].subplots(len(reports), len(columns), squeeze=False, height_ratios=heights)
    for panels, report in zip(grid, reports, strict=True):
        for panel, paint in zip(panels, columns, strict=True):
            paint(panel, report)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8)
    parts[0, 0].suptitle(
        "Differences are to no personalization; lines and bands: 95 % intervals over users", fontsize=11
    )
    if costs:
        draw_costs(parts[1, 0], reports, costs, numbers)
    canvas.savefig(path, dpi=DPI)


def _columns(reports: Sequence[TaskReport], numbers: dict[str, int]) -> list[Panel]:
    columns: list[Panel] = [
        partial(_differences, numbers=numbers, likelihood=False),
        partial(_differences, numbers=numbers, likelihood=True),
    ]
    if any(_groups(report) for report in reports):
        columns.append(_lengths)
    if any(report.by_history for report in reports):
        columns.append(_truncated)
    return columns


def _differences(panel: Any, report: TaskReport, numbers: dict[str, int], *, likelihood: bool) -> None:
    first = next(iter(report.directions))
    # A continuation has likelihoods only: per answer, then.
    metric = first if not likelihood else "nll" if first == "nll_per_token" else "nll_per_token"
    found = {d.method: d for d in report.differences if (d.metric, d.baseline) == (metric, "none")}
    rows = sorted((name for name in report.methods if name != "none"), key=lambda name: -numbers[name])
    for height, name in enumerate(rows):
        if difference := found.get(name):
            e, color = difference.estimate, _color(difference, report.directions[metric])
            panel.plot([e.low, e.high], [height, height], color=color, linewidth=1.8)
            panel.plot([e.value], [height], family_of(name).marker, color=color, markersize=4.5)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.locator_params(axis="x", nbins=5)
    panel.set_yticks(range(len(rows)), [] if likelihood else [f"{name} {numbers[name]:>3}" for name in rows])
    panel.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    side = "right" if report.directions[metric] else "left"
    panel.set_title(f"{report.task}: {TITLES[metric]} (better: {side})", fontsize=9, loc="left")


def _lengths(panel: Any, report: TaskReport) -> None:
    metric, groups = next(iter(report.directions)), _groups(report)
    if not groups:
        return _empty(panel, "too few questions\nto group by length")
    places, used = {low: place for place, low in enumerate(groups)}, Counter[str]()
    for method in telling(report, metric):
        figures = [f for f in report.by_length if (f.method, f.metric) == (method, metric)]
        xs, ys = [places[f.low] for f in figures], [f.estimate.value for f in figures]
        family = family_of(method)
        line = "--" if method == "none" else ("-", "-.", ":")[used[family.color] % 3]
        used[family.color] += 1
        panel.plot(xs, ys, line, color=family.color, marker=family.marker, markersize=4, linewidth=1.5, label=method)
    panel.set_xticks(range(len(groups)), [f"{f.low}+\n{f.questions}" for f in groups.values()])
    panel.set_xlabel("items in the history; questions", fontsize=8)
    _titled(panel, report, metric, "by length of history")


def _truncated(panel: Any, report: TaskReport) -> None:
    metric = next(iter(report.directions))
    if not report.by_history:
        return _empty(panel, "not measured")
    lengths = list(dict.fromkeys(figure.length for figure in report.by_history))
    for number, method in enumerate(dict.fromkeys(figure.method for figure in report.by_history)):
        found = [f for f in report.by_history if (f.method, f.metric) == (method, metric)]
        xs = [lengths.index(f.length) for f in found]
        color, line = family_of(method).color, ("-", "-.", ":")[number % 3]
        # What is in question is the change with the history: the band is that of the paired difference to the first.
        base = found[0].estimate.value if found else 0.0
        ends = [(base + f.gain.low, base + f.gain.high) if f.gain else (base, base) for f in found]
        panel.fill_between(
            xs, [low for low, _ in ends], [high for _, high in ends], color=color, alpha=0.12, linewidth=0
        )
        panel.plot(xs, [f.estimate.value for f in found], line, color=color, linewidth=1.5, zorder=3, label=method)
        for f, x in zip(found, xs, strict=True):  # filled: another than with the shortest history
            clear = f.gain is not None and not f.gain.low <= 0 <= f.gain.high
            panel.plot(x, f.estimate.value, "o", color=color, markersize=5, zorder=4, mfc=color if clear else "white")
    if bare := report.figure("none", metric):
        panel.axhline(bare.value, color=family_of("none").color, linestyle="--", linewidth=1, label="none")
    panel.set_xticks(range(len(lengths)), list(map(str, lengths)))
    panel.set_xlabel("latest items of each history (band, filled: against the first)", fontsize=8)
    _titled(panel, report, metric, "with histories cut")


def _groups(report: TaskReport) -> dict[int, LengthFigure]:
    """A figure of each group of lengths by its beginning; none where there are not two to compare."""
    groups = {figure.low: figure for figure in report.by_length}
    return groups if len(groups) > 1 else {}


def _empty(panel: Any, why: str) -> None:
    panel.set_axis_off()
    panel.text(0.5, 0.5, why, ha="center", va="center", fontsize=8, color=OPEN, transform=panel.transAxes)


def _titled(panel: Any, report: TaskReport, metric: str, what: str) -> None:
    if panel.lines:
        panel.legend(fontsize=7, frameon=False)
    better = "up" if report.directions[metric] else "down"
    panel.set_title(f"{report.task}: {TITLES[metric]} {what} (better: {better})", fontsize=9, loc="left")


def _color(difference: Difference, higher_is_better: bool) -> str:
    e = difference.estimate
    if e.low <= 0 <= e.high:
        return OPEN
    return BETTER if (e.low > 0) == higher_is_better else WORSE
