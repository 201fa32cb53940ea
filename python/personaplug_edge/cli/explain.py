"""``personaplug explain``: which history items decide for a prompt. Runs the encoders, not the LLM."""

from __future__ import annotations

from math import fsum
from pathlib import Path
from typing import Annotated

import typer

from .bars import attribution_rows, attribution_table
from .generate import PromptArgument, read_prompt
from .session import open_plug, ready_user
from .terminal import out, write_json


def explain(
    prompt: PromptArgument,
    user: Annotated[str, typer.Option(help="The user whose history is asked.")],
    top: Annotated[int, typer.Option(min=1, help="How many items to show.")] = 10,
    png: Annotated[Path | None, typer.Option(help="Draw the bars to this file as well (needs matplotlib).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with up to 50 items.")] = False,
) -> None:
    """Show how much each history item weighs in the user's persona for this prompt."""
    text = read_prompt(prompt)
    with open_plug() as plug:
        ready_user(plug, user, "query")
        attribution = plug.explain(text, user)
        count = plug.store.count(user)
    if png is not None:
        from ..plots import save_attribution

        save_attribution(attribution[:top], png, title=text)
    if json:
        return write_json({"prompt": text, "user": user, "attribution": attribution_rows(attribution)})
    if not attribution:
        return  # a cold start, told above
    out().print(attribution_table(attribution, top))
    if count > top:
        rest = 1 - fsum(each.weight for each in attribution[:top])
        out().print(f"and {count - top} more items with {max(0.0, rest):.1%} together", style="dim")
    if png is not None:
        out().print(f"wrote {png}", style="dim", soft_wrap=True)
