"""A history item as a file says it: a text alone, or an object with text and perhaps output, time, source."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from personaplug_edge.errors import TextError
from personaplug_edge.store.checks import check_item, check_user
from personaplug_edge.store.records import NewItem

FIELDS = ("text", "output", "time", "source")

MADE_ANEW = ("created", "id", "digest")
"""Fields of an exported item that a store makes itself: passed over."""


def owned_item_of(record: Any) -> tuple[str | None, NewItem]:
    """The user, None where none is named, and the item of a line of an export. Raises TextError as :func:`item_of`."""
    if not isinstance(record, Mapping):
        return None, item_of(record)
    user = record.get("user")
    item = item_of({field: value for field, value in record.items() if field not in ("user", *MADE_ANEW)})
    return None if user is None else check_user(user), item


def item_of(record: Any) -> NewItem:
    """The item of what JSON or Parquet gave; null is as if left out, a field that is not known may be a misspelled one.

    Raises TextError saying which field is wrong.
    """
    if isinstance(record, str):
        return check_item(NewItem(record))
    if not isinstance(record, Mapping):
        raise TextError(f'expected a text or an object such as {{"text": "..."}}, got {type(record).__name__}')
    if unknown := [field for field in record if field not in FIELDS]:
        raise TextError(f"unknown field {unknown[0]!r}; known are {', '.join(FIELDS)}")
    given = {field: value for field, value in record.items() if value is not None}
    if "text" not in given:
        raise TextError("the field 'text' is missing")
    return check_item(
        NewItem(given["text"], given.get("output", ""), time_of(given.get("time")), given.get("source", ""))
    )


def time_of(value: Any) -> Any:
    """Seconds since 1970 where ``value`` is such a number, ISO 8601 or a datetime (UTC when it names no zone).

    What is none of these is returned as it is, for :func:`check_item` to refuse. Raises TextError for other texts.
    """
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            raise _not_a_time(value) from None
    if isinstance(value, datetime):  # Parquet's timestamps too
        try:
            return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).timestamp()
        except OverflowError:
            raise _not_a_time(value) from None
    return value


def _not_a_time(value: object) -> TextError:
    return TextError(f"time: expected 2026-01-31T12:00 or seconds since 1970, got {str(value)!r:.60}")
