"""Deleting so that the bytes are gone: from the tables, from the file, and from the write-ahead log.

``secure_delete`` overwrites freed cells with zeros, but SQLite's b-trees leave copies of cells in the unused middle of
pages that they have rearranged, and the log keeps old pages until it is emptied. VACUUM writes every page anew, and a
truncating checkpoint empties the log. Both take time in the size of the file; two counters in the file, of
deletions and of how many of these are purged, remember that they are due, so that a purge that was cut short is done
when the store is opened next. Neither is ever set back: purges of several processes may overlap.
"""

from __future__ import annotations

import sqlite3
import time

from personaplug_edge.errors import StoreError
from personaplug_edge.store.connection import Database
from personaplug_edge.store.items import next_revision
from personaplug_edge.store.summaries import drop_summaries
from personaplug_edge.store.vectors import drop_vectors


def remove_user(connection: sqlite3.Connection, number: int) -> None:
    """Delete the user's rows; items, vectors, projections and sums go by the foreign keys."""
    connection.execute("DELETE FROM users WHERE number = ?", (number,))
    next_revision(connection)
    mark_purge_due(connection)


def remove_item(connection: sqlite3.Connection, number: int, item_id: int, path: str) -> None:
    """Delete one item's rows and take its projections out of the sums."""
    drop_vectors(connection, number, item_id, path)
    connection.execute("DELETE FROM items WHERE id = ?", (item_id,))
    drop_summaries(connection, number)
    mark_purge_due(connection)


def mark_purge_due(connection: sqlite3.Connection) -> None:
    """Remember, in the transaction that deletes, that its bytes have still to go."""
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'deleted'")


def purge(database: Database) -> bool:
    """Remove the bytes of everything deleted so far from the file and its log; False if nothing was due.

    StoreError if another process reads the store all the while, or the disk has no room for VACUUM's copy: the rows are
    deleted all the same, and the purge stays due.
    """
    with database.connection() as connection:
        deleted = _deletions_to_purge(connection)
        if deleted is None:
            return False
        try:
            if not database.in_memory:
                connection.execute("VACUUM")
                _empty_log(connection)
        except sqlite3.Error as error:
            raise StoreError(
                f"history store {database.path}: what was deleted is gone from the store, but its bytes are still in "
                f"the file ({error}); end the other readers or free some space, then call purge()"
            ) from error
    with database.write() as connection:
        connection.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'purged'", (deleted,))
    return True


def purge_left_over(database: Database) -> None:
    """On opening: finish a purge that was cut short, but wait for nobody; a failure leaves it due."""
    with database.connection() as connection:
        if _deletions_to_purge(connection) is None:
            return
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            purge(database)
        except StoreError:
            pass  # due still: the next purge or the next opening does it
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(database.timeout * 1000)}")


def _deletions_to_purge(connection: sqlite3.Connection) -> int | None:
    """The number of deletions so far, None if all of them are purged."""
    counters = dict(
        connection.execute("SELECT name, value FROM counters WHERE name IN ('deleted', 'purged')").fetchall()
    )
    return int(counters.get("deleted", 0)) if counters.get("deleted", 0) > counters.get("purged", 0) else None


def _empty_log(connection: sqlite3.Connection) -> None:
    # Where another process is at the same, SQLite gives up at once instead of after the busy timeout.
    until = time.monotonic() + connection.execute("PRAGMA busy_timeout").fetchone()[0] / 1000
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() >= until:
            raise sqlite3.OperationalError("database is locked: another process is reading it")
        time.sleep(0.01)
