"""The demo's report as tables in the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .runner import NOBODY, DemoReport

_COLORS = (
    "yellow",
    "cyan",
    "magenta",
    "green",
    "red",
    "blue",
    "bright_cyan",
    "bright_magenta",
    "bright_green",
    "bright_red",
)


def show(report: DemoReport, console: Console, *, prompt: int | None = None) -> None:
    """Answers side by side, the reasons for one prompt (number ``prompt`` from 1, or the most disputed), and times."""
    console.print(_answers(report, console.width))
    summary = f"{report.differing} of {len(report.prompts)} prompts are answered differently for different people; "
    console.print(
        summary + f"{report.moved} of {len(report.prompts) * (len(report.columns) - 1)} answers are not nobody's.\n"
    )
    console.print(_reasons(report, most_disputed(report) if prompt is None else prompt - 1))
    if report.headlines:
        console.print(_headlines(report))
    console.print(report.timing_line[0].upper() + report.timing_line[1:] + ".")


def most_disputed(report: DemoReport) -> int:
    """The prompt with the most different labels; of equals, the one whose answers moved most often."""
    return max(
        range(len(report.prompts)),
        key=lambda row: (
            len({report.answers[row][name].label for name in report.columns}),
            sum(report.answers[row][name].label != report.answers[row][NOBODY].label for name in report.columns),
        ),
    )


def as_json(report: DemoReport) -> dict[str, Any]:
    """The whole report, and how many prompts differ."""
    return asdict(report) | {"differing": report.differing, "moved": report.moved}


def _answers(report: DemoReport, width: int) -> Table:
    """Side by side where each column has room for the longest word of a label; one prompt under the other otherwise."""
    word = max(len(word) for label in report.labels for word in label.split())
    return _wide(report, word) if width >= 32 + (word + 3) * len(report.columns) else _narrow(report)


def _wide(report: DemoReport, word: int) -> Table:
    table = Table(title=_title(report), title_justify="left", show_lines=True)
    table.add_column("", justify="right")
    table.add_column("article")
    for name in report.columns:
        head = Text(name, style="bold") + Text(f"\n{report.about.get(name, 'no persona')}", style="dim")
        table.add_column(head, width=word)
    for row, prompt in enumerate(report.prompts):
        cells = [_cell(report, row, name, "\n") for name in report.columns]
        table.add_row(str(row + 1), Text(prompt), *cells)
    return table


def _narrow(report: DemoReport) -> Table:
    table = Table("", "article and answers", title=_title(report), title_justify="left", show_lines=True)
    for row, prompt in enumerate(report.prompts):
        answers = [Text(f"{name} ") + _cell(report, row, name, " ") for name in report.columns]
        table.add_row(str(row + 1), Group(Text(prompt), Columns(answers, equal=True)))
    return table


def _title(report: DemoReport) -> str:
    return f"category of article (bundle {report.bundle}, persona {report.persona})"


def _cell(report: DemoReport, row: int, name: str, between: str) -> Text:
    """A label and its probability, in the label's color where it is not nobody's."""
    answer = report.answers[row][name]
    differs = answer.label != report.answers[row][NOBODY].label
    style = f"bold {_style(report, answer.label)}" if differs else "dim"
    return Text(f"{answer.label}{between}{answer.probabilities[answer.label]:.0%}", style=style)


def _style(report: DemoReport, label: str) -> str:
    return _COLORS[report.labels.index(label) % len(_COLORS)]


def _reasons(report: DemoReport, row: int) -> Table:
    table = Table(title=Text(f"what weighed most for prompt {row + 1}: {report.prompts[row]}"), title_justify="left")
    for name in ("person", "answer", "the likeliest labels", "weight", "history item"):
        table.add_column(name)
    for name in report.columns:
        answer = report.answers[row][name]
        likely = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])[:3]
        table.add_row(
            Text(name, style="bold"),
            Text(answer.label, style=f"bold {_style(report, answer.label)}"),
            Text("\n".join(f"{share:4.0%} {label}" for label, share in likely)),
            Text("\n".join(f"{each.weight:.0%}" for each in answer.weighed)),
            Text(
                "\n".join(f"{each.output}: {each.text}" for each in answer.weighed), no_wrap=True, overflow="ellipsis"
            ),
            end_section=True,
        )
    return table


def _headlines(report: DemoReport) -> Table:
    names = list(report.headlines[0])
    table = Table(title="headline of article (free text)", title_justify="left", show_lines=True)
    table.add_column("article", ratio=2)
    for name in names:
        table.add_column(Text(name), ratio=1)
    for prompt, written in zip(report.headline_prompts, report.headlines, strict=True):
        nobody = written[NOBODY]
        table.add_row(
            Text(prompt),
            *(
                Text(written[name], style="dim" if name == NOBODY or written[name] == nobody else "bold")
                for name in names
            ),
        )
    return table
