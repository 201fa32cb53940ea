"""``personaplug eval`` from files to files, on a stand-in for the runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from fakeplug import FakePlug
from test_evaluate_data import make_task
from typer.testing import CliRunner

from personaplug_edge.cli import eval as eval_command
from personaplug_edge.cli.settings import command

BUNDLE = {"name": "fake", "version": "1", "digest": "e3b0c44298fc1c14"}  # SHA-256 of nothing: the fake has no files


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    @contextmanager
    def open_fake(*, in_memory: bool = False) -> Iterator[Any]:
        assert in_memory  # an evaluation must not touch the user's own store
        yield FakePlug()

    monkeypatch.setattr(eval_command, "open_plug", open_fake)
    made = typer.Typer()
    made.callback()(lambda: None)  # keeps "eval" a command of several
    command(made, "eval")(eval_command.evaluate)
    return made


def test_all_outputs_are_written(app: typer.Typer, tmp_path: Path) -> None:
    make_task(tmp_path / "data" / "news_category", end=".jsonl.xz", labels=["o0", "o1"])
    make_task(tmp_path / "data" / "news_headline", field="title")
    files = {name: tmp_path / f"report.{name}" for name in ("json", "markdown", "csv", "png")}
    arguments = [
        "eval",
        "--data",
        str(tmp_path / "data"),
        "--predictions",
        str(tmp_path / "kept"),
        "--resamples",
        "100",
    ]
    result = CliRunner().invoke(app, arguments + [f"--{name}={path}" for name, path in files.items()])
    assert result.exit_code == 0, result.output
    assert "news_category: 3 questions of 3 users" in result.output
    assert "ROUGE-L" in result.output
    report = json.loads(files["json"].read_text())
    assert [task["task"] for task in report["tasks"]] == ["news_category", "news_headline"]
    assert report["bundle"] == BUNDLE
    assert files["markdown"].read_text().startswith("### news_category")
    assert files["csv"].read_text().startswith("task,method,baseline")
    assert files["png"].stat().st_size > 1000
    kept = sorted(path.name for path in (tmp_path / "kept" / "news_headline").iterdir())
    assert kept[:2] == ["bm25.json", "bm25.jsonl"]
    official = json.loads((tmp_path / "kept" / "news_headline" / "bm25.json").read_text())
    assert (official["task"], len(official["golds"])) == ("news_headline", 3)
    rows = (tmp_path / "kept" / "news_category" / "query.jsonl").read_text().splitlines()
    assert json.loads(rows[0]) == {
        "format": 2,
        "beams": 1,
        "task": "news_category",
        "method": "query",
        "bundle": BUNDLE,
        "split": "dev",
        "input": "short",
    }
    assert len(rows) == 1 + 3


def test_chosen_methods_and_limit(app: typer.Typer, tmp_path: Path) -> None:
    make_task(tmp_path / "t", labels=["o0", "o1"])
    path = tmp_path / "r.json"
    arguments = ["--method", "query", "--method", "none", "--limit", "2", "--split", "train", "--json", str(path)]
    result = CliRunner().invoke(app, ["eval", "--data", str(tmp_path / "t"), *arguments])
    assert result.exit_code == 0, result.output
    task = json.loads(path.read_text())["tasks"][0]
    assert (task["questions"], task["methods"]) == (2, ["none", "query"])


def test_histories_are_cut_as_asked(app: typer.Typer, tmp_path: Path) -> None:
    make_task(tmp_path / "t", labels=["o0", "o1"])
    path, kept = tmp_path / "r.json", tmp_path / "kept"
    arguments = ["--method", "none", "--lengths", "2,0,2", "--json", str(path), "--predictions", str(kept)]
    result = CliRunner().invoke(app, ["eval", "--data", str(tmp_path / "t"), *arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(path.read_text())
    assert report["lengths"] == [0, 2]
    assert {(f["method"], f["length"]) for f in report["tasks"][0]["by_history"]} == {("pplug", 0), ("pplug", 2)}
    assert {"pplug.last-2.json", "pplug.last-2.jsonl"} <= {path.name for path in (kept / "t").iterdir()}
    for wrong, code in ((["--lengths", "1,b"], 2), (["--lengths", "1", "--lengths-method", "none"], 1)):
        assert CliRunner().invoke(app, ["eval", "--data", str(tmp_path / "t"), *wrong]).exit_code == code


def test_a_mistake_is_one_line(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "expected a task in" in result.stderr
    assert "Traceback" not in result.output
