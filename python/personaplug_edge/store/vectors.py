"""Rows of vectors and projections, and the running sum of each user's projections.

A space is what vectors are comparable in: an encoder (by encoder_key) or a projector (by bundle_key), with one shape
for all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personaplug_edge.errors import DimensionError
from personaplug_edge.store.arrays import DOUBLE, Double, Half, check_exact, from_halves, sum_from_blob
from personaplug_edge.store.records import History

MAX_AXIS = 1 << 20
"""No model's vectors are as wide: a larger number in the file is damage, and must not become an allocation."""


@dataclass(frozen=True)
class Space:
    """A stored space: its row, and the shape of an item's values: (d,) of an encoder, (k, H) of a bundle."""

    id: int
    shape: tuple[int, ...]


def find_space(connection: sqlite3.Connection, kind: str, key: str) -> Space | None:
    """The space of that key, if anything was ever stored in it. ``kind`` is "encoder" or "bundle"."""
    row = connection.execute('SELECT id, "rows", width FROM spaces WHERE kind = ? AND key = ?', (kind, key)).fetchone()
    if row is None:
        return None
    if not all(isinstance(number, int) and 0 < number <= MAX_AXIS for number in row[1:]):
        raise sqlite3.DatabaseError(f"malformed: the shape {row[1:]} is stored for {kind}_key {key!r}")
    return Space(row[0], (row[2],) if kind == "encoder" else (row[1], row[2]))


def use_space(connection: sqlite3.Connection, kind: str, key: str, shape: tuple[int, ...]) -> Space:
    """The space of that key, made if new; DimensionError if what is stored in it has another shape."""
    space = find_space(connection, kind, key)
    if max(shape) > MAX_AXIS:
        raise DimensionError(
            f"an item's values for {kind}_key {key!r} have the shape {shape}; the limit is {MAX_AXIS} an axis"
        )
    if space is None:
        rows, width = (1, *shape) if kind == "encoder" else shape
        cursor = connection.execute(
            'INSERT INTO spaces (kind, key, "rows", width) VALUES (?, ?, ?, ?)', (kind, key, rows, width)
        )
        return Space(int(cursor.lastrowid or 0), shape)
    if space.shape != shape:
        what = "vectors" if kind == "encoder" else "projections"
        raise DimensionError(
            f"{what} of {kind}_key {key!r} are stored with the shape {space.shape} an item, not {shape}; "
            "another model needs another key"
        )
    return space


def put_vector(connection: sqlite3.Connection, user: int, item: int, space: Space, vector: Half) -> bool:
    """Store an item's vector (d,) unless it has one in this space; True if it was stored."""
    cursor = connection.execute(
        "INSERT OR IGNORE INTO vectors (user, item, space, data) VALUES (?, ?, ?, ?)",
        (user, item, space.id, vector.tobytes()),
    )
    return cursor.rowcount > 0


def put_projections(
    connection: sqlite3.Connection, user: int, items: Sequence[int], space: Space, projections: Half, path: str
) -> list[bool]:
    """Store items' projections (n, k, H) unless they have one in this space, and add them to the user's sum."""
    stored = []
    for item, projection in zip(items, projections, strict=True):
        cursor = connection.execute(
            "INSERT OR IGNORE INTO projections (user, item, space, data) VALUES (?, ?, ?, ?)",
            (user, item, space.id, projection.tobytes()),
        )
        stored.append(cursor.rowcount > 0)
    if any(stored):
        fresh = projections[np.array(stored)].astype(np.float64)
        total, count = read_sum(connection, user, space, path)
        check_exact(np.abs(total) + np.abs(fresh).sum(axis=0))
        _write_sum(connection, user, space, total + fresh.sum(axis=0), count + len(fresh))
    return stored


def read_sum(connection: sqlite3.Connection, user: int, space: Space, path: str) -> tuple[Double, int]:
    """The sum of the user's projections in this space, float64 (k, H), and how many; zeros if none."""
    row = connection.execute(
        "SELECT data, count FROM persona_sums WHERE user = ? AND space = ?", (user, space.id)
    ).fetchone()
    if row is None:
        return np.zeros(space.shape), 0
    return sum_from_blob(row[0], space.shape, path), int(row[1])


def _write_sum(connection: sqlite3.Connection, user: int, space: Space, total: Double, count: int) -> None:
    connection.execute(
        "INSERT INTO persona_sums (user, space, count, data) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (user, space) DO UPDATE SET count = excluded.count, data = excluded.data",
        (user, space.id, count, total.astype(DOUBLE).tobytes()),
    )


def drop_vectors(connection: sqlite3.Connection, user: int, item: int, path: str) -> None:
    """Remove an item's vectors and projections in every space, and take them out of the sums. Exact: see EXACT_SUM."""
    rows = connection.execute(
        'SELECT p.data, s.id, s."rows", s.width FROM projections p JOIN spaces s ON s.id = p.space '
        "WHERE p.user = ? AND p.item = ?",
        (user, item),
    ).fetchall()
    for data, space_id, count_rows, width in rows:
        space = Space(space_id, (count_rows, width))
        total, count = read_sum(connection, user, space, path)
        removed = from_halves([data], space.shape, path)[0].astype(np.float64)
        if count > 1:
            _write_sum(connection, user, space, total - removed, count - 1)
        else:
            connection.execute("DELETE FROM persona_sums WHERE user = ? AND space = ?", (user, space_id))
    connection.execute("DELETE FROM vectors WHERE user = ? AND item = ?", (user, item))
    connection.execute("DELETE FROM projections WHERE user = ? AND item = ?", (user, item))


MATRIX_QUERY = (
    "SELECT v.item, v.data, p.data FROM vectors v CROSS JOIN projections p "
    "ON p.user = v.user AND p.item = v.item AND p.space = ? "
    "WHERE v.user = ? AND v.item > ? AND v.space = ? ORDER BY v.item"
)
"""CROSS JOIN keeps SQLite from turning the join round; both go by UNIQUE (user, item, space), nothing is sorted."""


def read_matrix(
    connection: sqlite3.Connection, user: int, encoder: Space | None, bundle: Space | None, after_id: int, path: str
) -> History:
    """The items after ``after_id`` that have both a vector and a projection in these spaces."""
    vector_shape = encoder.shape if encoder else (0,)
    projection_shape = bundle.shape if bundle else (0, 0)
    rows: list[tuple[int, bytes, bytes]] = []
    if encoder and bundle:
        rows = connection.execute(MATRIX_QUERY, (bundle.id, user, after_id, encoder.id)).fetchall()
    return History(
        np.array([row[0] for row in rows], dtype=np.int64),
        from_halves([row[1] for row in rows], vector_shape, path),
        from_halves([row[2] for row in rows], projection_shape, path),
    )
