"""Export and import of histories as JSON Lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import StoreError, TextError
from personaplug_edge.store import HistoryStore, NewItem
from personaplug_edge.store.jsonl import write_items

ITEMS = [
    NewItem("plain"),
    NewItem('quote " and \\ and \n new line \u2028 \N{SNOWMAN}', output="5", time=1.5, source="mail"),
    NewItem("negative time", time=-3.0),
]


@pytest.fixture
def store():
    with HistoryStore(":memory:") as opened:
        for user in ("anna", "ben"):
            opened.add(
                user, ITEMS, encoder_key="e", vectors=np.ones((3, 2)), bundle_key="b", projections=np.ones((3, 1, 2))
            )
        yield opened


def test_what_is_exported_is_imported(store: HistoryStore, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    assert store.export_jsonl(path) == 6
    assert list(HistoryStore.import_jsonl(path)) == [(user, item) for user in ("anna", "ben") for item in ITEMS]
    assert store.export_jsonl(path, "ben") == 3
    assert [user for user, _ in store.import_jsonl(path)] == ["ben"] * 3
    record = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert list(record) == ["user", "text", "output", "time", "source", "created"]
    assert path.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [path]


def test_an_export_that_fails_leaves_the_former_file(store: HistoryStore, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_text("former")

    def items():
        yield from store.list("anna")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_items(path, items())
    assert path.read_text() == "former" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(StoreError, match="is a folder"):
        store.export_jsonl(tmp_path)
    with pytest.raises(StoreError, match="nowhere"):
        store.export_jsonl(tmp_path / "nowhere" / "x.jsonl")


def test_a_store_is_not_exported_over_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with HistoryStore(tmp_path / "h.db") as store:
        store.add(
            "a", ITEMS[:1], encoder_key="e", vectors=np.ones((1, 2)), bundle_key="b", projections=np.ones((1, 1, 2))
        )
        (tmp_path / "link").symlink_to("h.db")
        for path in ("h.db", tmp_path / "h.db", tmp_path / "link", tmp_path / "h.db-wal", tmp_path / "h.db-shm"):
            with pytest.raises(StoreError, match="the store itself"):
                store.export_jsonl(path)
        assert store.count("a") == 1 and store.export_jsonl("other.jsonl") == 1


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (b"{", "line 3: not JSON"),
        (b"[1]", "line 3: expected a text or an object"),
        (b'{"output": "x"}', "line 3: the field 'text' is missing"),
        (b'{"text": 5}', "line 3: the text of a history item"),
        (b'{"text": "a", "output": 5}', "line 3: the output of a history item"),
        (b'{"text": "a", "ouput": "x"}', "line 3: unknown field 'ouput'"),
        (b'{"text": "a", "time": NaN}', "line 3: the time .* finite"),
        (b'{"text": "a", "time": "now"}', "line 3: time: expected"),
        (b'{"text": "a", "time": 1' + b"0" * 400 + b"}", "line 3: the time"),
        (b'{"text": " "}', "line 3: the text .* empty"),
        (b'{"text": "a\\ud800"}', "line 3: .*lone surrogate"),
        (b'{"text": "a", "user": ""}', "line 3: the user id"),
        (b'{"text": "a", "user": 5}', "line 3: the user id"),
        (b'{"text": "\xff"}', "line 3: not JSON in UTF-8"),
        (b"[" * 100_000, "line 3: not JSON"),
        (b'{"text": "' + b"x" * (20 << 20) + b'"}', "line 3: longer than"),
    ],
)
def test_a_malformed_record_is_named_after_the_good_ones(tmp_path: Path, line: bytes, match: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a", "user": "anna"}\r\n\n' + line + b"\n")
    records = HistoryStore.import_jsonl(path)
    assert next(records) == ("anna", NewItem("a"))
    with pytest.raises(TextError, match=match) as caught:
        next(records)
    assert "in.jsonl" in str(caught.value)


def test_a_text_alone_is_an_item_and_null_is_as_if_left_out(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('"a"\n{"text": "b", "user": null, "output": null, "time": "1970-01-02"}\n', encoding="utf-8")
    assert list(HistoryStore.import_jsonl(path)) == [(None, NewItem("a")), (None, NewItem("b", time=86_400.0))]


def test_the_last_line_may_lack_its_end_and_the_user(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a", "time": 3}')
    assert list(HistoryStore.import_jsonl(path)) == [(None, NewItem("a", time=3))]
    with pytest.raises(StoreError, match="missing"):
        list(HistoryStore.import_jsonl(tmp_path / "missing.jsonl"))
