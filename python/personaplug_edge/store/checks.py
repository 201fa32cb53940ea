"""What the store accepts: user ids, texts, times, keys; everything else is refused before the database is touched."""

from __future__ import annotations

import hashlib
import math
import operator

from personaplug_edge.errors import TextError, UnknownItemError
from personaplug_edge.store.records import NewItem
from personaplug_edge.texts import check_unicode

MAX_NAME = 256
"""Characters of a user id, an encoder key or a bundle key."""

TIMES = (-62_135_596_800, 253_402_300_800)
"""The first second of year 1, and that after year 9999, in seconds since 1970: the calendar of ISO 8601."""

MAX_TEXT_BYTES = 1 << 20
"""Bytes of a text, an output or a source in UTF-8."""


def check_name(value: object, what: str) -> str:
    """A user id or a key: 1 to 256 characters."""
    name = check_unicode(value, what)
    if not 1 <= len(name) <= MAX_NAME:
        raise TextError(f"{what} must have 1 to {MAX_NAME} characters, not {len(name)}")
    return name


def check_user(value: object) -> str:
    """A user id: 1 to 256 characters."""
    return check_name(value, "the user id")


def _check_text(value: object, what: str) -> str:
    text = check_unicode(value, what)
    size = len(text.encode("utf-8"))
    if size > MAX_TEXT_BYTES:
        raise TextError(
            f"{what} has {size} bytes in UTF-8; the limit is {MAX_TEXT_BYTES} (1 MiB); split it into several items"
        )
    return text


def check_item(item: NewItem) -> NewItem:
    """The item if it can be stored: text not blank, valid Unicode, at most 1 MiB a field, a finite time or none."""
    if not isinstance(item, NewItem):
        raise TextError(f"a history item must be a NewItem, not {type(item).__name__}")
    if not _check_text(item.text, "the text of a history item").strip():
        raise TextError("the text of a history item is empty or only white space; leave such items out")
    _check_text(item.output, "the output of a history item")
    _check_text(item.source, "the source of a history item")
    if item.time is not None:
        if isinstance(item.time, bool) or not isinstance(item.time, (int, float)):
            raise TextError(f"the time of a history item must be a number or None, not {type(item.time).__name__}")
        try:
            finite = math.isfinite(float(item.time))
        except OverflowError:
            finite = False
        if not finite:
            raise TextError("the time of a history item must be finite; give None when it is not known")
        if not TIMES[0] <= item.time < TIMES[1]:
            raise TextError(
                f"the time of a history item: expected seconds since 1970, in the years 1 to 9999; got {item.time!r}: "
                "milliseconds? divide by 1000"
            )
    return item


def check_item_id(user: str, value: object) -> int:
    """An item id that SQLite can hold; anything else cannot be the id of an item."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # numpy's too
    except TypeError:
        number = -1
    if not 1 <= number < 1 << 63:
        raise UnknownItemError(f"user {user!r} has no history item {value!r}; list the history for the ids")
    return number


def digest(item: NewItem) -> bytes:
    """SHA-256 over text and output, the text's length first, so that no two different pairs read the same."""
    text, output = item.text.encode("utf-8"), item.output.encode("utf-8")
    return hashlib.sha256(len(text).to_bytes(8, "little") + text + output).digest()


def check_key(value: object, name: str) -> str:
    """An encoder_key or bundle_key: 1 to 256 characters."""
    return check_name(value, name)
