"""Reading histories: pages, searches, and walks over everything that hold no lock between batches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from personaplug_edge.errors import StoreError, TextError, UnknownItemError
from personaplug_edge.store.checks import digest
from personaplug_edge.store.connection import Database, folded
from personaplug_edge.store.items import find_duplicate, select_items, user_number
from personaplug_edge.store.records import Item, NewItem
from personaplug_edge.texts import check_unicode

BATCH = 256
"""Items read at a time: one transaction for a whole walk would keep the log from being emptied, and a statement takes
a limited number of values."""

MOST = (1 << 63) - 1
"""The largest whole number that SQLite takes."""


def known_items(connection: sqlite3.Connection, user: str, items: Sequence[NewItem]) -> list[int | None]:
    """For each item the id of the user's item with this text and output, or None."""
    number = user_number(connection, user)
    if number is None:
        return [None] * len(items)
    return [find_duplicate(connection, number, digest(item)) for item in items]


def items_by_id(connection: sqlite3.Connection, user: str, ids: Sequence[int]) -> list[Item]:
    """The user's items of these ids, in the order given."""
    found: dict[int, Item] = {}
    for start in range(0, len(ids), BATCH):
        some = ids[start : start + BATCH]
        condition = f"i.id IN ({', '.join('?' * len(some))}) AND u.id = ?"
        found |= {item.id: item for item in select_items(connection, condition, (*some, user))}
    for item_id in ids:
        if item_id not in found:
            raise UnknownItemError(f"user {user!r} has no history item {item_id}; list the history for the ids")
    return [found[item_id] for item_id in ids]


def user_items(
    connection: sqlite3.Connection, user: str, limit: int | None, offset: int, newest_first: bool
) -> list[Item]:
    """A page of the user's history."""
    if (limit is not None and limit < 0) or offset < 0:
        raise StoreError(f"limit and offset must not be negative; they are {limit} and {offset}")
    return list(
        select_items(
            connection, "u.id = ?", (user, _limit(limit), min(offset, MOST)), _order(newest_first) + " OFFSET ?"
        )
    )


def matching_items(
    connection: sqlite3.Connection, user: str, text: str, limit: int | None, newest_first: bool
) -> list[Item]:
    """The user's items that contain the text. No full-text index: its shadow tables would keep deleted words."""
    needle = folded(check_unicode(text, "the text to search for"))
    if not needle:
        raise TextError("the text to search for is empty; list() gives the whole history")
    if limit is not None and limit < 0:
        raise StoreError(f"limit must not be negative; it is {limit}")
    condition = "u.id = ? AND (contains_folded(i.text, ?) OR contains_folded(i.output, ?))"
    return list(select_items(connection, condition, (user, needle, needle, _limit(limit)), _order(newest_first)))


def _limit(limit: int | None) -> int:
    return -1 if limit is None else min(limit, MOST)  # SQLite: negative is no limit


def _order(newest_first: bool) -> str:
    return f"ORDER BY i.id {'DESC' if newest_first else 'ASC'} LIMIT ?"


def count_items(connection: sqlite3.Connection, user: str) -> int:
    """How many items the user has."""
    query = "SELECT count(*) FROM items WHERE user = (SELECT number FROM users WHERE id = ?)"
    return int(connection.execute(query, (user,)).fetchone()[0])


def revision(connection: sqlite3.Connection, user: str, column: str) -> int:
    """The user's ``revision`` or ``rewritten``; of a user who is not stored the newest revision of all.

    That one is above all that the user ever had, so that a cache which compares by "newer than" also sees an erasure.
    """
    row = connection.execute(f"SELECT {column} FROM users WHERE id = ?", (user,)).fetchone()
    if row is None:
        row = connection.execute("SELECT value FROM counters WHERE name = 'revision'").fetchone()
    return int(row[0])


def stored_items(database: Database, user: str | None) -> Iterator[Item]:
    """All items of a user, or of all users, in the order of ids, a batch at a time."""
    return _walk(database, user, "1", ())


def missing_items(database: Database, encoder_key: str, bundle_key: str, user: str | None) -> Iterator[Item]:
    """The items without a vector of this encoder or without a projection of this bundle, a batch at a time."""
    lacks = " OR ".join(
        f"NOT EXISTS (SELECT 1 FROM {table} v WHERE v.user = i.user AND v.item = i.id "
        f"AND v.space = (SELECT id FROM spaces WHERE kind = '{kind}' AND key = ?))"
        for table, kind in (("vectors", "encoder"), ("projections", "bundle"))
    )
    return _walk(database, user, f"({lacks})", (encoder_key, bundle_key))


def _walk(database: Database, user: str | None, condition: str, values: Sequence[str]) -> Iterator[Item]:
    last = 0
    owner, owners = ("u.id = ? AND ", (user,)) if user is not None else ("", ())
    while True:
        with database.read() as connection:
            batch = list(
                select_items(
                    connection,
                    f"{owner}i.id > ? AND {condition}",
                    (*owners, last, *values),
                    f"ORDER BY i.id LIMIT {BATCH}",
                )
            )
        yield from batch
        if len(batch) < BATCH:
            return
        last = batch[-1].id


def problems(connection: sqlite3.Connection) -> list[str]:
    """What is wrong with the file, at most five faults of structure; empty when it is whole."""
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    return found + [f"row without its parent: {tuple(row)}" for row in connection.execute("PRAGMA foreign_key_check")]
