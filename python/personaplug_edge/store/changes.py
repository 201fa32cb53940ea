"""Adding, editing and re-embedding items, each inside a transaction that the caller has opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from personaplug_edge.store.arrays import Floating, Half, to_half
from personaplug_edge.store.items import (
    insert_item,
    make_user,
    mark_changed,
    replace_item,
    require_item,
)
from personaplug_edge.store.records import Added, Item, NewItem
from personaplug_edge.store.summaries import drop_summaries
from personaplug_edge.store.vectors import drop_vectors, put_projections, put_vector, use_space


def add_items(
    connection: sqlite3.Connection,
    user: str,
    items: Sequence[NewItem],
    encoder_key: str,
    vectors: Floating,
    bundle_key: str,
    projections: Floating,
    path: str,
) -> Added:
    """Store items with vectors (n, d) and projections (n, k, H); rows of duplicates are not read."""
    number = make_user(connection, user)
    inserted = [insert_item(connection, number, item) for item in items]
    added = Added([item_id for item_id, _ in inserted], [is_new for _, is_new in inserted])
    encoder = use_space(connection, "encoder", encoder_key, vectors.shape[1:])
    bundle = use_space(connection, "bundle", bundle_key, projections.shape[1:])
    if any(added.new):
        new = np.array(added.new)
        ids = [item_id for item_id, is_new in inserted if is_new]
        for item_id, vector in zip(ids, to_half(vectors[new], "vectors"), strict=True):
            put_vector(connection, number, item_id, encoder, vector)
        put_projections(connection, number, ids, bundle, to_half(projections[new], "projections"), path)
        mark_changed(connection, number, appended=True)
    return added


def digest_of(connection: sqlite3.Connection, user: str, item_id: int) -> str:
    """The digest of an item's content. Raises UnknownItemError."""
    require_item(connection, user, item_id)
    return bytes(connection.execute("SELECT digest FROM items WHERE id = ?", (item_id,)).fetchone()[0]).hex()


def edit_item(
    connection: sqlite3.Connection,
    user: str,
    item_id: int,
    item: NewItem,
    encoder_key: str,
    vectors: Half,
    bundle_key: str,
    projections: Half,
    path: str,
) -> None:
    """Replace an item's content, vector (1, d) and projection (1, k, H); those of other keys are dropped as stale."""
    number = require_item(connection, user, item_id)
    replace_item(connection, user, number, item_id, item)
    drop_summaries(connection, number)
    drop_vectors(connection, number, item_id, path)
    encoder = use_space(connection, "encoder", encoder_key, vectors.shape[1:])
    bundle = use_space(connection, "bundle", bundle_key, projections.shape[1:])
    put_vector(connection, number, item_id, encoder, vectors[0])
    put_projections(connection, number, [item_id], bundle, projections, path)
    mark_changed(connection, number, appended=False)


def fill_vectors(connection: sqlite3.Connection, items: Sequence[Item], encoder_key: str, vectors: Half) -> int:
    """Store vectors (n, d) of stored items; returns how many were stored. See ``_current`` for those left out."""
    encoder = use_space(connection, "encoder", encoder_key, vectors.shape[1:])
    stored = 0
    for number, positions in _current(connection, items).items():
        put = [put_vector(connection, number, items[i].id, encoder, vectors[i]) for i in positions]
        stored += sum(put)
        if any(put):
            mark_changed(connection, number, appended=False)
    return stored


def fill_projections(
    connection: sqlite3.Connection, items: Sequence[Item], bundle_key: str, projections: Half, path: str
) -> int:
    """Store projections (n, k, H) of stored items, and add them to their users' sums; returns how many were stored."""
    bundle = use_space(connection, "bundle", bundle_key, projections.shape[1:])
    stored = 0
    for number, positions in _current(connection, items).items():
        ids = [items[i].id for i in positions]
        put = put_projections(connection, number, ids, bundle, projections[np.array(positions)], path)
        stored += sum(put)
        if any(put):
            mark_changed(connection, number, appended=False)
    return stored


def _current(connection: sqlite3.Connection, items: Sequence[Item]) -> dict[int, list[int]]:
    """User number -> positions of the items that are still stored with the content that the vectors were made from.

    Items may have been deleted or edited while the caller was encoding them.
    """
    positions: dict[int, list[int]] = {}
    for position, item in enumerate(items):
        row = connection.execute("SELECT user, digest FROM items WHERE id = ?", (item.id,)).fetchone()
        if row is not None and bytes(row[1]).hex() == item.digest:
            positions.setdefault(int(row[0]), []).append(position)
    return positions
