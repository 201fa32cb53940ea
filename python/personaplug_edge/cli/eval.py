"""``personaplug eval``: the methods side by side on questions with known answers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import MissingExtraError
from .picture_path import picture_path, writable
from .session import open_plug
from .terminal import notice, out, progress_bar, table

if TYPE_CHECKING:
    from ..evaluate.data import Task
    from ..evaluate.report import TaskReport
    from ..evaluate.truncated import Truncation
    from ..plug import PersonaPlug


class Input(str, Enum):
    """Which wording of a question is asked."""

    short = "short"
    full = "full"


class Ratings(str, Enum):
    """Which of the ratings is the answer."""

    median = "median"
    likeliest = "likeliest"


WIDE = 130
"""Columns of a terminal from which on a figure and its interval stand on one line."""

DataOption = Annotated[
    Path, typer.Option(help="A task's folder, or one of several: users.jsonl + questions.jsonl, LaMP's or LongLaMP's.")
]
MethodOption = Annotated[
    list[str] | None,
    typer.Option(
        help="By default none, instruction, static, query, bm25, wrong_user, and for labels majority and vote. Known:"
        " none, instruction, pplug, pplug-static, recency, random, bm25, dense, summary, wrong_user, majority,"
        " vote, and with --adapters lora and prompt-tuning; query and static are short for pplug and pplug-static. One,"
        " or several joined by +, with a number of items as in pplug+bm25:1; all: every one without adapters, and"
        " query+bm25:1, query+dense:1, summary+dense."
    ),
]


def evaluate(
    data: DataOption,
    task: Annotated[list[str] | None, typer.Option(help="Name of a task's folder; by default all.")] = None,
    split: Annotated[str, typer.Option(help="Which questions.")] = "dev",
    method: MethodOption = None,
    input: Annotated[Input, typer.Option(help="short: the wording for small LLMs; full: LaMP's.")] = Input.short,
    limit: Annotated[int, typer.Option(min=0, help="So many questions a task, evenly spread; 0: all.")] = 0,
    bm25_items: Annotated[int, typer.Option(min=1, help="Items that bm25 puts into the prompt at most.")] = 4,
    beams: Annotated[int, typer.Option(min=1, max=32, help="Beams for free text (the paper: 4); 1: greedy.")] = 1,
    ratings: Annotated[
        Ratings, typer.Option(help="Of ratings, answer the median by probability (least error) or the likeliest.")
    ] = Ratings.median,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the users.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    lengths: Annotated[
        str, typer.Option(help="Ask again with so many of the latest items of each history: 0,1,2,5,10,20,50,100,200.")
    ] = "",
    lengths_method: Annotated[
        list[str] | None, typer.Option(help="By these methods (pplug); may be given several times.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Keep predictions here, also as LaMP's evaluator reads them; a killed run goes on."),
    ] = None,
    json: Annotated[Path | None, typer.Option(callback=writable, help="Write the report as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(callback=writable, help="Write the tables as Markdown.")] = None,
    csv: Annotated[Path | None, typer.Option(callback=writable, help="Write every figure as a CSV row.")] = None,
    png: Annotated[
        Path | None, typer.Option(callback=picture_path, help="Draw the differences to none (needs matplotlib).")
    ] = None,
) -> None:
    """Measure what personalization brings: metrics with 95 % intervals over users, and paired differences.

    The profile of a question is what its user wrote before it; nothing is stored.
    """
    from ..evaluate.discover import read_tasks
    from ..evaluate.methods import ALL, methods_for
    from ..evaluate.predictions import write_official
    from ..evaluate.report import report_of
    from ..evaluate.runner import run_task

    reports: list[TaskReport] = []
    truncation = _truncation(lengths, lengths_method)
    tasks = list(read_tasks(data, task or (), split, short=input is Input.short, limit=limit))
    _check_extras(tasks, png)
    about: dict[str, Any] = {
        "limit": limit,
        "bm25_items": bm25_items,
        "beams": beams,
        "resamples": resamples,
        "seed": seed,
    }
    about |= {"lengths": truncation.lengths, "ratings": ratings.value}
    with open_plug(in_memory=True) as plug, ExitStack() as stack:
        # Also when a later task fails: hours may lie behind those that are done.
        stack.callback(lambda: _write(reports, about, json=json, markdown=markdown, csv=csv, png=png))
        made_with = _about(plug, split=split, input=input.value)
        about |= made_with
        for each in tasks:
            if left := [name for name in method or () if name not in (ALL, *methods_for(each, method or ()))]:
                notice(f"{each.name} has no labels for {', '.join(left)} to choose among: left out there")
            if not methods_for(each, method or ()):
                continue
            with progress_bar(each.name) as progress:
                options: dict[str, Any] = {
                    "predictions": predictions,
                    "settings": made_with,
                    "bm25_items": bm25_items,
                    "beams": beams,
                    "ratings": ratings.value,
                    "truncation": truncation,
                }
                run = run_task(plug, each, method or (), progress=progress, **options)
            if predictions is not None and each.kind != "continuation":  # of which nothing is generated
                for name, answers in run.files.items():
                    write_official(predictions / each.name, each.official or each.name, name, answers)
            reports.append(report_of(run, resamples=resamples, seed=seed))
            _show(reports[-1])


def _check_extras(tasks: Sequence[Task], png: Path | None) -> None:
    """Raises MissingExtraError now for what the report would miss after hours of answers."""
    from importlib.util import find_spec

    wanted = {"rouge_score": any(task.kind == "text" for task in tasks), "matplotlib": png is not None}
    if missing := [name for name, needed in wanted.items() if needed and find_spec(name) is None]:
        raise MissingExtraError(f"{' and '.join(missing)} missing: pip install 'personaplug-edge[eval]'")


def _truncation(lengths: str, methods: list[str] | None) -> Truncation:
    from ..evaluate.truncated import Truncation

    try:
        wanted = {int(part) for part in lengths.split(",") if part.strip()}
    except ValueError:
        raise typer.BadParameter(f"expected numbers of items as --lengths 0,1,2,5, got {lengths!r}") from None
    return Truncation(lengths=tuple(sorted(wanted)), methods=tuple(methods or ("pplug",)))


def _about(plug: PersonaPlug, *, split: str, input: str) -> dict[str, Any]:
    from hashlib import sha256

    manifest = plug.bundle.manifest
    # Of all files: predictions made before a new training must not be mixed with those made after.
    digests = "".join(sorted(part.sha256 for part in manifest.files.values()))
    bundle = {
        "name": manifest.name,
        "version": manifest.version,
        "digest": sha256(digests.encode()).hexdigest()[:16],
    }
    return {"bundle": bundle, "split": split, "input": input}


def _show(report: TaskReport) -> None:
    from ..evaluate.tables import TABLES, heading

    narrow = out().width < WIDE
    for number, (headings, rows) in enumerate(make(report) for make in TABLES):
        if rows:
            shown = table(*headings, title=None if number else heading(report))
            for cells in rows:
                shown.add_row(*(cell.replace(" [", "\n[") if narrow else cell for cell in cells))
            out().print(shown)
            out().print()


def _write(
    reports: list[TaskReport],
    about: dict[str, Any],
    *,
    json: Path | None,
    markdown: Path | None,
    csv: Path | None,
    png: Path | None,
) -> None:
    import json as json_module

    from ..evaluate import picture, report, tables

    if not reports:
        return
    out().print(tables.LEGEND, style="dim")
    if json is not None:
        text = json_module.dumps(report.to_json(reports, about), indent=1, ensure_ascii=False)
        json.write_text(text + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(tables.markdown(reports), encoding="utf-8")
    if csv is not None:
        with csv.open("w", encoding="utf-8", newline="") as file:
            tables.write_csv(reports, file)
    if png is not None:
        picture.draw(reports, png)
    for path in filter(None, (json, markdown, csv, png)):
        out().print(f"wrote {path}", style="dim", soft_wrap=True)
