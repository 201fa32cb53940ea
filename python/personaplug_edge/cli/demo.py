"""``personaplug demo``: six invented people, the same prompts, and whether their histories change the answers."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import MissingExtraError
from .failures import one_line
from .picture_path import picture_path
from .session import open_plug
from .terminal import notice, out, progress_bar, write_json

if TYPE_CHECKING:
    from ..demo.runner import DemoReport


class WithPersona(str, Enum):
    """How the histories enter the prompts; nobody's column is the one without."""

    query = "query"
    static = "static"


def demo(
    png: Annotated[
        Path | None, typer.Option(callback=picture_path, help="Where the picture goes; else ./personaplug-demo.png.")
    ] = None,
    picture: Annotated[bool, typer.Option(help="Draw the picture (needs matplotlib).")] = True,
    prompt: Annotated[int | None, typer.Option(min=1, help="Show the reasons for this prompt.")] = None,
    persona: Annotated[WithPersona, typer.Option(help="query or static.")] = WithPersona.query,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The same prompts, answered for nobody and for invented people. Offline; nothing is kept."""
    from ..demo.data import load_people, load_prompts
    from ..demo.runner import run_demo
    from ..demo.show import as_json, show

    prompts = load_prompts()
    if prompt is not None and prompt > len(prompts.articles):
        raise typer.BadParameter(f"expected --prompt from 1 to {len(prompts.articles)}, got {prompt}")
    with open_plug(in_memory=True) as plug, progress_bar("answering") as progress:
        report = run_demo(plug, load_people(prompts), prompts, persona=persona.value, progress=progress)
    write_json(as_json(report)) if json else show(report, out(), prompt=prompt)
    if picture:
        _draw(report, png)


def _draw(report: DemoReport, png: Path | None) -> None:
    """The picture; without matplotlib a remark, or the error where the picture was asked for."""
    from ..plots import save_demo

    path = png or Path("personaplug-demo.png")
    try:
        save_demo(report, path)
    except MissingExtraError as error:
        if png is not None:
            raise
        notice(f"no picture: {one_line(error)}")
    else:
        notice(f"wrote {path}")
