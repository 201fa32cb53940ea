"""A report as tables: Markdown and CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TextIO

from .bootstrap import Estimate
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


def markdown(reports: Sequence[TaskReport]) -> str:
    """Both tables of every task in Markdown."""
    parts = []
    for report in reports:
        parts.append(f"### {heading(report)}\n")
        parts += [_markdown(*figure_table(report)), _markdown(*difference_table(report))]
    note = (
        "In brackets: 95 % bootstrap intervals over users. Differences are paired; *: the interval is without zero.\n"
    )
    return "\n".join([*parts, note])


def write_csv(reports: Sequence[TaskReport], file: TextIO) -> None:
    """One row a figure; ``baseline`` is empty but for differences."""
    writer = csv.writer(file)
    writer.writerow(["task", "method", "baseline", "metric", "value", "low", "high"])
    for report in reports:
        for f in report.figures:
            writer.writerow([report.task, f.method, "", f.metric, *_numbers(f.estimate)])
        for d in report.differences:
            writer.writerow([report.task, d.method, d.baseline, d.metric, *_numbers(d.estimate)])


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
