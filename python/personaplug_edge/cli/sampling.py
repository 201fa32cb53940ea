"""The sampling options, written once for ``generate`` and ``chat``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal import decoding

if TYPE_CHECKING:
    from ..plug import PersonaPlug
    from ..sampling import Sampling

_PANEL = "Sampling (the bundle's own values where not given)"


def _option(*names: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PANEL, **more)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """What was given on the command line; None where the bundle decides."""

    max_tokens: Annotated[int | None, _option(help="The most tokens to generate.", min=1)] = None
    temperature: Annotated[float | None, _option(help="0: greedy.", min=0)] = None
    top_k: Annotated[int | None, _option(help="Keep the k likeliest tokens; 0: all.", min=0)] = None
    top_p: Annotated[float | None, _option(help="Keep the likeliest tokens up to this probability.", min=0, max=1)] = (
        None
    )
    min_p: Annotated[
        float | None, _option(help="Drop tokens below this share of the likeliest one's probability.", min=0, max=1)
    ] = None
    repetition_penalty: Annotated[float | None, _option(help="Above 1: repeat less.", min=0)] = None
    presence_penalty: Annotated[float | None, _option(help="Subtracted from tokens already generated.")] = None
    frequency_penalty: Annotated[float | None, _option(help="The same, times how often.")] = None
    seed: Annotated[int | None, _option(help="For the same answer again.", min=0, max=2**32 - 2)] = None
    grammar: Annotated[
        Path | None, _option(help="A GBNF file that the answer must follow.", exists=True, dir_okay=False)
    ] = None
    stop: Annotated[list[str] | None, _option(help="End before this text; may be repeated.")] = None
    ignore_end: Annotated[bool, _option("--ignore-end", help="Go on after the model's end token.")] = False

    def check_only(self, allowed: tuple[str, ...], why: str) -> None:
        """Raises typer.BadParameter where an option was given that ``allowed`` does not name: it would be dropped."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = [name for name, value in values.items() if value is not None and value is not False and value != []]
        if left := [f"--{name.replace('_', '-')}" for name in given if name not in allowed]:
            raise typer.BadParameter(f"{why}; leave {', '.join(left)} out")

    def over(self, plug: PersonaPlug) -> Sampling:
        """The bundle's sampling with what was given put over it."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "ignore_end"}
        given = {name: value for name, value in given.items() if value is not None and value != []}
        if self.grammar is not None:
            with decoding(self.grammar):
                given["grammar"] = self.grammar.read_text(encoding="utf-8")
        if self.stop:
            given["stop"] = tuple(self.stop)
        if self.ignore_end:
            given["ignore_end"] = True
        return replace(bundle_sampling(plug), **given)


def bundle_sampling(plug: PersonaPlug) -> Sampling:
    """The sampling that the bundle was measured with."""
    from ..sampling import Sampling

    return Sampling(**plug.bundle.sampling_options)
