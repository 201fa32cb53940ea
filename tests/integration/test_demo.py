"""The command line and the demo on the bundle `tiny`, where it comes with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personaplug_edge import HistoryStore, cli
from personaplug_edge.bundle import known_bundles

pytestmark = pytest.mark.skipif("tiny" not in known_bundles(), reason="the package has no bundle 'tiny'")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERSONAPLUG_STORE", str(tmp_path / "history.sqlite3"))
    monkeypatch.delenv("PERSONAPLUG_BUNDLE", raising=False)
    return tmp_path


def test_people_get_different_answers(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--json", "--threads", "1", "--png", str(own_store / "demo.png")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["differing"] >= len(report["prompts"]) // 3
    assert len({row[name]["label"] for row in report["answers"] for name in row}) >= 3
    assert report["first_token_with"] > 0 and report["first_token_without"] > 0
    assert (own_store / "demo.png").stat().st_size > 10_000
    assert not (own_store / "history.sqlite3").exists()


def test_remember_generate_explain_forget(capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--threads", "1"]
    for text, label in (("The team won in extra time.", "sports"), ("The bill failed in committee.", "politics")):
        assert cli.main([*shared, "remember", "anna", text, "--output", label]) == 0
    prompt = "category of article: The coach spoke to the press after the game."
    capsys.readouterr()
    assert cli.main([*shared, "generate", prompt, "--user", "anna", "--json", "--max-tokens", "4"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert len(reply["tokens"]) <= 4 and len(reply["attribution"]) == 2
    assert sum(row["weight"] for row in reply["attribution"]) == pytest.approx(1, abs=1e-3)
    assert cli.main([*shared, "explain", prompt, "--user", "anna", "--json"]) == 0
    why = json.loads(capsys.readouterr().out)["attribution"]
    assert why[0]["output"] == "sports"
    for persona in ("query", "static", "off"):
        assert cli.main([*shared, "generate", prompt, "--user", "anna", "--persona", persona, "--max-tokens", "4"]) == 0
    assert cli.main([*shared, "forget", "anna", "--all", "--yes"]) == 0
    capsys.readouterr()
    assert cli.main(["users", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_wrong_sampling_is_one_line(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    HistoryStore(own_store / "history.sqlite3").close()
    assert cli.main(["generate", "headline of article: x", "--threads", "1", "--top-p", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
