"""``personaplug remember``: history items of a user, from the command line or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .items import read_file, store_items, told
from .session import open_plug
from .terminal import out, write_json


def remember(
    user: Annotated[str, typer.Argument(help="The user's id; a new one makes a new user.")],
    text: Annotated[str | None, typer.Argument(help="A text the user wrote or acted on.")] = None,
    output: Annotated[str | None, typer.Option(help="What the user made of it: a category, a title, a score.")] = None,
    time: Annotated[str | None, typer.Option(help="When: ISO 8601 (UTC) or seconds since 1970.")] = None,
    source: Annotated[str, typer.Option(help="Where it came from, to find it again.")] = "",
    file: Annotated[
        Path | None, typer.Option(help="JSONL, an item a line: text, output, time, source; - for stdin.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Store history items. A file is checked before its first item is stored; items there already are reported."""
    from ..store import NewItem
    from ..store.item_record import time_of

    if (text is None) == (file is None):
        raise typer.BadParameter("expected either TEXT or --file")
    if file is not None and (output is not None or time is not None):
        raise typer.BadParameter("--output and --time belong to TEXT; in a file each line has its own")
    if file is not None:
        items = read_file(file, source=source)
    else:
        items = [NewItem(text=text or "", output=output or "", time=time_of(time), source=source)]
    with open_plug("make") as plug:
        report = store_items(plug, user, items)
    write_json(report) if json else out().print(told(report), soft_wrap=True)
