"""``personaplug map``: who is near whom. Runs the encoders, not the LLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .picture_path import picture_path
from .session import open_embedder, open_store
from .terminal import line, notice, out, progress_bar, table, write_json

if TYPE_CHECKING:
    from ..look.user_map import Portrait, UserMap


class Color(str, Enum):
    """What groups users."""

    auto = "auto"
    label = "label"
    words = "words"


class Mark(str, Enum):
    """What stands beside a user's point."""

    id = "id"
    number = "number"
    none = "none"


def map_users(
    png: Annotated[
        Path | None, typer.Option(callback=picture_path, help="Draw the map to this file (needs matplotlib).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Users of these files in place of the store's, in the layouts of `eval`.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --data: the name of the task's folder.")] = None,
    split: Annotated[str, typer.Option(help="With --data: whose questions, where a file has some users each.")] = "dev",
    color: Annotated[
        Color, typer.Option(help="label: their commonest output; words: near users, named by what sets them apart.")
    ] = Color.auto,
    groups: Annotated[int, typer.Option(min=0, help="Groups of near users; 0: as many as suit.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the groups.")] = 0,
    limit: Annotated[int, typer.Option(min=0, help="So many users, evenly spread; 0: all.")] = 2000,
    mark: Annotated[Mark, typer.Option(help="Ids, numbers in their place in all outputs, or no marks.")] = Mark.id,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Map users by their static personal embeddings, in the two directions in which they differ most.

    Shows ids and the groups' names, no texts. A group is named by words only that several of its users have.
    """
    from ..look.user_map import map_of

    if task is not None and data is None:
        raise typer.BadParameter("--task names a folder of --data: give both, or neither for the store's users")
    found = _of_files(data, task, split, limit) if data is not None else _of_store(limit)
    made = map_of(found, color=color.value, groups=groups, seed=seed)
    if mark is Mark.number:
        made = made.numbered()
    if png is not None:
        from ..look.draw_map import describe, save_map

        name = "the store" if data is None else task or data.resolve().name
        save_map(made, png, title=f"{name}: {describe(made)}", named=mark is not Mark.none)
    if json:
        return write_json(made.to_json())
    _show(made)
    if png is not None:
        out().print(f"wrote {png}", style="dim", soft_wrap=True)


def _of_store(limit: int) -> list[Portrait]:
    from ..evaluate.data import spread
    from ..look.portraits import stored_portraits

    with open_store("use") as store, open_embedder() as (bundle, embedder):
        users = _chosen(store.users(), spread(store.users(), limit))
        with _counting(len(users)) as counted:
            return list(counted(stored_portraits(bundle, embedder, store, users)))


def _of_files(data: Path, task: str | None, split: str, limit: int) -> list[Portrait]:
    from ..evaluate.data import spread
    from ..evaluate.discover import read_tasks
    from ..look.portraits import file_portraits

    tasks = read_tasks(data, [task] if task else [], split)
    histories = next(tasks).users
    if task is None and next(tasks, None) is not None:
        raise typer.BadParameter(f"{data} holds several tasks: name one by --task")
    with open_embedder() as (bundle, embedder):
        users = _chosen(list(histories), spread(list(histories), limit))
        with _counting(len(users)) as counted:
            return list(counted(file_portraits(bundle, embedder, histories, users)))


def _chosen(every: Sequence[str], users: list[str]) -> list[str]:
    if len(users) < len(every):
        notice(f"{len(users)} of {len(every)} users, evenly spread; --limit 0 takes all")
    return users


@contextmanager
def _counting(total: int) -> Iterator[Callable[[Iterator[Portrait]], Iterator[Portrait]]]:
    with progress_bar("embedding", total) as progress:

        def counted(portraits: Iterator[Portrait]) -> Iterator[Portrait]:
            for done, portrait in enumerate(portraits, 1):
                progress(done, None)
                yield portrait

        yield counted


def _show(made: UserMap) -> None:
    from ..look.draw_map import describe

    shown = table("commonest label" if made.color == "label" else "group", "users")
    for name, count in made.groups.items():
        shown.add_row(line(name), str(count))
    out().print(shown)
    out().print(describe(made), soft_wrap=True)
