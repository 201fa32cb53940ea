"""What an evaluation must not mix up or lose: answers to other data, unknown labels, reports of tasks that are done."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from fakeplug import FakePlug
from test_evaluate_data import make_task as make_folder
from test_evaluate_runner import make_task
from typer.testing import CliRunner

from personaplug_edge.cli import eval as eval_command
from personaplug_edge.cli.settings import command
from personaplug_edge.errors import MethodError, PersonaPlugError
from personaplug_edge.evaluate.data import PastItem, Task
from personaplug_edge.evaluate.report import report_of
from personaplug_edge.evaluate.runner import run_task
from personaplug_edge.evaluate.tables import write_csv
from personaplug_edge.evaluate.truncated import Truncation


def run(task: Task, methods: list[str], plug: Any = None, **options: Any) -> Any:
    return run_task(plug or FakePlug(), task, methods, **options)


@pytest.mark.parametrize("field", ["input", "gold", "user_id", "history"])
def test_answers_to_other_questions_of_the_same_ids_are_refused(tmp_path: Path, field: str) -> None:
    task = make_task()
    run(task, ["none", "query"], predictions=tmp_path)
    first = task.examples[0]
    value = (*first.history, PastItem("one more", "food")) if field == "history" else "another"
    other = replace(task, examples=(replace(first, **{field: value}), *task.examples[1:]))
    with pytest.raises(PersonaPlugError, match=r"question 'anna-5' was asked with another input, answer or history"):
        run(other, ["none", "query"], predictions=tmp_path)
    again = FakePlug()
    run(task, ["none", "query"], again, predictions=tmp_path)
    assert not again.llm.calls


def test_answers_by_other_adapters_are_refused(tmp_path: Path) -> None:
    one, other = (FakePlug(adapters=SimpleNamespace(digest=digest)) for digest in ("a", "b"))
    run(make_task(), ["none"], one, predictions=tmp_path)
    with pytest.raises(PersonaPlugError, match="made with another adapters"):
        run(make_task(), ["none"], other, predictions=tmp_path)


@pytest.mark.parametrize("line", ['{"id": "x"}', '{"id": "x", "asked": "a", "wrong": 1}'])
def test_a_line_that_is_no_prediction_is_named(tmp_path: Path, line: str) -> None:
    run(make_task(), ["none"], predictions=tmp_path)
    path = tmp_path / "t" / "none.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(PersonaPlugError, match=r"none\.jsonl:2: not a prediction"):
        run(make_task(), ["none"], predictions=tmp_path)


def test_votes_for_labels_that_the_task_has_not_are_the_prior() -> None:
    task = make_task()
    strange = tuple(PastItem(item.text, "gardening") for item in task.examples[0].history)
    task = replace(task, examples=(replace(task.examples[0], history=strange), *task.examples[1:]), prior="tech")
    for method, answers in run(task, ["majority", "vote"]).predictions.items():
        assert (method, answers[0].text) == (method, "tech")


def test_methods_that_choose_need_labels() -> None:
    with pytest.raises(MethodError, match="task 't' has no labels among which vote could choose"):
        run(make_task("text"), ["vote"])


def test_the_number_of_items_reaches_combinations() -> None:
    asked = set()

    class Watching(FakePlug):
        def personalize(self, text: str, **options: Any) -> Any:
            asked.add(options["method"])
            return super().personalize(text, **options)

    run(make_task(), ["bm25", "query+bm25", "query+bm25:3"], Watching(), bm25_items=1)
    assert asked == {"bm25:1", "query+bm25:1", "query+bm25:3"}


def test_a_long_answer_is_measured_as_far_as_the_context_holds_it() -> None:
    task = make_task("text")
    long = replace(task.examples[0], gold="word " * 2000)
    found = run(replace(task, examples=(long, *task.examples[1:])), ["none", "query"]).predictions
    # A context of 512, of which prompts may take 256; two positions are the answer's ends.
    assert {answers[0].tokens for answers in found.values()} == {254}
    assert all(answers[0].gold == long.gold for answers in found.values())


def test_csv_has_the_gains_and_the_counts() -> None:
    report = report_of(run(make_task(), ["none"], truncation=Truncation(lengths=(0, 6))), resamples=100)
    stream = StringIO()
    write_csv([report], stream)
    rows = list(csv.DictReader(StringIO(stream.getvalue())))
    gain = [
        row for row in rows if row["baseline"] == "pplug, last 0 items" and row["metric"] == "accuracy, last 6 items"
    ]
    assert len(gain) == 1 and float(gain[0]["value"]) == pytest.approx(2 / 3)
    counts = [row["value"] for row in rows if row["metric"] == "accuracy, last 6 items: questions with so many"]
    assert counts == ["6"]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    @contextmanager
    def open_fake(*, in_memory: bool = False) -> Iterator[Any]:
        yield FakePlug()

    monkeypatch.setattr(eval_command, "open_plug", open_fake)
    made = typer.Typer()
    made.callback()(lambda: None)
    command(made, "eval")(eval_command.evaluate)
    return made


def test_a_task_that_fails_does_not_take_the_others_reports_along(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        make_folder(tmp_path / "data" / name, labels=["o0", "o1"])
    score = FakePlug.score
    calls: list[str] = []

    def failing(self: FakePlug, text: str, answer: str, *, request: Any) -> Any:
        calls.append(text)
        if len(calls) > 3:
            raise PersonaPlugError("the second task cannot be run")
        return score(self, text, answer, request=request)

    monkeypatch.setattr(FakePlug, "score", failing)
    path = tmp_path / "r.json"
    arguments = ["--data", str(tmp_path / "data"), "--method", "none", "--resamples", "100", "--json", str(path)]
    result = CliRunner().invoke(app, ["eval", *arguments])
    assert result.exit_code == 1 and "the second task cannot be run" in result.stderr
    assert [task["task"] for task in json.loads(path.read_text())["tasks"]] == ["first"]


def test_tasks_without_labels_are_left_out_by_name(app: typer.Typer, tmp_path: Path) -> None:
    make_folder(tmp_path / "data" / "labels", labels=["o0", "o1"])
    make_folder(tmp_path / "data" / "text", field="title")
    arguments = ["--data", str(tmp_path / "data"), "--method", "vote", "--resamples", "100"]
    result = CliRunner().invoke(app, ["eval", *arguments])
    assert result.exit_code == 0, result.output
    assert "labels: 3 questions" in result.stdout and "text has no labels for vote" in result.stderr


@pytest.mark.parametrize("wrong", [["--json", "nowhere/r.json"], ["--csv", "."], ["--seed", "-1"]])
def test_what_cannot_be_written_is_refused_before_the_work(app: typer.Typer, tmp_path: Path, wrong: list[str]) -> None:
    make_folder(tmp_path / "t", labels=["o0", "o1"])
    result = CliRunner().invoke(app, ["eval", "--data", str(tmp_path / "t"), *wrong])
    assert result.exit_code == 2 and "3 questions" not in result.output
