"""One SQLite connection behind a lock: opened with care, reopened after a fork, every use a transaction.

One connection a store is enough: SQLite serializes writers anyway, and reads take milliseconds. It makes a store safe
to share between threads; several processes each open their own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from personaplug_edge.errors import StoreError
from personaplug_edge.store.failures import store_error, translated
from personaplug_edge.store.migrations import MIGRATIONS, READABLE_FROM, file_version, migrate
from personaplug_edge.store.paths import check_path, log_is_empty

MEMORY = ":memory:"

_reopening = threading.Lock()
"""Held while a store is opened again in a child process, whose threads may all come at once."""

_inherited: list[sqlite3.Connection] = []
"""Connections of a parent process: kept, not closed, as SQLite forbids using one across a fork, closing included."""


def _renew_lock() -> None:
    global _reopening
    _reopening = threading.Lock()  # a thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _contains(text: str, folded: str) -> bool:
    return folded in _fold(text)


class Database:
    """The connection to one file (or ``":memory:"``), which ``timeout`` seconds at most waits for other processes."""

    def __init__(self, path: str | Path, *, read_only: bool, timeout: float) -> None:
        self.path = str(path)
        self.in_memory = self.path == MEMORY
        self.read_only = read_only
        self.timeout = timeout
        self._file: Path | None = None  # absolute, found at the first opening: the same after a chdir
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = self._open()

    # -- opening

    def _open(self) -> sqlite3.Connection:
        with translated(self.path):
            try:
                if self.in_memory:
                    return self._prepare(sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False))
                self._file = path = self._file or Path(os.path.abspath(self.path))
                check_path(path, self.read_only)
                if not self.read_only:
                    # A history is personal data: the owner's alone. SQLite gives -wal and -shm the same mode.
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                return self._connect(path)
            except ValueError as error:  # a NUL in the path
                raise store_error(self.path, error) from error

    def _connect(self, path: Path) -> sqlite3.Connection:
        modes = ("mode=ro", "mode=ro&immutable=1") if self.read_only else ("mode=rw",)
        for attempt, mode in enumerate(modes, start=1):
            connection = sqlite3.connect(
                f"{path.as_uri()}?{mode}", uri=True, timeout=self.timeout, isolation_level=None, check_same_thread=False
            )
            try:
                return self._prepare(connection)
            except sqlite3.OperationalError:
                connection.close()
                # In a folder that cannot be written SQLite cannot make the -shm file that a write-ahead log needs.
                # Without a log the file alone is the whole store and can be read as it is.
                if attempt == len(modes) or not log_is_empty(path):
                    raise
            except BaseException:
                connection.close()
                raise
        raise AssertionError("unreachable: the last mode returns or raises")

    def _prepare(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        version = file_version(connection, self.path, len(MIGRATIONS))  # before anything is written: it may not be ours
        if self.read_only:
            if version < READABLE_FROM:
                raise StoreError(
                    f"history store {self.path} has version {version}, older than {READABLE_FROM}; "
                    "open it once without read_only to bring it up to date"
                )
            connection.execute("PRAGMA query_only = ON")
        else:
            self._use_write_ahead_log(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, self.path, MIGRATIONS)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.create_function("contains_folded", 2, _contains, deterministic=True)
        return connection

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Changing the journal mode does not wait for locks as other statements do, so wait here."""
        end = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= end:
                    raise
            time.sleep(0.02)

    def is_own(self, path: str | Path) -> bool:
        """Whether a path names this file, or one that SQLite keeps beside it."""
        if self._file is None:
            return False
        own = [f"{self._file}{end}" for end in ("", "-wal", "-shm", "-journal")]
        with suppress(OSError):
            if os.path.samefile(path, self._file):
                return True
        return os.path.realpath(path) in map(os.path.realpath, own)

    # -- use

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone and outside any transaction."""
        if self._pid != os.getpid():
            self._after_fork()
        with self._lock, translated(self.path):
            if self._connection is None:
                raise StoreError(f"history store {self.path} is closed; open it again")
            yield self._connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that reads: all its statements see the same state."""
        with self.connection() as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes: all of it is stored when the block ends, or nothing when it raises."""
        if self.read_only:
            raise StoreError(f"history store {self.path} was opened with read_only=True; open it without to change it")
        with self.connection() as connection, _transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    def close(self) -> None:
        """Close the connection; closing twice is no error."""
        if self._pid != os.getpid():
            self._after_fork(reopen=False)
        with self._lock, translated(self.path):
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _after_fork(self, *, reopen: bool = True) -> None:
        """In a child process: a new connection, and a new lock, as a thread of the parent may have held the old one."""
        with _reopening:
            if self._pid == os.getpid():
                return  # another thread was here first
            fresh = None
            if self._connection is not None:
                if self.in_memory and reopen:
                    raise StoreError("a history store in memory cannot be used in a forked process; use a file")
                fresh = self._open() if reopen else None
                _inherited.append(self._connection)
            self._connection, self._lock = fresh, threading.RLock()
            self._pid = os.getpid()  # last: from here on others use what was opened


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    try:
        connection.execute(begin)  # inside: Ctrl-C may come when it has begun, after a wait for another process
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back after some errors, such as a full disk
            connection.execute("ROLLBACK")
        raise


def folded(text: str) -> str:
    """The text as searches compare it: composed (NFC), without case."""
    return _fold(text)
