"""A full disk: the change is refused whole, what was stored stays, and the store goes on once there is room."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import StoreError
from personaplug_edge.store import HistoryStore, NewItem


def add(store: HistoryStore, count: int, start: int = 0) -> None:
    items = [NewItem(f"text {i} " + "x" * 1000) for i in range(start, start + count)]
    arrays = {"vectors": np.ones((count, 64)), "projections": np.ones((count, 1, 64))}
    store.add("anna", items, encoder_key="e", bundle_key="b", **arrays)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "h.db") as store:
        add(store, 5)
        connection = store._database._connection
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        revision = store.revision("anna")
        with pytest.raises(StoreError, match=r"h\.db.*full.*free some space"):
            add(store, 100, 5)
        assert store.count("anna") == store.persona_sum("anna", "b")[1] == len(store.matrix("anna", "e", "b")) == 5
        assert store.revision("anna") == revision
        store.delete_item("anna", 1)
        connection.execute("PRAGMA max_page_count = 1000000")
        add(store, 100, 5)
        assert store.count("anna") == 104
        store.check()


PROGRAM = """
    import resource, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from test_store_disk_full import add
    from personaplug_edge.errors import StoreError
    from personaplug_edge.store import HistoryStore

    store = HistoryStore(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    stored = 0
    try:
        while True:
            add(store, 10, stored)
            stored += 10
    except StoreError as error:
        assert sys.argv[1] in str(error) and "nothing of this change was stored" in str(error), error
    assert store.count("anna") == stored > 20, (store.count("anna"), stored)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    exported = Path(sys.argv[1] + ".jsonl")
    try:
        store.export_jsonl(exported)
        raise AssertionError("an export larger than the limit")
    except StoreError as error:
        assert str(exported) in str(error), error
    assert not list(exported.parent.glob("*.jsonl*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.delete_item("anna", 1, purge=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
    try:
        store.purge()
        raise AssertionError("a purge without room for a copy")
    except StoreError as error:
        assert "call purge()" in str(error), error
    assert store.count("anna") == stored - 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert store.purge()
    add(store, 10, stored)
    assert len(store.matrix("anna", "e", "b")) == stored + 9
    store.check()
    print(stored + 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_the_operating_system_refuses_to_write(tmp_path: Path) -> None:
    """A limit to the size of files in a process of its own stands for a full disk: every write beyond it fails."""
    path = tmp_path / "h.db"
    program = textwrap.dedent(PROGRAM)
    arguments = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with HistoryStore(path) as store:
        assert store.count("anna") == int(done.stdout)
        store.check()
