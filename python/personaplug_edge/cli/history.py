"""``personaplug history``: what is stored about a user, to see, search, correct, and take along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UnknownUserError
from .items import as_row, read_file, store_items, told
from .session import open_plug, open_store
from .settings import command, settings
from .terminal import json_text, line, moment, out, table, write_json

if TYPE_CHECKING:
    from ..store import HistoryStore, Item

app = typer.Typer(no_args_is_help=True)

User = Annotated[str, typer.Argument(help="The user's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=0, help="The most items to show; 0: all.")]


def _known(store: HistoryStore, user: str) -> int:
    if not (count := store.count(user)):
        raise UnknownUserError(
            f"expected a stored user, got {user!r}; `personaplug users` lists those in {settings().store_path}"
        )
    return count


def _show(items: Sequence[Item], total: int, json: bool) -> None:
    if json:
        return write_json([as_row(item) for item in items])
    shown = table("id", "time", "output", "text", "source")
    for item in items:
        shown.add_row(str(item.id), moment(item.time), line(item.output), line(item.text), line(item.source))
    out().print(shown)
    if len(items) < total:
        out().print(f"{len(items)} of {total} items; --limit 0 shows all", style="dim")


@command(app, "list")
def list_(
    user: User,
    limit: Limit = 20,
    oldest_first: Annotated[bool, typer.Option("--oldest-first")] = False,
    json: Json = False,
) -> None:
    """The user's items, the newest first."""
    with open_store() as store:
        total = _known(store, user)
        items = store.list(user, limit=limit or total, offset=0, newest_first=not oldest_first)
    _show(items, total, json)


@command(app, "search")
def search(
    user: User, text: Annotated[str, typer.Argument(help="What to look for.")], limit: Limit = 20, json: Json = False
) -> None:
    """The user's items that contain a text."""
    with open_store() as store:
        _known(store, user)
        items = list(store.search(user, text))
    _show(items[:limit] if limit else items, len(items), json)


@command(app, "edit")
def edit(
    user: User,
    item: Annotated[int, typer.Argument(help="The item's id, from `history list`.")],
    text: Annotated[str | None, typer.Option(help="The new text.")] = None,
    output: Annotated[str | None, typer.Option(help="The new output.")] = None,
) -> None:
    """Correct an item; what is not given stays. The former text leaves the disk."""
    if text is None and output is None:
        raise typer.BadParameter("expected --text, --output or both")
    with open_plug("write") as plug:
        plug.user(user).edit(item, text=text, output=output)
    out().print(f"changed item {item} of {user}", soft_wrap=True)


@command(app, "export")
def export(
    user: User, file: Annotated[Path, typer.Argument(help="The JSONL file to write; - for stdout.")] = Path("-")
) -> None:
    """Write the user's items as JSONL, the oldest first. Vectors stay behind: `import` makes them anew."""
    from ..store.jsonl import record_of

    with open_store() as store:
        _known(store, user)
        if str(file) != "-":
            count = store.export_jsonl(file, user)
            out().print(f"wrote {count} items to {file}", soft_wrap=True)
        else:
            for item in store.list(user):
                print(json_text(record_of(item)))


@command(app, "import")
def import_(
    user: User,
    file: Annotated[Path, typer.Argument(help="JSONL as `export` writes it; - for stdin.")],
    json: Json = False,
) -> None:
    """Store the items of a JSONL file, checked before the first is stored; those there already are reported."""
    items = read_file(file)
    with open_plug("make") as plug:
        report = store_items(plug, user, items)
    write_json(report) if json else out().print(told(report), soft_wrap=True)
