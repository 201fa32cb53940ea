"""The persona sum: exact, so that order does not matter and deleting undoes adding bit for bit."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import DimensionError
from personaplug_edge.store import HistoryStore, NewItem

K, H = 2, 16


def halves(n: int, seed: int) -> np.ndarray:
    """Float16 values of every magnitude, subnormal ones and the largest among them: any bit pattern that is finite."""
    patterns = np.random.default_rng(seed).integers(0, 1 << 16, (n, K, H)).astype(np.uint16)
    values = patterns.view(np.float16)
    return np.where(np.isfinite(values), values, np.float16(0)).astype(np.float32)


def add(store: HistoryStore, user: str, names: list[int], projections: np.ndarray) -> list[int]:
    items = [NewItem(f"text {name}") for name in names]
    vectors = np.ones((len(items), 3))
    return store.add(user, items, encoder_key="e", vectors=vectors, bundle_key="b", projections=projections).ids


def bits(store: HistoryStore, user: str) -> tuple[bytes, int]:
    total, count = store.persona_sum(user, "b")
    assert total.dtype == np.float64 and total.shape == (K, H)
    return total.tobytes(), count


@pytest.fixture
def store():
    with HistoryStore(":memory:") as opened:
        yield opened


def test_the_order_of_adding_does_not_matter(store: HistoryStore) -> None:
    projections = halves(200, 1)
    for user, order in (("a", np.arange(200)), ("b", np.random.default_rng(2).permutation(200))):
        for start in range(0, 200, 23 if user == "a" else 7):
            part = order[start : start + (23 if user == "a" else 7)]
            add(store, user, part.tolist(), projections[part])
    assert bits(store, "a") == bits(store, "b")


def test_deleting_restores_the_former_sum_bit_for_bit(store: HistoryStore) -> None:
    projections = halves(60, 3)
    kept = add(store, "anna", list(range(20)), projections[:20])
    before = bits(store, "anna")
    added = add(store, "anna", list(range(20, 60)), projections[20:])
    assert bits(store, "anna") != before
    for item_id in np.random.default_rng(4).permutation(added).tolist():
        store.delete_item("anna", item_id)
    assert bits(store, "anna") == before
    for item_id in kept:
        store.delete_item("anna", item_id)
    assert bits(store, "anna") == (np.zeros((K, H)).tobytes(), 0)


def test_editing_there_and_back_restores_the_sum(store: HistoryStore) -> None:
    projections = halves(3, 5)
    ids = add(store, "anna", [0, 1], projections[:2])
    before = bits(store, "anna")
    for text, row in (("new", projections[2:]), ("text 1", projections[1:2])):
        store.edit(
            "anna", ids[1], NewItem(text), encoder_key="e", vectors=np.ones((1, 3)), bundle_key="b", projections=row
        )
    assert bits(store, "anna") == before


def test_sums_that_would_be_rounded_are_refused(store: HistoryStore) -> None:
    largest = np.full((8191, K, H), 65504.0, dtype=np.float16)
    add(store, "anna", list(range(8191)), largest)
    before = bits(store, "anna")
    with pytest.raises(DimensionError, match="exact"):
        add(store, "anna", [8191, 8192, 8193, 8194, 8195, 8196], largest[:6])
    assert bits(store, "anna") == before and store.count("anna") == 8191


def test_adding_does_not_depend_on_the_length_of_the_history(tmp_path: Path) -> None:
    """SQLite's virtual machine counts its own steps: adding to 5 items and to 2,000 takes the same."""
    steps = []
    with HistoryStore(tmp_path / "h.db") as store:
        connection: sqlite3.Connection = store._database._connection  # type: ignore[assignment]
        for start, length in ((0, 5), (10, 2000)):
            add(store, "anna", list(range(start, start + length)), halves(length, 6))
            count = [0]

            def tick(count: list[int] = count) -> int:
                count[0] += 1
                return 0

            connection.set_progress_handler(tick, 1)
            add(store, "anna", [10_000 + start], halves(1, 7))
            connection.set_progress_handler(None, 1)
            steps.append(count[0])
    assert steps[0] > 50 and abs(steps[1] - steps[0]) <= 5


def test_reading_uses_indexes_and_sorts_nothing(tmp_path: Path) -> None:
    from personaplug_edge.store.items import COLUMNS, FROM
    from personaplug_edge.store.vectors import MATRIX_QUERY

    HistoryStore(tmp_path / "h.db").close()
    connection = sqlite3.connect(tmp_path / "h.db")
    page = f"SELECT {COLUMNS} {FROM} WHERE u.id = ? ORDER BY i.id DESC LIMIT ? OFFSET ?"
    for query, values in ((MATRIX_QUERY, (1, 1, 0, 1)), (page, ("anna", 10, 0))):
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query, values)]
        assert plan and not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step]
    connection.close()
