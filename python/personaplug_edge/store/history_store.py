"""HistoryStore: the class of the store that others meet. It checks, opens a transaction, and hands on to the parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike

from personaplug_edge.errors import StoreError, UnknownUserError
from personaplug_edge.store import changes, erase, jsonl, queries
from personaplug_edge.store.arrays import Double, to_half, to_rows
from personaplug_edge.store.checks import check_item, check_item_id, check_key, check_user
from personaplug_edge.store.connection import Database
from personaplug_edge.store.derived import Derived
from personaplug_edge.store.items import mark_changed, require_item, user_number
from personaplug_edge.store.records import Added, History, Item, ItemList, KnownList, NameList, NewItem
from personaplug_edge.store.vectors import find_space, read_matrix, read_sum


class HistoryStore(Derived):
    """All users' histories in one SQLite file, or in memory (``":memory:"``).

    An item is stored whole or not at all, and what a method has returned from survives a crash. The object may be
    shared between threads and used after a fork; other processes may open the same file at the same time. ``timeout``
    is how many seconds to wait for them. Raises StoreError when the file cannot be used, StoreVersionError when it is
    from a newer version.

    Reading about a user who is not stored is no error: such a user has an empty history.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False, timeout: float = 10.0) -> None:
        self._database = Database(path, read_only=read_only, timeout=timeout)
        if not read_only:
            try:
                erase.purge_left_over(self._database)
            except BaseException:
                self._database.close()
                raise

    @property
    def path(self) -> str:
        """The path that the store was opened with."""
        return self._database.path

    @property
    def read_only(self) -> bool:
        """Whether the store was opened for reading alone."""
        return self._database.read_only

    def close(self) -> None:
        """Close the file; closing twice is no error, using the store afterwards is a StoreError."""
        self._database.close()

    def __enter__(self) -> HistoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- adding and changing

    def add(
        self,
        user: str,
        items: Iterable[NewItem],
        *,
        encoder_key: str,
        vectors: ArrayLike,
        bundle_key: str,
        projections: ArrayLike,
    ) -> Added:
        """Store history items with their vectors (n, d) and projections (n, k, H), as float16, in one transaction.

        An item that the user has already (same text, same output) is not stored again. Its rows are not read, so that
        callers need not encode what is ``known``: give NaN for them, which is refused should the item have been deleted
        meanwhile. No items: nothing happens, the user is not made. The work does not depend on the history's length.
        Raises TextError, DimensionError, StoreError; then nothing of the call is stored.
        """
        check_user(user)
        checked = [check_item(item) for item in items]
        encoder_key, bundle_key = check_key(encoder_key, "encoder_key"), check_key(bundle_key, "bundle_key")
        if not checked:
            return Added([], [])
        rows = to_rows(vectors, len(checked), 2, "vectors")
        projected = to_rows(projections, len(checked), 3, "projections")
        with self._database.write() as connection:
            return changes.add_items(connection, user, checked, encoder_key, rows, bundle_key, projected, self.path)

    def edit(
        self,
        user: str,
        item_id: int,
        item: NewItem,
        *,
        encoder_key: str,
        vectors: ArrayLike,
        bundle_key: str,
        projections: ArrayLike,
        based_on: str | None = None,
        purge: bool = True,
    ) -> Item | None:
        """Replace an item's content, vector (1, d) and projection (1, k, H) in one transaction; it keeps its id.

        ``based_on``: the digest of the content that the new one was made from; None, and nothing is changed, when the
        item has another by now. Vectors of other keys are dropped, as they were made from the former text, whose bytes
        are purged (see ``purge``). Raises UnknownItemError, TextError (also when another item of the user has that
        content), DimensionError, StoreError.
        """
        check_item(item)
        item_id = check_item_id(check_user(user), item_id)
        encoder_key, bundle_key = check_key(encoder_key, "encoder_key"), check_key(bundle_key, "bundle_key")
        half = to_half(to_rows(vectors, 1, 2, "vectors"), "vectors")
        projected = to_half(to_rows(projections, 1, 3, "projections"), "projections")
        with self._database.write() as connection:
            if based_on is not None and changes.digest_of(connection, user, item_id) != based_on:
                return None
            changes.edit_item(connection, user, item_id, item, encoder_key, half, bundle_key, projected, self.path)
            erase.mark_purge_due(connection)
            edited = queries.items_by_id(connection, user, [item_id])[0]
        if purge:
            self.purge()
        return edited

    def put_vectors(self, items: Sequence[Item], encoder_key: str, vectors: ArrayLike) -> int:
        """Store vectors (n, d) of items from ``missing``, in one transaction; returns how many were stored.

        Left out: items that have one already, and items that were deleted or edited since they were read.
        """
        encoder_key = check_key(encoder_key, "encoder_key")
        if not items:
            return 0
        half = to_half(to_rows(vectors, len(items), 2, "vectors"), "vectors")
        with self._database.write() as connection:
            return changes.fill_vectors(connection, items, encoder_key, half)

    def put_projections(self, items: Sequence[Item], bundle_key: str, projections: ArrayLike) -> int:
        """Store projections (n, k, H) as ``put_vectors`` does vectors; the users' persona sums follow."""
        bundle_key = check_key(bundle_key, "bundle_key")
        if not items:
            return 0
        half = to_half(to_rows(projections, len(items), 3, "projections"), "projections")
        with self._database.write() as connection:
            return changes.fill_projections(connection, items, bundle_key, half, self.path)

    # -- deleting

    def delete_item(self, user: str, item_id: int, *, purge: bool = True) -> None:
        """Delete an item with its vectors and projections, and purge its bytes. Raises UnknownItemError, StoreError."""
        item_id = check_item_id(check_user(user), item_id)
        with self._database.write() as connection:
            number = require_item(connection, user, item_id)
            erase.remove_item(connection, number, item_id, self.path)
            mark_changed(connection, number, appended=False)
        if purge:
            self.purge()

    def delete_user(self, user: str, *, purge: bool = True) -> None:
        """Erase a user: all rows, and their bytes in the file. Raises UnknownUserError, StoreError."""
        check_user(user)
        with self._database.write() as connection:
            number = user_number(connection, user)
            if number is None:
                raise UnknownUserError(f"no user {user!r} is stored; users() lists them")
            erase.remove_user(connection, number)
        if purge:
            self.purge()

    def purge(self) -> bool:
        """Remove the bytes of all that was deleted or edited from the file and its log; True if something was due.

        It takes time and free disk space in the size of the file: pass ``purge=False`` to many deletions in a row, then
        call this once. What is due stays noted in the file, and is done at the latest when the store is next opened for
        writing. Raises StoreError when another process reads all the while, or the disk is full; the purge then stays
        due.
        """
        return erase.purge(self._database)

    # -- reading

    def known(self, user: str, items: Iterable[NewItem]) -> KnownList:
        """For each item the id of the one that the user has already (same text, same output), or None: what is known
        need not be encoded."""
        check_user(user)
        checked = [check_item(item) for item in items]
        with self._database.read() as connection:
            return queries.known_items(connection, user, checked)

    def item(self, user: str, item_id: int) -> Item:
        """One item of the user; UnknownItemError if there is none of that id."""
        item_id = check_item_id(check_user(user), item_id)
        with self._database.read() as connection:
            return queries.items_by_id(connection, user, [item_id])[0]

    def items(self, user: str, ids: Iterable[int]) -> ItemList:
        """The items of these ids in the order given; UnknownItemError if the user lacks one of them."""
        wanted = [check_item_id(check_user(user), item_id) for item_id in ids]
        with self._database.read() as connection:
            return queries.items_by_id(connection, user, wanted)

    def list(self, user: str, *, limit: int | None = None, offset: int = 0, newest_first: bool = False) -> ItemList:
        """The user's items as they were added, or in reverse; at most ``limit``, the first ``offset`` left out."""
        check_user(user)
        with self._database.read() as connection:
            return queries.user_items(connection, user, limit, offset, newest_first)

    def search(self, user: str, text: str, *, limit: int | None = None, newest_first: bool = False) -> ItemList:
        """The user's items whose text or output contains ``text``, whatever the case (Unicode case folding)."""
        check_user(user)
        with self._database.read() as connection:
            return queries.matching_items(connection, user, text, limit, newest_first)

    def users(self) -> NameList:
        """The ids of all users, sorted."""
        with self._database.read() as connection:
            return [str(row[0]) for row in connection.execute("SELECT id FROM users ORDER BY id")]

    def count(self, user: str) -> int:
        """How many items the user has."""
        with self._database.read() as connection:
            return queries.count_items(connection, check_user(user))

    def revision(self, user: str) -> int:
        """A number that grows with every change to the user's history, by any process, and is never used again.

        Also not after the user is erased and added anew; of a user who is not stored it is the newest of all users.
        """
        with self._database.read() as connection:
            return queries.revision(connection, check_user(user), "revision")

    def rewritten(self, user: str) -> int:
        """The revision of the last change that was not just items added: edit, deletion, re-embedding, erasure.

        A cache that was filled at revision r, with ``rewritten(user) <= r``, need only load what comes after its last
        id.
        """
        with self._database.read() as connection:
            return queries.revision(connection, check_user(user), "rewritten")

    def matrix(self, user: str, encoder_key: str, bundle_key: str, *, after_id: int = 0) -> History:
        """The user's vectors and projections in the order of item ids, those after ``after_id``.

        Items that lack one of the two are left out; ``missing`` finds them.
        """
        check_user(user)
        with self._database.read() as connection:
            encoder = find_space(connection, "encoder", check_key(encoder_key, "encoder_key"))
            bundle = find_space(connection, "bundle", check_key(bundle_key, "bundle_key"))
            number = user_number(connection, user)
            return read_matrix(connection, -1 if number is None else number, encoder, bundle, after_id, self.path)

    def persona_sum(self, user: str, bundle_key: str) -> tuple[Double, int]:
        """The exact sum of the user's projections, float64 (k, H), and how many they are; it is kept, not computed.

        Without any: zeros and 0; of a bundle that nothing was ever stored for, the shape is (0, 0).
        """
        check_user(user)
        with self._database.read() as connection:
            bundle = find_space(connection, "bundle", check_key(bundle_key, "bundle_key"))
            number = user_number(connection, user)
            if bundle is None:
                return np.zeros((0, 0)), 0
            return read_sum(connection, -1 if number is None else number, bundle, self.path)

    def missing(self, encoder_key: str, bundle_key: str, *, user: str | None = None) -> Iterator[Item]:
        """Items that lack a vector or a projection of these keys, by id; no lock is held between batches."""
        if user is not None:
            check_user(user)
        keys = check_key(encoder_key, "encoder_key"), check_key(bundle_key, "bundle_key")
        return queries.missing_items(self._database, *keys, user)

    # -- files

    def export_jsonl(self, path: str | Path, user: str | None = None) -> int:
        """Write one user's items, or all, as JSON Lines; returns how many. The file appears whole or not at all."""
        if user is not None:
            check_user(user)
        if self._database.is_own(path):
            raise StoreError(f"cannot export to {path}: it is the store itself; give the path of another file")
        return jsonl.write_items(path, queries.stored_items(self._database, user))

    @staticmethod
    def import_jsonl(path: str | Path) -> Iterator[tuple[str | None, NewItem]]:
        """The records of a JSON Lines file as (user or None, item), one at a time, for the caller to encode and add.

        TextError names the line and the field of a malformed record.
        """
        return jsonl.read_items(path)

    def check(self) -> None:
        """Read the whole file and check it; StoreError says what is damaged."""
        with self._database.read() as connection:
            problems = queries.problems(connection)
        if problems:
            raise StoreError(f"history store {self.path} is damaged: {'; '.join(problems[:5])}; restore a backup")
