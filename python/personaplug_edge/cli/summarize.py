"""``personaplug summarize``: what the LLM writes of a user's history, ahead of requests by the method summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from .session import open_plug
from .terminal import line, out, progress_bar, table, write_json


def _reading(progress: Callable[[int, int | None], None]) -> Callable[[int], None]:
    return lambda done: progress(done, None)


def summarize(
    user: Annotated[list[str] | None, typer.Option(help="A user to summarize; may be given several times.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All users of the store.")] = False,
    share: Annotated[
        float, typer.Option(min=0, help="Made anew where so much of a history has come since; 0.2 is a fifth.")
    ] = 0.2,
    items: Annotated[int, typer.Option(min=0, help="Read so many of the latest items; 0: all.")] = 512,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let the LLM summarize histories, and keep the summaries in the store.

    Those that are up to date stay; so a run that was stopped goes on where it was.
    """
    if all == bool(user):
        raise typer.BadParameter("expected either --user, once or several times, or --all")
    rows: list[dict[str, Any]] = []
    with open_plug("write") as plug:
        users = plug.store.users() if all else list(dict.fromkeys(user or ()))
        for number, each in enumerate(users, 1):
            count = plug.store.count(each)
            if not count:
                if not all:
                    raise typer.BadParameter(f"user {each!r} has no history in this store; `personaplug users` lists")
                continue
            former = plug.store.summary(each, plug.bundle.bundle_key)
            with progress_bar(f"{line(each)} ({number}/{len(users)})", min(count, items or count)) as progress:
                made = plug.summarize(each, share=share, latest=items, progress=_reading(progress))
            rows.append({"user": each, "items": made.items, "new": made != former, "summary": made.text})
    if json:
        return write_json(rows)
    shown = table("user", "items", "made", "summary")
    for row in rows:
        shown.add_row(line(row["user"]), str(row["items"]), "now" if row["new"] else "before", line(row["summary"]))
    out().print(shown)
