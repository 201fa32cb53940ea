"""A report as tables: Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TextIO

from .bootstrap import Estimate
from .costs import Cost
from .lengths import LengthFigure
from .report import TaskReport

TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "nll": "NLL / answer",
    "nll_per_token": "NLL / token",
}

COSTS: dict[str, tuple[Callable[[Cost], float | None], str]] = {
    "first token, ms": (lambda cost: cost.first_token_ms, ",.2f"),
    "95th percentile": (lambda cost: cost.first_token_ms_p95, ",.2f"),
    "prompt tokens": (lambda cost: cost.prompt_tokens, ",.1f"),
    "bytes / user": (lambda cost: cost.bytes_per_user, ",.0f"),
    "training / user, s": (lambda cost: cost.training_seconds, ",.2f"),
}
"""Columns of costs, each with its figure and format; the time is a median over answers, the others are means."""

Table = tuple[list[str], list[list[str]]]
"""Headings, and rows of as many cells."""


def heading(report: TaskReport) -> str:
    """Task, questions and users, in one line."""
    return f"{report.task}: {report.questions} questions of {report.users} users"


def figure_table(report: TaskReport) -> Table:
    """A row a method, a column a metric; an arrow tells which way is better."""
    arrows = {name: "↑" if up else "↓" for name, up in report.directions.items()}
    rows = [[method, *(_cell(report.figure(method, m)) for m in report.directions)] for method in report.methods]
    return ["method", *(f"{TITLES[name]} {arrow}" for name, arrow in arrows.items())], rows


def difference_table(report: TaskReport) -> Table:
    """A row a pair, a column a metric; a star marks intervals without zero."""
    pairs = list(dict.fromkeys((d.method, d.baseline) for d in report.differences))
    found = {(d.method, d.baseline, d.metric): d.estimate for d in report.differences}
    rows = [
        [f"{method} - {baseline}", *(_signed(found.get((method, baseline, metric))) for metric in report.directions)]
        for method, baseline in pairs
    ]
    return ["difference", *(TITLES[name] for name in report.directions)], rows


def cost_table(report: TaskReport) -> Table:
    """A row a method whose costs were measured, with the columns that any of them has."""
    shown = {
        name: (get, form)
        for name, (get, form) in COSTS.items()
        if any(get(cost) is not None for cost in report.costs.values())
    }
    rows = [
        [method, *("-" if (value := get(cost)) is None else format(value, form) for get, form in shown.values())]
        for method, cost in report.costs.items()
    ]
    return ["cost", *shown], rows


def length_table(report: TaskReport) -> Table:
    """A row a method, a column a group of history lengths with its questions; the task's first metric."""
    metric = next(iter(report.directions))
    figures = {(f.low, f.method): f for f in report.by_length if f.metric == metric}
    groups = {f.low: f for f in figures.values()}
    if len(groups) < 2:
        return [], []
    rows = [
        [method, *(_cell(f.estimate) if (f := figures.get((low, method))) else "-" for low in groups)]
        for method in report.methods
    ]
    return [f"{TITLES[metric]} by items", *(f"{_range(f)} (n = {f.questions})" for f in groups.values())], rows


def history_table(report: TaskReport) -> Table:
    """A row a number of items that histories were cut to, and how many questions have so many; for each method and
    metric a column, and one of differences to the shortest."""
    found = {(f.method, f.metric, f.length): f for f in report.by_history}
    if not found:
        return [], []
    series = list(dict.fromkeys((method, metric) for method, metric, _ in found))
    lengths = {f.length: f.whole for f in report.by_history}
    shortest = min(lengths)
    headings = [[f"{m}: {TITLES[metric]}", f"minus {_items(shortest)}"] for m, metric in series]
    rows = []
    for length, whole in lengths.items():
        figures = [found[method, metric, length] for method, metric in series]
        cells = [[_cell(figure.estimate), _signed(figure.gain)] for figure in figures]
        rows.append([_items(length), str(whole), *(cell for pair in cells for cell in pair)])
    return ["latest items", "so many have", *(cell for pair in headings for cell in pair)], rows


def markdown(reports: Sequence[TaskReport]) -> str:
    """All tables of every task in Markdown."""
    parts = []
    for report in reports:
        parts.append(f"### {heading(report)}\n")
        parts += [_markdown(*make(report)) for make in TABLES]
    return "\n".join([*parts, LEGEND + "\n"])


LEGEND = (
    "In brackets: 95 % bootstrap intervals over users. Differences are paired; *: the interval is without zero."
    " Time to the first token: median over the answers; other costs: means."
)

TABLES = (figure_table, difference_table, cost_table, length_table, history_table)
"""All tables of a task, in the order they are shown."""


def write_csv(reports: Sequence[TaskReport], file: TextIO) -> None:
    """One row a figure; ``baseline`` is empty but for differences, ``low`` and ``high`` for costs."""
    writer = csv.writer(file)
    writer.writerow(["task", "method", "baseline", "metric", "value", "low", "high"])
    for report in reports:
        for f in report.figures:
            writer.writerow([report.task, f.method, "", f.metric, *_numbers(f.estimate)])
        for d in report.differences:
            writer.writerow([report.task, d.method, d.baseline, d.metric, *_numbers(d.estimate)])
        for method, cost in report.costs.items():
            for name, value in asdict(cost).items():
                if value is not None:
                    writer.writerow([report.task, method, "", name, round(value, 6), "", ""])
        for group in report.by_length:
            name = f"{group.metric}, {_range(group)} items"
            writer.writerow([report.task, group.method, "", name, *_numbers(group.estimate)])
            writer.writerow([report.task, group.method, "", f"{name}: questions", group.questions, "", ""])
        for cut in report.by_history:
            name = f"{cut.metric}, last {_items(cut.length)}"
            writer.writerow([report.task, cut.method, "", name, *_numbers(cut.estimate)])
            writer.writerow([report.task, cut.method, "", f"{name}: questions with so many", cut.whole, "", ""])
            if cut.gain is not None:
                shortest = min(each.length for each in report.by_history)
                baseline = f"{cut.method}, last {_items(shortest)}"
                writer.writerow([report.task, cut.method, baseline, name, *_numbers(cut.gain)])


def _range(figure: LengthFigure) -> str:
    if figure.high is None:
        return f"{figure.low}+"
    return f"{figure.low}-{figure.high}" if figure.high > figure.low else f"{figure.low}"


def _items(count: int) -> str:
    return f"{count} item{'s' * (count != 1)}"


def _cell(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _signed(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    star = "*" if estimate.low > 0 or estimate.high < 0 else ""
    return f"{estimate.value:+.3f}{star} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _numbers(estimate: Estimate) -> list[float]:
    return [round(number, 6) for number in (estimate.value, estimate.low, estimate.high)]


def _markdown(headings: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
