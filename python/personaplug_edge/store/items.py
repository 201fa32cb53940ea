"""Rows of users and items: numbers, revisions, insertion, look-up."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator

from personaplug_edge.errors import TextError, UnknownItemError
from personaplug_edge.store.checks import digest
from personaplug_edge.store.prefixes import drop_prefixes
from personaplug_edge.store.records import Item, NewItem

COLUMNS = "i.id, u.id, i.text, i.output, i.time, i.source, i.created, i.digest"
COLUMN_TYPES: tuple[type | tuple[type, ...], ...] = (int, str, str, str, (float, type(None)), str, float, bytes)
FROM = "FROM items i JOIN users u ON u.number = i.user"


def read_item(row: tuple[int, str, str, str, float | None, str, float, bytes]) -> Item:
    """An Item from a row of COLUMNS. SQLite does not hold columns to their types: a damaged file may give any."""
    if not all(isinstance(value, kind) for value, kind in zip(row, COLUMN_TYPES, strict=True)):
        raise sqlite3.DatabaseError(f"malformed: columns of other types in the item {row[0]!r}")
    return Item(*row[:7], row[7].hex())


def user_number(connection: sqlite3.Connection, user: str) -> int | None:
    """The number that rows of this user carry; a user who is erased and comes again gets another."""
    row = connection.execute("SELECT number FROM users WHERE id = ?", (user,)).fetchone()
    return None if row is None else int(row[0])


def make_user(connection: sqlite3.Connection, user: str) -> int:
    """The number of the user, who is made if not stored yet."""
    number = user_number(connection, user)
    if number is None:
        # Whoever is added anew may have been erased: what was made from the former history must look too old.
        cursor = connection.execute(
            "INSERT INTO users (id, revision, rewritten, created) SELECT ?, value, value, ? FROM counters "
            "WHERE name = 'revision'",
            (user, time.time()),
        )
        number = int(cursor.lastrowid or 0)
    return number


def next_revision(connection: sqlite3.Connection) -> int:
    """A number never given before: one counter for all users, which outlives them."""
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'revision'")
    return int(connection.execute("SELECT value FROM counters WHERE name = 'revision'").fetchone()[0])


def mark_changed(connection: sqlite3.Connection, number: int, *, appended: bool) -> None:
    """Give the user a new revision; unless items were only appended, it is also the revision of the last rewrite.

    What was computed from the former history goes with it.
    """
    drop_prefixes(connection, number)
    column = "revision = ?1" if appended else "revision = ?1, rewritten = ?1"
    connection.execute(f"UPDATE users SET {column} WHERE number = ?2", (next_revision(connection), number))


def find_duplicate(connection: sqlite3.Connection, number: int, content: bytes) -> int | None:
    """The id of the user's item with this digest."""
    row = connection.execute("SELECT id FROM items WHERE user = ? AND digest = ?", (number, content)).fetchone()
    return None if row is None else int(row[0])


def insert_item(connection: sqlite3.Connection, number: int, item: NewItem) -> tuple[int, bool]:
    """The item's id, and whether it is new."""
    content = digest(item)
    duplicate = find_duplicate(connection, number, content)
    if duplicate is not None:
        return duplicate, False
    cursor = connection.execute(
        "INSERT INTO items (user, text, output, time, source, created, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, item.text, item.output, _seconds(item), item.source, time.time(), content),
    )
    return int(cursor.lastrowid or 0), True


def replace_item(connection: sqlite3.Connection, user: str, number: int, item_id: int, item: NewItem) -> None:
    """Give an item other content; TextError if the user has that content as another item."""
    content = digest(item)
    duplicate = find_duplicate(connection, number, content)
    if duplicate not in (None, item_id):
        raise TextError(
            f"user {user!r} has this text and output already as item {duplicate}; delete one of the two instead"
        )
    connection.execute(
        "UPDATE items SET text = ?, output = ?, time = ?, source = ?, created = ?, digest = ? WHERE id = ?",
        (item.text, item.output, _seconds(item), item.source, time.time(), content, item_id),
    )


def _seconds(item: NewItem) -> float | None:
    return None if item.time is None else float(item.time)  # SQLite's whole numbers end at 2**63


def require_item(connection: sqlite3.Connection, user: str, item_id: int) -> int:
    """The user's number if the item is theirs; otherwise UnknownItemError."""
    row = connection.execute(f"SELECT i.user {FROM} WHERE i.id = ? AND u.id = ?", (item_id, user)).fetchone()
    if row is None:
        raise UnknownItemError(f"user {user!r} has no history item {item_id}; list the history for the ids")
    return int(row[0])


def select_items(
    connection: sqlite3.Connection, condition: str, values: Iterable[object], tail: str = ""
) -> Iterator[Item]:
    """Items that meet an SQL condition over ``i`` (items) and ``u`` (users)."""
    rows = connection.execute(f"SELECT {COLUMNS} {FROM} WHERE {condition} {tail}", tuple(values))
    return map(read_item, rows)
