"""Deleting: nothing of what was deleted is left in the file, its write-ahead log or its shared memory."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import StoreError
from personaplug_edge.store import HistoryStore, NewItem

D = 24


def vector(name: str) -> np.ndarray:
    """A vector whose bytes are found by searching for them."""
    return np.random.default_rng(int.from_bytes(name.encode(), "little")).standard_normal((1, D)).astype(np.float16)


def add(store: HistoryStore, user: str, name: str, size: int = 30) -> int:
    text = f"text-{name}-" + "x" * size
    item = NewItem(text, output=f"output-{name}", source=f"source-{name}")
    projection = (vector(name) * 3)[:, None]
    return store.add(user, [item], encoder_key="e", vectors=vector(name), bundle_key="b", projections=projection).ids[0]


def on_disk(path: Path) -> bytes:
    """The bytes of the store, of the log and of the shared memory."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


def traces(path: Path, name: str) -> list[str]:
    content, vectors = on_disk(path), vector(name)
    needles = {part: f"{part}-{name}".encode() for part in ("text", "output", "source")}
    needles |= {"vector": vectors.tobytes(), "projection": (vectors * 3).tobytes()}
    needles |= {"sum": (vectors * 3).astype(np.float64).tobytes()}
    return [part for part, needle in needles.items() if needle in content]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "h.db"


def test_the_search_for_traces_finds_what_is_stored(path: Path) -> None:
    with HistoryStore(path) as store:
        add(store, "anna", "0")
        assert traces(path, "0") == ["text", "output", "source", "vector", "projection", "sum"]


def test_a_deleted_item_leaves_no_bytes(path: Path) -> None:
    with HistoryStore(path) as store:
        ids = [add(store, "anna", str(i), 10 ** (i % 5)) for i in range(10)]
        for i in (0, 4, 9):
            store.delete_item("anna", ids[i])
            assert traces(path, str(i)) == []
        assert {"text", "vector", "projection"} <= set(traces(path, "5"))
        store.check()
    assert traces(path, "4") == [] and traces(path, "5")


def test_an_edited_item_leaves_no_bytes(path: Path) -> None:
    with HistoryStore(path) as store:
        item_id = add(store, "anna", "old", 5000)
        new = vector("new")
        store.edit(
            "anna",
            item_id,
            NewItem("text-new-"),
            encoder_key="e",
            vectors=new,
            bundle_key="b",
            projections=new[:, None],
        )
        assert traces(path, "old") == [] and {"text", "vector"} <= set(traces(path, "new"))


def test_an_erased_user_leaves_no_bytes(path: Path) -> None:
    with HistoryStore(path) as store:
        for i in range(60):
            add(store, f"user-{i % 3}@example.org", f"{i:02d}", 10 ** (i % 4))
        size = path.stat().st_size + Path(f"{path}-wal").stat().st_size
        store.delete_user("user-1@example.org")
        assert store.users() == ["user-0@example.org", "user-2@example.org"]
        assert b"user-1@example.org" not in on_disk(path) and b"user-2@example.org" in on_disk(path)
        assert [i for i in range(60) if (i % 3 == 1) == bool(traces(path, f"{i:02d}"))] == []
        assert len(on_disk(path)) < size
        store.check()


def test_users_that_come_and_go_in_any_order_leave_no_bytes(path: Path) -> None:
    """SQLite rearranges pages when rows go, and copies of ids stay behind in them; the purge removes these too."""
    chance = random.Random(3)
    live: list[str] = []
    dead: list[str] = []
    with HistoryStore(path) as store:
        store._database._connection.execute("PRAGMA synchronous = OFF")  # type: ignore[union-attr]
        for step in range(900):
            if not live or chance.random() < (0.9 if step < 500 else 0.2):
                live.append(f"{chance.getrandbits(32):08x}-name-{step}" + "y" * chance.choice([3, 60, 200]))
                add(store, live[-1], str(step), chance.choice([3, 300, 2000]))
            else:
                dead.append(live.pop(chance.randrange(len(live))))
                store.delete_user(dead[-1], purge=False)
        assert store.purge() is True and store.purge() is False
        content = on_disk(path)
    assert len(dead) > 200
    assert [user for user in dead if user[:20].encode() in content] == []
    assert [user for user in live if user[:20].encode() not in content] == []


def test_a_purge_that_was_cut_short_is_done_at_the_next_opening(path: Path) -> None:
    store = HistoryStore(path)
    item_id = add(store, "anna", "0")
    store.delete_item("anna", item_id, purge=False)  # as if the process had been killed before its purge
    assert traces(path, "0")  # the log still has it
    with HistoryStore(path, read_only=True) as reader:
        assert reader.count("anna") == 0
    with HistoryStore(path):
        assert traces(path, "0") == []
    store.close()


def test_a_reader_that_holds_the_log_delays_the_purge_but_not_the_deletion(path: Path) -> None:
    with HistoryStore(path, timeout=0.1) as store:
        item_id = add(store, "anna", "0")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        with pytest.raises(StoreError, match=r"end the other readers.*call purge\(\)"):
            store.delete_item("anna", item_id)
        assert store.count("anna") == 0 and store.matrix("anna", "e", "b").ids.size == 0
        with HistoryStore(path, timeout=0.1) as other:  # opening does not fail for it
            assert other.count("anna") == 0
        reader.execute("COMMIT")
        reader.close()
        assert store.purge() is True
        assert traces(path, "0") == []


def test_files_are_readable_by_their_owner_alone(path: Path) -> None:
    with HistoryStore(path) as store:
        add(store, "anna", "0")
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.glob("h.db*")}
    assert set(modes) >= {"h.db", "h.db-wal"} and set(modes.values()) == {0o600}
