"""The option ``--method``, and what a command needs to know of the method that it names."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import MethodError


def known_method(given: str | None) -> str | None:
    """The option as it was given. Raises typer.BadParameter for a method that cannot be run as named."""
    if given is not None:
        try:
            parts_named(given)
        except MethodError as error:
            raise typer.BadParameter(str(error)) from None
    return given


MethodOption = Annotated[
    str | None,
    typer.Option(
        callback=known_method,
        help="In place of --persona: such as bm25:4, pplug+dense:1, summary; an unknown one lists them.",
    ),
]


def parts_named(spec: str) -> frozenset[str]:
    """The names of a method's parts, or of the method that a persona is short for. Raises MethodError."""
    from ..personalize.registry import parse

    return frozenset(part.name for part in parse(spec))


def needs_labels(method: str | None) -> bool:
    """Whether the method asks no LLM, but chooses among labels."""
    from ..personalize.registry import LABEL_METHODS

    return method is not None and not parts_named(method).isdisjoint(LABEL_METHODS)


def has_persona(spec: str) -> bool:
    """Whether a persona takes part, so that the cold-start one stands in for a user without a history."""
    return not parts_named(spec).isdisjoint(("pplug", "pplug-static"))
