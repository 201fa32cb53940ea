"""``personaplug users``: who is in the store."""

from __future__ import annotations

from typing import Annotated

import typer

from .session import open_store
from .terminal import name, out, table, write_json


def users(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """The users of the store and how many items each has."""
    with open_store() as store:
        counts = {user: store.count(user) for user in store.users()}
    if json:
        return write_json([{"user": user, "items": count} for user, count in counts.items()])
    shown = table("user", "items")
    for user, count in counts.items():
        shown.add_row(name(user), str(count))
    out().print(shown)
