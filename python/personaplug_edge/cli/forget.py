"""``personaplug forget``: erase items or a whole user, on the disk too."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import UnknownUserError
from .session import open_store
from .terminal import out


def forget(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    item: Annotated[list[int] | None, typer.Option(help="An item's id; may be repeated.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="The user and everything stored about them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase: rows, vectors and projections go, and their bytes on the disk with them. Asks first."""
    if bool(item) == all_:
        raise typer.BadParameter("expected either --item ID or --all")
    with open_store("write") as store:
        count = store.count(user)
        if not count:
            raise UnknownUserError(f"expected a stored user, got {user!r}; `personaplug users` lists them")
        ids = sorted(set(item or ()))
        for each in ids:
            store.item(user, each)  # every id is checked before the first is erased
        what = (
            f"all {count} items of {user}"
            if all_
            else f"item{'s' * (len(ids) > 1)} {', '.join(map(str, ids))} of {user}"
        )
        if not yes:
            typer.confirm(f"Erase {what} for good?", abort=True)
        if all_:
            store.delete_user(user)
        for each in ids:
            store.delete_item(user, each, purge=False)
        store.purge()  # once for all: it rewrites the file
    out().print(f"erased {what}", soft_wrap=True)
