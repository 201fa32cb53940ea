"""The command line and stores that cannot be written, or are not there."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cli_run import Run
from models.onnx_models import make_bundle
from personaplug_edge.store import paths


@pytest.fixture(scope="module")
def bundle(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random")


@pytest.fixture
def run(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(bundle, tmp_path / "history.sqlite3", capsys)


@pytest.fixture
def closed(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Commands on a store of two users that cannot be written, nor its folder."""
    assert run("remember", "anna", "a goal in extra time", "--output", "sports")[0] == 0
    assert run("remember", "ben", "the vote was late", "--output", "politics")[0] == 0
    monkeypatch.setattr(paths, "may_write", lambda path: path != run.store)
    return run


def test_reading_needs_no_right_to_write(closed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    content = closed.store.read_bytes()
    reply = json.loads(closed("generate", "hello", "--user", "anna", "--max-tokens", "2", "--json")[1])
    assert [row["text"] for row in reply["attribution"]] == ["a goal in extra time"]
    assert closed("generate", "hello", "--max-tokens", "2")[0] == 0
    assert json.loads(closed("explain", "hello", "--user", "anna", "--json")[1])["attribution"]
    assert len(json.loads(closed("map", "--json")[1])["users"]) == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n/remember more\n"))
    code, out, err = closed("chat", "--user", "anna", "--max-tokens", "2")
    assert code == 0 and out and "is read-only; change the permissions" in err and "read_only" not in err
    rows = b'{"user": "anna", "prompt": "hello", "options": {"max_tokens": 2}}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(rows), encoding="utf-8"))
    code, out, err = closed("batch", "-", "--output", "-", "--json")
    assert code == 0 and json.loads(out)["history_items"] == 1 and json.loads(err)["generated_tokens"] <= 2
    assert closed.store.read_bytes() == content


@pytest.mark.parametrize(
    "arguments",
    [
        ["remember", "anna", "more"],
        ["history", "edit", "anna", "1", "--text", "more"],
        ["history", "import", "anna", "-"],
        ["forget", "anna", "--all", "--yes"],
        ["summarize", "--all"],
        ["chat", "--user", "anna", "--learn"],
    ],
    ids=" ".join,
)
def test_what_writes_is_refused_in_the_words_of_a_shell(
    closed: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"more"\n'), encoding="utf-8"))
    told = closed.fails(*arguments)
    assert "read-only; change the permissions" in told and "read_only" not in told


@pytest.fixture
def other(tiny_gguf: Path, tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "other", llm_file=tiny_gguf, name="other", width=8)


def test_what_a_read_only_store_lacks_is_told(other: Path, closed: Run) -> None:
    told = closed.fails("generate", "hello", "--user", "anna", "--bundle", str(other))
    assert "is read-only and lacks vectors of the bundle 'other'" in told and "reembed" not in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "hello"],
        ["generate", "hello", "--user", "anna"],
        ["explain", "hello", "--user", "anna"],
        ["chat", "--user", "anna"],
        ["summarize", "--all"],
        ["history", "edit", "anna", "1", "--text", "more"],
        ["map"],
    ],
    ids=" ".join,
)
def test_a_named_store_that_is_not_there_is_not_made(run: Run, arguments: list[str]) -> None:
    assert f"no history store at {run.store}" in run.fails(*arguments)
    assert not run.store.exists()


def test_a_store_is_made_by_what_stores(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    assert run("chat", "--user", "anna", "--learn", "--max-tokens", "2")[0] == 0
    assert json.loads(run("users", "--json")[1]) == [{"user": "anna", "items": 1}]


def test_the_default_store_need_not_be_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    home = tmp_path / "home"
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: home / "data")
    monkeypatch.delenv("PERSONAPLUG_STORE", raising=False)
    run.shared = [*run.shared[:2], *run.shared[4:]]
    assert run("generate", "hello", "--max-tokens", "2")[0] == 0
    code, _, err = run("generate", "hello", "--user", "anna", "--max-tokens", "2")
    assert code == 0 and "'anna' has no history" in err and not home.exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO("/remember a goal\n"))
    assert run("chat", "--user", "anna")[0] == 0
    assert json.loads(run("users", "--json")[1]) == [{"user": "anna", "items": 1}]
