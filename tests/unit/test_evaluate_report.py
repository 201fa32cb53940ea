"""The report on predictions made by hand: differences, costs, all formats, and LaMP's own format of predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from personaplug_edge.evaluate.costs import Cost, cost_of
from personaplug_edge.evaluate.data import Example, PastItem, Task
from personaplug_edge.evaluate.metrics import Prediction
from personaplug_edge.evaluate.picture import draw
from personaplug_edge.evaluate.predictions import file_name, write_official
from personaplug_edge.evaluate.report import report_of, to_json
from personaplug_edge.evaluate.runner import TaskRun
from personaplug_edge.evaluate.tables import cost_table, difference_table, length_table, markdown, write_csv

GOLDS = ["food", "food", "sports", "sports", "sports", "food"]


def answers(right: int, **cost: Any) -> list[Prediction]:
    return [
        Prediction(
            id=str(n),
            user_id=f"u{n // 2}",
            gold=gold,
            text=gold if n < right else "tech",
            logprob=-1.0 - (n >= right),
            tokens=1,
            **{name: value(n) for name, value in cost.items()},
        )
        for n, gold in enumerate(GOLDS)
    ]


def make_run(kind: Any = "label") -> TaskRun:
    labels = ("food", "sports", "tech") if kind == "label" else ()
    task = Task(name="t", kind=kind, labels=labels, examples=(), users={})
    costs = {
        "first_token_seconds": lambda n: 0.01 * (n + 1),
        "prompt_tokens": lambda n: 10 + n,
        "bytes_per_user": lambda n: 100 * n,
    }
    return TaskRun(
        task,
        {
            "none": answers(2),
            "pplug": answers(6, **costs),
            "bm25": answers(3, **costs),
            "vote": [replace(each, logprob=None) for each in answers(4)],
        },
    )


def test_pplug_is_compared_with_every_method_and_every_method_with_none() -> None:
    headings, rows = difference_table(report_of(make_run(), resamples=100))
    assert headings == ["difference", "accuracy", "macro F1", "NLL / token", "NLL / answer"]
    assert [row[0] for row in rows] == ["pplug - none", "bm25 - none", "vote - none", "pplug - bm25", "pplug - vote"]
    assert rows[3][1].startswith("+0.500")
    assert rows[4][3] == "-"  # a vote has no likelihood


def test_costs_are_of_answers_or_of_users() -> None:
    report = report_of(make_run(), resamples=100)
    assert list(report.costs) == ["pplug", "bm25"]
    cost = report.costs["pplug"]
    assert cost.first_token_ms == pytest.approx(35)
    assert cost.first_token_ms_p95 == pytest.approx(57.5)
    assert cost.prompt_tokens == pytest.approx(12.5)
    assert cost.bytes_per_user == pytest.approx((100 + 300 + 500) / 3)  # of each user the most
    assert cost.training_seconds is None
    assert cost_of([]) == Cost() and not Cost().known
    headings, rows = cost_table(report)
    assert headings == ["cost", "first token, ms", "95th percentile", "prompt tokens", "bytes / user"]
    assert rows[0] == ["pplug", "35.00", "57.50", "12.5", "300"]


def test_costs_stand_in_every_format(tmp_path: Path) -> None:
    report = report_of(make_run(), resamples=100)
    assert "| pplug | 35.00 | 57.50 | 12.5 | 300 |" in markdown([report])
    stream = StringIO()
    write_csv([report], stream)
    rows = [row for row in csv.DictReader(StringIO(stream.getvalue())) if row["metric"] == "bytes_per_user"]
    assert [(row["method"], row["value"], row["low"]) for row in rows] == [
        ("pplug", "300.0", ""),
        ("bm25", "300.0", ""),
    ]
    assert json.loads(json.dumps(to_json([report], {}), allow_nan=False))["tasks"][0]["costs"]["bm25"]["prompt_tokens"]
    draw([report, report_of(make_run("continuation"), resamples=100)], tmp_path / "r.png")
    assert (tmp_path / "r.png").read_bytes()[:4] == b"\x89PNG"


def examples(lengths: list[int]) -> list[Example]:
    past = PastItem("text", "food")
    return [
        Example(id=str(n), user_id=f"u{n % 5}", input="x", gold="a", history=(past,) * k) for n, k in enumerate(lengths)
    ]


def test_figures_by_length_of_history() -> None:
    lengths = [0] * 10 + [3] * 12 + [7] * 9 + [250] * 10  # nine questions are too few to be shown
    asked = examples(lengths)
    task = Task(name="t", kind="label", labels=("a", "b"), examples=asked, users={})

    def run(right: Callable[[int], bool], logprob: float | None = -1.0) -> list[Prediction]:
        return [
            Prediction(id=e.id, user_id=e.user_id, gold="a", text="a" if right(k) else "b", logprob=logprob, tokens=1)
            for e, k in zip(asked, lengths, strict=True)
        ]

    predictions = {"none": run(lambda k: False), "pplug": run(lambda k: k > 0), "vote": run(lambda k: True, None)}
    report = report_of(TaskRun(task, predictions), resamples=100)
    headings, rows = length_table(report)
    assert headings == ["accuracy by items", "0 (n = 10)", "1-4 (n = 12)", "200+ (n = 10)"]
    assert [[cell[:5] for cell in row] for row in rows] == [
        ["none", "0.000", "0.000", "0.000"],
        ["pplug", "0.000", "1.000", "1.000"],
        ["vote", "1.000", "1.000", "1.000"],
    ]
    assert {f.metric for f in report.by_length if f.method == "vote"} == {"accuracy"}
    assert {f.metric for f in report.by_length if f.method == "none"} == {"accuracy", "nll_per_token"}
    assert "accuracy by items" in markdown([report])
    stream = StringIO()
    write_csv([report], stream)
    assert 't,pplug,,"accuracy, 1-4 items",1.0,1.0,1.0' in stream.getvalue()


def test_nothing_measured_gives_no_cost_table() -> None:
    run = make_run()
    report = report_of(TaskRun(run.task, {"none": run.predictions["none"]}), resamples=100)
    assert (report.costs, cost_table(report)[1]) == ({}, [])
    assert "| cost |" not in markdown([report])


def test_a_continuation_is_reported_by_likelihood_alone() -> None:
    report = report_of(make_run("continuation"), resamples=100)
    assert list(report.directions) == ["nll_per_token", "nll"]
    estimate = report.figure("pplug", "nll")
    assert estimate and estimate.value == 1


def test_predictions_in_lamps_own_format(tmp_path: Path) -> None:
    path = write_official(tmp_path / "LaMP_2N", "LaMP_2", "pplug+bm25:1", answers(6))
    assert path.name == "pplug+bm25-1.json"
    table = json.loads(path.read_text())
    assert list(table) == ["task", "golds"]  # what LaMP's evaluator reads: the task's name, and every id once
    assert table["task"] == "LaMP_2"
    assert {gold["id"]: gold["output"] for gold in table["golds"]} == dict(zip("012345", GOLDS, strict=True))
    assert {frozenset(gold) for gold in table["golds"]} == {frozenset({"id", "output"})}
    assert file_name("../a:b") == "..-a-b"
