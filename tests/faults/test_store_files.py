"""Files that cannot be used: each is refused with a StoreError that names path and remedy, and is left as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import StoreError, StoreVersionError
from personaplug_edge.store import HistoryStore, NewItem


def add(store: HistoryStore, *texts: str) -> list[int]:
    items = [NewItem(text) for text in texts]
    n = len(items)
    return store.add(
        "anna", items, encoder_key="e", vectors=np.ones((n, 8)), bundle_key="b", projections=np.ones((n, 2, 8))
    ).ids


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "h.db"


@pytest.fixture
def filled(path: Path) -> Path:
    with HistoryStore(path) as store:
        add(store, *(f"text {i} " + "x" * 500 for i in range(200)))
    return path


def refused(path: Path | str, match: str, **options: object) -> StoreError:
    with pytest.raises(StoreError, match=match) as caught:
        HistoryStore(path, **options).close()  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("length", [1, 20, 10_000])
def test_not_a_database(path: Path, length: int, read_only: bool) -> None:
    content = (b"This is a letter, not a database. " * 300)[:length]
    path.write_bytes(content)
    refused(path, "not a SQLite database|damaged", read_only=read_only)
    assert path.read_bytes() == content


@pytest.mark.parametrize("read_only", [False, True])
def test_the_database_of_another_program(path: Path, read_only: bool) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE items (id INTEGER)")
    connection.commit()
    connection.close()
    content = path.read_bytes()
    refused(path, "another program", read_only=read_only)
    assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_version(filled: Path, read_only: bool) -> None:
    connection = sqlite3.connect(filled)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    content = filled.read_bytes()
    assert isinstance(refused(filled, "version 999.*update", read_only=read_only), StoreVersionError)
    assert filled.read_bytes() == content


@pytest.mark.parametrize("read_only", [False, True])
def test_folders_and_missing_files(tmp_path: Path, read_only: bool) -> None:
    refused(tmp_path, "is a folder", read_only=read_only)
    refused(tmp_path / "nowhere" / "h.db", "does not exist; create it", read_only=read_only)
    refused("a\0b", "null", read_only=read_only)
    refused("/dev/null", "not a plain file", read_only=read_only)
    assert list(tmp_path.iterdir()) == []


def test_reading_a_file_that_is_not_there(path: Path) -> None:
    refused(path, "does not exist; open it without read_only", read_only=True)
    path.touch()
    refused(path, "open it once without", read_only=True)
    assert path.read_bytes() == b""


def test_odd_names_are_paths_and_no_options(tmp_path: Path) -> None:
    for name in ("a?mode=memory", "b#c", "d%20e", "grüße h.db", "file:f"):
        with HistoryStore(tmp_path / name) as store:
            add(store, "a")
        with HistoryStore(tmp_path / name, read_only=True) as store:
            assert store.count("anna") == 1
    assert len([file for file in tmp_path.iterdir() if not file.name.endswith(("-wal", "-shm"))]) == 5


@pytest.mark.parametrize("keep", [1, 10, 50, 100, 4096, 20_000, -5000, -1])
def test_a_truncated_file(filled: Path, keep: int) -> None:
    content = filled.read_bytes()[:keep]
    filled.write_bytes(content)
    for read_only in (False, True):
        refused(filled, "damaged|not a SQLite database", read_only=read_only)
    assert filled.read_bytes() == content


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_never_harms_the_process(filled: Path, seed: int) -> None:
    """Any call on a file with overwritten bytes gives a result or a StoreError; check() finds damaged pages."""
    generator = np.random.default_rng(seed)
    content = bytearray(filled.read_bytes())
    for _ in range(8):
        page = int(generator.integers(seed > 5, len(content) // 4096)) * 4096
        content[page : page + 64] = generator.bytes(64)
    filled.write_bytes(content)
    try:
        store = HistoryStore(filled)
    except StoreError as error:
        assert str(filled) in str(error)
        return
    calls = (
        lambda: store.list("anna"),
        lambda: store.matrix("anna", "e", "b"),
        lambda: store.persona_sum("anna", "b"),
        lambda: store.search("anna", "text"),
        lambda: list(store.missing("e2", "b2")),
        lambda: add(store, "new"),
        lambda: store.delete_user("anna"),
    )
    with store:
        with pytest.raises(StoreError, match=r"damaged|bytes"):
            store.check()
        for call in calls:
            try:
                call()
            except (StoreError, LookupError):
                pass


def test_damaged_vectors_are_not_handed_out(filled: Path) -> None:
    connection = sqlite3.connect(filled)
    for value in (b"\x00\x7c" * 8, b"short"):  # infinity; a wrong length
        with connection:
            connection.execute("UPDATE vectors SET data = ? WHERE item = 7", (value,))
        with HistoryStore(filled) as store, pytest.raises(StoreError, match="damaged"):
            store.matrix("anna", "e", "b")
    connection.close()


def test_a_locked_file(filled: Path) -> None:
    other = sqlite3.connect(filled, isolation_level=None)
    with HistoryStore(filled, timeout=0.05) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"lock.*try again"):
            add(store, "new")
        assert store.count("anna") == 200  # readers are not held up
        other.execute("ROLLBACK")
        add(store, "new")
        assert store.count("anna") == 201
    other.close()


def test_a_store_opened_for_reading_changes_nothing(filled: Path) -> None:
    content = filled.read_bytes()
    with HistoryStore(filled, read_only=True) as store:
        assert store.count("anna") == 200 and len(store.matrix("anna", "e", "b")) == 200
        assert store.search("anna", "TEXT 7 ")
        for call in (
            lambda: add(store, "new"),
            lambda: store.delete_user("anna"),
            lambda: store.delete_item("anna", 1),
        ):
            with pytest.raises(StoreError, match="read_only=True"):
                call()
        assert store.purge() is False
        store.check()
    assert filled.read_bytes() == content


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """A folder, and inside the block no rights beyond its permissions: root would pass over them."""
    folder = Path(tempfile.mkdtemp())
    was = os.geteuid()
    try:
        if was == 0:
            folder.chmod(0o755)
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        yield folder
    finally:
        os.seteuid(was)
        shutil.rmtree(folder)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("read_only_part", ["file", "folder", "both"])
def test_read_only_files_and_folders(read_only_part: str) -> None:
    with ordinary_user() as folder:
        path = folder / "h.db"
        with HistoryStore(path) as store:
            add(store, "a", "b")
        path.chmod(0o600 if read_only_part == "folder" else 0o400)
        folder.chmod(0o700 if read_only_part == "file" else 0o500)
        refused(path, "read-only.*read_only=True")
        with HistoryStore(path, read_only=True) as store:
            assert store.count("anna") == 2 and len(store.matrix("anna", "e", "b")) == 2
        folder.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_that_may_not_be_read() -> None:
    with ordinary_user() as folder:
        path = folder / "h.db"
        HistoryStore(path).close()
        path.chmod(0o000)
        refused(path, "change the permissions")
        refused(path, "change the permissions", read_only=True)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_log_that_cannot_be_read_is_not_passed_over() -> None:
    """Without its log the file would show an older state: an error is right, or the newest state."""
    with ordinary_user() as folder:
        copies = folder / "copies"
        copies.mkdir()
        with HistoryStore(folder / "h.db") as store:
            add(store, "a")
            for name in ("h.db", "h.db-wal"):
                shutil.copy(folder / name, copies / name)
        copies.chmod(0o500)
        try:
            refused(copies / "h.db", "cannot be opened|read-only", read_only=True)
        finally:
            copies.chmod(0o700)
        with HistoryStore(copies / "h.db", read_only=True) as store:
            assert store.count("anna") == 1
