"""The same questions with cut histories: what is asked, kept, reported and drawn."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from fakeplug import FakePlug
from test_evaluate_runner import make_task

from personaplug_edge.errors import MethodError, PersonaPlugError
from personaplug_edge.evaluate.picture import draw
from personaplug_edge.evaluate.report import report_of, to_json
from personaplug_edge.evaluate.runner import TaskRun, run_task
from personaplug_edge.evaluate.tables import history_table, markdown, write_csv
from personaplug_edge.evaluate.truncated import Series, Truncation

LENGTHS = Truncation(lengths=(0, 1, 5, 50), methods=("query",))


def run(plug: FakePlug, folder: Path | None = None, truncation: Truncation | None = LENGTHS) -> TaskRun:
    return run_task(plug, make_task(), ["none", "pplug"], predictions=folder, truncation=truncation)  # type: ignore[arg-type]


def test_the_latest_items_are_asked_with() -> None:
    example = make_task().examples[0]
    assert [item.text for item in Series("pplug", 2).cut(example).history] == ["anna wrote 3", "anna wrote 4"]
    assert Series("pplug", 0).cut(example).history == ()
    assert Series("pplug", 9).cut(example) == Series("pplug").cut(example) == example
    assert (Series("pplug").name, Series("pplug", 5).name) == ("pplug", "pplug.last-5")


def test_every_question_is_asked_at_every_length() -> None:
    plug = FakePlug()
    found = run(plug).truncated
    assert {method: list(each) for method, each in found.items()} == {"query": [0, 1, 5, 50]}
    texts = {length: [answer.text for answer in each] for length, each in found["query"].items()}
    assert texts[0] == ["food"] * 9  # without a history the first label
    assert texts[5] == ["food"] * 3 + ["sports"] * 3 + ["tech"] * 3
    # Histories of 5, 6 and 7 items: whole ones are not asked again, though "query" was run as "pplug".
    assert len(plug.llm.calls) == 9 * 2 + 9 * 2 + 6


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    plug = FakePlug()
    plug.llm.fail_after = 20
    with pytest.raises(KeyboardInterrupt):
        run(plug, tmp_path)
    again = FakePlug()
    whole = run(again, tmp_path)
    assert len(again.llm.calls) == 42 - 20
    answers = {k: [replace(p, first_token_seconds=None) for p in each] for k, each in whole.truncated["query"].items()}
    fresh = run(FakePlug()).truncated["query"]
    assert answers == {k: [replace(p, first_token_seconds=None) for p in each] for k, each in fresh.items()}
    names = sorted(path.name for path in (tmp_path / "t").iterdir())
    assert names[2:] == ["query.last-0.jsonl", "query.last-1.jsonl", "query.last-5.jsonl", "query.last-50.jsonl"]
    header = json.loads((tmp_path / "t" / "query.last-5.jsonl").read_text().splitlines()[0])
    assert (header["method"], header["history"]) == ("query", 5)
    assert list(whole.files)[1:3] == ["pplug", "query.last-0"]


def test_figures_and_paired_gains(tmp_path: Path) -> None:
    report = report_of(run(FakePlug()), resamples=100)
    first, *others = [figure for figure in report.by_history if figure.metric == "accuracy"]
    assert (first.length, first.whole, first.gain) == (0, 9, None)
    assert [(f.length, f.whole) for f in others] == [(1, 9), (5, 9), (50, 0)]
    assert others[1].estimate.value == 1 and others[1].gain
    assert others[1].gain.value == pytest.approx(1 - first.estimate.value)
    headings, rows = history_table(report)
    assert headings == ["latest items", "so many have", "query: accuracy", "minus 0 items"] + [
        "query: NLL / token",
        "minus 0 items",
    ]
    assert [row[:2] for row in rows] == [["0 items", "9"], ["1 item", "9"], ["5 items", "9"], ["50 items", "0"]]
    assert rows[0][3] == "-" and rows[2][3].startswith("+0.667")
    assert "| 5 items | 9 | 1.000 " in markdown([report])
    stream = StringIO()
    write_csv([report], stream)
    metrics = [row["metric"] for row in csv.DictReader(StringIO(stream.getvalue()))]
    assert "accuracy, last 1 item" in metrics and "nll_per_token, last 50 items" in metrics
    saved = json.loads(json.dumps(to_json([report], {}), allow_nan=False))["tasks"][0]["by_history"]
    assert saved[0]["method"] == "query" and len(saved) == 8
    draw([report], tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000


def test_nothing_is_cut_where_nothing_was_asked_for() -> None:
    for truncation in (None, Truncation()):
        report = report_of(run(FakePlug(), truncation=truncation), resamples=100)
        assert (report.by_history, history_table(report)) == ((), ([], []))


def test_methods_and_lengths_are_checked() -> None:
    with pytest.raises(MethodError, match="'none' reads no history"):
        Truncation(lengths=(1,), methods=("none",))
    with pytest.raises(MethodError, match="unknown method 'nonsense'"):
        Truncation(lengths=(1,), methods=("nonsense",))
    for lengths in ((2, 1), (1, 1), (-1, 2)):
        with pytest.raises(PersonaPlugError, match="expected lengths of 0 or more"):
            Truncation(lengths=lengths)
    task = make_task("text")
    names = {series.method for series in Truncation(lengths=(1,), methods=("all",)).series(task)}
    assert {"query", "bm25", "wrong_user", "summary"} <= names and not names & {"none", "instruction", "vote"}
    assert Truncation(lengths=(1,), methods=("vote",)).series(task) == []
