"""``personaplug map`` with real encoders, over a store and over files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_evaluate_data import make_task

from models.onnx_models import make_bundle
from personaplug_edge import cli
from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.look.portraits import stored_portraits
from personaplug_edge.store import HistoryStore


@pytest.fixture(scope="module")
def bundle(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random")


def test_users_of_the_store(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = ["--bundle", str(bundle), "--store", str(tmp_path / "history.sqlite3"), "--threads", "1"]
    for user, output in (("anna", "sports"), ("ben", "food"), ("cleo", "food")):
        (tmp_path / "items.jsonl").write_text(
            "".join(json.dumps({"text": f"{user} wrote {n}", "output": output}) + "\n" for n in range(4))
        )
        assert cli.main([*shared, "remember", user, "--file", str(tmp_path / "items.jsonl")]) == 0
    capsys.readouterr()
    picture = tmp_path / "map.png"
    assert cli.main([*shared, "map", "--json", "--png", str(picture)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [(user["user"], user["items"], user["group"]) for user in made["users"]] == [
        ("anna", 4, "sports"),
        ("ben", 4, "food"),
        ("cleo", 4, "food"),
    ]
    assert made["color"] == "label" and made["groups"] == {"food": 2, "sports": 1}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main([*shared, "map", "--mark", "number", "--limit", "2"]) == 0
    printed = capsys.readouterr()
    assert "2 users" in printed.out and "2 of 3 users" in printed.err and "wrote" not in printed.out
    with HistoryStore(tmp_path / "history.sqlite3", read_only=True) as store:
        loaded = Bundle.load(bundle)
        (anna,) = stored_portraits(loaded, UserEmbedder.from_bundle(loaded, threads=1), store, ["anna", "nobody"])
    assert anna.persona.ndim == 1 and anna.words["wrote"] == 4 and np.isfinite(anna.persona).all()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert cli.main([*shared, "map", "--png", str(picture)]) == 1
    assert "[plot]" in capsys.readouterr().err


def test_users_of_files(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("news_category", "news_headline"):
        make_task(tmp_path / "data" / name, labels=["o0", "o1"] if name == "news_category" else None)
    shared = ["--bundle", str(bundle), "--store", str(tmp_path / "none.sqlite3"), "--threads", "1", "map"]
    data = ["--data", str(tmp_path / "data")]
    assert cli.main([*shared, *data, "--task", "news_category", "--json", "--color", "words"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert len(made["users"]) == 3 and made["color"] == "words" and sum(made["groups"].values()) == 3
    assert not (tmp_path / "none.sqlite3").exists()
    assert cli.main([*shared, *data]) == 2  # which of the two?
    assert cli.main([*shared, "--task", "news_category"]) == 2
    assert cli.main(shared) == 1 and "no history store" in capsys.readouterr().err
