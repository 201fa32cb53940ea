"""The command line given bytes that are no text, odd times, full disks and stores of others: one line, exit code 1."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from pathlib import Path

import pytest

from cli_run import Run
from models.onnx_models import make_bundle
from personaplug_edge import HistoryStore

BAD = b'{"text": "bad \xff"}\n'


@pytest.fixture(scope="module")
def bundle(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random")


@pytest.fixture
def run(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(bundle, tmp_path / "history.sqlite3", capsys).with_empty_store()


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "-"],
        ["explain", "-", "--user", "anna"],
        ["remember", "anna", "--file", "-"],
        ["chat", "--user", "anna", "--persona", "off"],
    ],
    ids=lambda arguments: str(arguments[0]),
)
def test_standard_input_that_is_no_text(run: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD), encoding="utf-8"))
    told = run.fails(*arguments)
    assert "standard input" in told and "utf-8" in told


def test_files_that_are_no_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(BAD)
    assert "bad is not utf-8" in run.fails("generate", "hello", "--grammar", str(tmp_path / "bad"))
    assert "bad, line 1: not JSON in UTF-8" in run.fails("remember", "anna", "--file", str(tmp_path / "bad"))
    assert json.loads(run("users", "--json")[1]) == []


def test_arguments_that_are_no_text(run: Run) -> None:
    for arguments in (["generate", "\udcff"], ["remember", "anna", "\udcff"], ["remember", "\udcff", "text"]):
        assert "surrogate" in run.fails(*arguments)


def test_a_time_in_milliseconds_is_refused(run: Run) -> None:
    for time in ("1769860800000", "99999999999999999", "-62135596801"):
        assert "expected seconds since 1970" in run.fails("remember", "anna", "a film", "--time", time)
    assert run("remember", "anna", "a film", "--time", "9999-12-31T23:59:59Z")[0] == 0
    assert "9999-12-31" in run("history", "list", "anna")[1]


def test_a_time_beyond_the_calendar_of_an_older_store_is_listed(run: Run) -> None:
    assert run("remember", "anna", "a film", "--time", "1")[0] == 0
    with sqlite3.connect(run.store) as connection:
        connection.execute("UPDATE items SET time = 99999999999999999")
    connection.close()
    code, out, _ = run("history", "list", "anna")
    assert code == 0 and "100000000000000000 s" in out


def test_a_store_of_a_newer_version_is_left_alone(run: Run) -> None:
    run("remember", "anna", "a film")
    with sqlite3.connect(run.store) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    content = run.store.read_bytes()
    for arguments in (
        ["remember", "anna", "more"],
        ["generate", "hello", "--user", "anna"],
        ["forget", "anna", "--all"],
    ):
        assert "version 99" in run.fails(*arguments)
    assert run.store.read_bytes() == content


def test_a_full_disk_keeps_what_was_stored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("remember", "anna", "a film", "--output", "art")[0] == 0
    opened = HistoryStore.__init__

    def open_with_a_limit(self: HistoryStore, *arguments: object, **options: object) -> None:
        opened(self, *arguments, **options)  # type: ignore[arg-type]
        with self._database.connection() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(HistoryStore, "__init__", open_with_a_limit)
    assert "is full" in run.fails("remember", "anna", "x" * 50_000)
    code, out, _ = run("generate", "hello", "--user", "anna", "--max-tokens", "3", "--json")
    assert code == 0 and [row["text"] for row in json.loads(out)["attribution"]] == ["a film"]
