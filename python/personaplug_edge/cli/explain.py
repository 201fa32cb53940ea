"""``personaplug explain``: which history items decide for a prompt. Runs the encoders, not the LLM."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .bars import attribution_rows, attribution_table
from .generate import PromptArgument, read_prompt
from .picture_path import picture_path
from .session import open_plug, ready_user
from .terminal import notice, out, write_json

if TYPE_CHECKING:
    from ..results import Attribution


def explain(
    prompt: PromptArgument,
    user: Annotated[str, typer.Option(help="The user whose history is asked.")],
    top: Annotated[int, typer.Option(min=1, help="How many items to show.")] = 10,
    png: Annotated[
        Path | None, typer.Option(callback=picture_path, help="Draw the bars to this file as well (needs matplotlib).")
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(callback=picture_path, help="Draw every item's weight over time to this file (needs matplotlib)."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with up to 50 items.")] = False,
) -> None:
    """Show how much each history item weighs in the user's persona for this prompt."""
    if png is not None and timeline is not None and png.resolve() == timeline.resolve():
        raise typer.BadParameter(f"--png and --timeline would both write {png}: give each a file of its own")
    text = read_prompt(prompt)
    with open_plug() as plug:
        ready_user(plug, user, "query")
        attribution = plug.explain(text, user)
        weights = plug.weights(text, user) if timeline is not None else ()
        count = plug.store.count(user)
    if not attribution and (png is not None or timeline is not None):
        notice("there is nothing to draw")
        png = timeline = None
    if png is not None:
        from ..plots import save_attribution

        save_attribution(attribution[:top], png, title=text)
    if timeline is not None and weights:
        draw_timeline(weights, timeline, text)
    if json:
        return write_json({"prompt": text, "user": user, "attribution": attribution_rows(attribution)})
    if not attribution:
        return  # a cold start, told above
    out().print(attribution_table(attribution, top))
    if count > top:
        rest = 1 - fsum(each.weight for each in attribution[:top])
        out().print(f"and {count - top} more items with {max(0.0, rest):.1%} together", style="dim")
    for path in filter(None, (png, timeline)):
        out().print(f"wrote {path}", style="dim", soft_wrap=True)


def draw_timeline(weights: Sequence[Attribution], path: Path, text: str) -> None:
    """Draws the weights of a whole history, and says how new the items are that decide."""
    from ..look.draw_timeline import save_timeline
    from ..look.timeline import timeline_of

    made = timeline_of(weights)
    save_timeline(made, path, title=text)
    notice(f"half of the weight lies in the newest {made.half()} of {len(weights)} items")
