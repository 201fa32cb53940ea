"""Groups of options as dataclasses, so that an option is written once and taken by many commands.

typer reads a function's signature; here a parameter whose type is a dataclass is replaced by the dataclass's fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def expand_options(call: Callable[..., None], like: Callable[..., None], **extra: type[Any]) -> Callable[..., None]:
    """``call`` with the signature of ``like`` and the groups in ``extra``, every dataclass laid out as its fields."""
    hints = get_type_hints(like, include_extras=True)
    plain: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = dict(extra)
    for parameter in inspect.signature(like).parameters.values():
        hint = hints[parameter.name]
        if isinstance(hint, type) and is_dataclass(hint):
            groups[parameter.name] = hint
        else:
            plain.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
    laid_out = plain + [parameter for group in groups.values() for parameter in _parameters(group)]

    def run(**arguments: Any) -> None:
        gathered = {
            name: group(**{field.name: arguments.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        call(**arguments, **gathered)

    run.__doc__, run.__name__ = like.__doc__, like.__name__
    run.__signature__ = inspect.Signature(laid_out)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in laid_out}
    return run
