"""Re-embedding in batches: what is missing, what may have changed meanwhile, and sums that stay right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import DimensionError
from personaplug_edge.store import HistoryStore, NewItem


def rows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, 4)), generator.standard_normal((n, 1, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "h.db"


@pytest.fixture
def store(path: Path):
    with HistoryStore(path) as opened:
        for user, count in (("anna", 300), ("ben", 5)):
            vectors, projections = rows(count, count)
            items = [NewItem(f"text {i}") for i in range(count)]
            opened.add(user, items, encoder_key="e1", vectors=vectors, bundle_key="b1", projections=projections)
        yield opened


def sum_of(store: HistoryStore, user: str, encoder: str, bundle: str) -> bool:
    projections = store.matrix(user, encoder, bundle).projections
    total, count = store.persona_sum(user, bundle)
    return count == len(projections) and bool((total == projections.astype(np.float64).sum(axis=0)).all())


def test_nothing_is_missing_where_all_is_there(store: HistoryStore) -> None:
    assert list(store.missing("e1", "b1")) == []
    assert len(list(store.missing("e1", "b2"))) == len(list(store.missing("e2", "b1"))) == 305
    assert [item.text for item in store.missing("e2", "b2", user="ben")] == [f"text {i}" for i in range(5)]


def test_batches_survive_a_stop_and_go_on_where_it_was(store: HistoryStore, path: Path) -> None:
    total = store.persona_sum("anna", "b1")[0].tobytes()
    for batch in range(2):  # 200 of 305, then the process dies
        items = [item for _, item in zip(range(100), store.missing("e2", "b2"), strict=False)]
        vectors, projections = rows(100, batch)
        assert store.put_vectors(items, "e2", vectors) == 100
        if batch == 0:  # killed between the two in the second batch
            assert store.put_projections(items, "b2", projections) == 100
    assert sum_of(store, "anna", "e2", "b2") and len(store.matrix("anna", "e2", "b2")) == 100
    with HistoryStore(path) as again:
        left = list(again.missing("e2", "b2"))
        assert len(left) == 205
        vectors, projections = rows(205, 9)
        assert again.put_vectors(left, "e2", vectors) == 105
        assert again.put_projections(left, "b2", projections) == 205
        assert list(again.missing("e2", "b2")) == []
        assert again.put_projections(left, "b2", projections) == 0
    assert sum_of(store, "anna", "e2", "b2") and sum_of(store, "ben", "e2", "b2")
    assert store.persona_sum("anna", "b1")[0].tobytes() == total


def test_new_vectors_of_old_items_are_a_rewrite(store: HistoryStore) -> None:
    before = store.revision("anna")
    items = list(store.missing("e2", "b2", user="ben"))
    store.put_vectors(items, "e2", rows(5, 1)[0])
    assert store.revision("anna") == before and store.rewritten("ben") == store.revision("ben") > before


def test_items_deleted_or_edited_meanwhile_get_no_stale_vectors(store: HistoryStore) -> None:
    items = list(store.missing("e2", "b2", user="ben"))
    store.delete_item("ben", items[0].id)
    vectors, projections = rows(1, 7)
    store.edit(
        "ben", items[1].id, NewItem("new"), encoder_key="e1", vectors=vectors, bundle_key="b1", projections=projections
    )
    assert store.put_vectors(items, "e2", rows(5, 1)[0]) == 3
    assert store.put_projections(items, "b2", rows(5, 1)[1]) == 3
    assert [item.text for item in store.missing("e2", "b2", user="ben")] == ["new"]
    assert sum_of(store, "ben", "e2", "b2") and sum_of(store, "ben", "e1", "b1")
    store.check()


def test_items_are_found_while_the_caller_fills_them(store: HistoryStore) -> None:
    seen = 0
    for item in store.missing("e2", "b2"):
        seen += store.put_vectors([item], "e2", rows(1, 1)[0]) + store.put_projections([item], "b2", rows(1, 1)[1])
    assert seen == 610 and list(store.missing("e2", "b2")) == []


def test_bad_batches_are_refused_whole(store: HistoryStore) -> None:
    items = list(store.missing("e2", "b2", user="ben"))
    for vectors in (rows(4, 1)[0], rows(5, 1)[1], np.full((5, 4), np.nan)):
        with pytest.raises(DimensionError):
            store.put_vectors(items, "e2", vectors)
    with pytest.raises(DimensionError, match="another key"):
        store.put_vectors(items, "e1", np.ones((5, 9)))
    assert len(list(store.missing("e2", "b2", user="ben"))) == 5
    assert store.put_vectors([], "e2", np.ones((0, 4))) == 0
