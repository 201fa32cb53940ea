"""``personaplug eval``: the methods side by side on questions with known answers."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .picture_path import picture_path
from .session import open_plug
from .terminal import out, progress_bar, table

if TYPE_CHECKING:
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
        help="Of none, instruction, pplug, pplug-static, recency, random, bm25, dense, summary, wrong_user, majority,"
        " vote, and with --adapters lora and prompt-tuning; query and static are short for pplug and pplug-static. One,"
        " or several joined by +, with a number of items as in pplug+bm25:1; all: every one without adapters."
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
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
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
    json: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the tables as Markdown.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every figure as a CSV row.")] = None,
    png: Annotated[
        Path | None, typer.Option(callback=picture_path, help="Draw the differences to none (needs matplotlib).")
    ] = None,
) -> None:
    """Measure what personalization brings: metrics with 95 % intervals over users, and paired differences.

    The profile of a question is what its user wrote before it; nothing is stored.
    """
    from ..evaluate.discover import read_tasks
    from ..evaluate.predictions import write_official
    from ..evaluate.report import report_of
    from ..evaluate.runner import run_task

    reports = []
    truncation = _truncation(lengths, lengths_method)
    tasks = read_tasks(data, task or (), split, short=input is Input.short, limit=limit)
    with open_plug(in_memory=True) as plug:
        about = _about(plug, split=split, input=input.value)
        for each in tasks:
            with progress_bar(each.name) as progress:
                options: dict[str, Any] = {
                    "predictions": predictions,
                    "settings": about,
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
    about |= {"limit": limit, "bm25_items": bm25_items, "beams": beams, "resamples": resamples, "seed": seed}
    about |= {"lengths": truncation.lengths, "ratings": ratings.value}
    _write(reports, about, json=json, markdown=markdown, csv=csv, png=png)


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
