"""kill -9, forks and several processes: what was acknowledged is there, whole."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import StoreError
from personaplug_edge.store import HistoryStore, NewItem

WRITER = textwrap.dedent("""
    import sys
    import numpy as np
    from personaplug_edge.store import HistoryStore, NewItem

    store, name, kept = HistoryStore(sys.argv[1]), sys.argv[2], []
    print("ready", flush=True)
    for i in range(int(sys.argv[3])):
        vectors = np.full((1, 16), i % 1000, dtype=np.float32)
        item = NewItem(f"{name} {i} " + "x" * (i % 7) * 600)
        arrays = {"vectors": vectors, "projections": vectors[:, None]}
        added = store.add("anna", [item], encoder_key="e", bundle_key="b", **arrays)
        kept += added.ids
        print("+", added.ids[0], i % 1000, flush=True)
        if i % 10 == 9:
            print("?", kept[0], flush=True)  # being deleted: may be there or not
            store.delete_item("anna", kept[0])
            print("-", kept.pop(0), flush=True)
""")


def start(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(path), name, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def check_whole(path: Path, acknowledged: dict[int, int], unsure: set[int], deleted: set[int]) -> None:
    with HistoryStore(path) as store:
        store.check()
        history = store.matrix("anna", "e", "b")
        assert list(store.missing("e", "b")) == []
        assert [item.id for item in store.list("anna")] == history.ids.tolist()
        stored = dict(zip(history.ids.tolist(), history.vectors[:, 0].tolist(), strict=True))
        assert {i: stored.get(i) for i in acknowledged if i not in unsure} == {
            i: value for i, value in acknowledged.items() if i not in unsure
        }
        assert not deleted & set(stored)
        total, count = store.persona_sum("anna", "b")
        assert count == len(history) and (total == history.projections.astype(np.float64).sum(axis=0)).all()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path, chance = tmp_path / "h.db", random.Random(5)
    acknowledged: dict[int, int] = {}
    unsure: set[int] = set()
    deleted: set[int] = set()
    for round_number in range(6):
        process = start(path, f"round {round_number}", 1_000_000)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.02, 0.4))
        process.send_signal(signal.SIGKILL)
        lines = process.communicate()[0].splitlines(keepends=True)
        for kind, *values in (line.split() for line in lines if line.endswith("\n")):
            if kind == "+":
                acknowledged[int(values[0])] = int(values[1])
            else:
                (unsure if kind == "?" else deleted).add(int(values[0]))
        check_whole(path, acknowledged, unsure, deleted)
    assert len(acknowledged) > 20 and deleted


def test_processes_make_and_write_a_file_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    processes = [start(path, name, 20) for name in ("one", "two", "three")]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    added = [int(line.split()[1]) for output in outputs for line in output.splitlines() if line.startswith("+")]
    assert len(set(added)) == 60
    with HistoryStore(path) as store:
        assert store.count("anna") == 54
        store.check()


def in_child(work) -> int:
    """Run ``work`` in a forked process; its exit status, 0 if it returned."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def add(store: HistoryStore, text: str) -> None:
    store.add(
        "anna",
        [NewItem(text)],
        encoder_key="e",
        vectors=np.ones((1, 2)),
        bundle_key="b",
        projections=np.ones((1, 1, 2)),
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_parent_and_forked_child_share_a_store(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "h.db") as store:
        add(store, "parent")

        def work() -> None:
            assert store.count("anna") == 1
            add(store, "child")
            store.close()

        with store._database._lock:  # held by the parent: the child has a lock of its own
            assert in_child(work) == 0
        add(store, "parent again")
        assert [item.text for item in store.list("anna")] == ["parent", "child", "parent again"]
        store.check()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_store_in_memory_says_that_it_cannot_be_shared() -> None:
    with HistoryStore(":memory:") as store:
        add(store, "parent")

        def work() -> None:
            for _ in range(2):
                with pytest.raises(StoreError, match="in memory cannot be used in a forked process"):
                    store.count("anna")

        assert in_child(work) == 0
        assert store.count("anna") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_threads_of_a_forked_child_share_a_store(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "h.db") as store:
        add(store, "parent")

        def work() -> None:
            together, found = threading.Barrier(8), []

            def count() -> None:
                together.wait()
                found.append(store.count("anna"))

            threads = [threading.Thread(target=count) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == [1] * 8

        assert [in_child(work) for _ in range(5)] == [0] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_relative_path_is_the_same_file_after_a_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with HistoryStore("h.db") as store:
        add(store, "parent")
        monkeypatch.chdir("elsewhere")

        def work() -> None:
            assert store.count("anna") == 1

        assert in_child(work) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="setitimer")
def test_ctrl_c_while_a_write_waits_for_another_process_leaves_no_transaction(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with HistoryStore(tmp_path / "h.db") as store:
        other = sqlite3.connect(tmp_path / "h.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(1.0, lambda: other.execute("COMMIT"))
        former = signal.signal(signal.SIGALRM, interrupt)
        try:
            release.start()
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                add(store, "interrupted")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
            release.join()
        other.execute("BEGIN IMMEDIATE")  # the store holds no lock
        other.execute("COMMIT")
        other.close()
        add(store, "later")
        assert store.list("anna")[-1].text == "later"
