"""Reads JSON objects into frozen dataclasses by their annotations, and names the key path of whatever does not fit."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import BundleError

T = TypeVar("T")
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def read_part(kind: type[T], data: Any, at: str, source: str) -> T:
    """Make a ``kind`` of the JSON object ``data``, found at key path ``at``; calls its ``check(at)`` if it has one.

    Unknown keys are refused: a misspelt optional key would silently change the vectors.
    """
    if not isinstance(data, dict):
        raise _wrong(at, "an object", data, source)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, kind))}
    for key in data.keys() - fields.keys():
        import difflib  # for this message alone

        near = difflib.get_close_matches(str(key), list(fields), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
        raise BundleError(f"{source}: unknown key {_join(at, key)}; {hint}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _read(_hints(cast(Any, kind))[name], data[name], _join(at, name), source)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BundleError(f"{source}: required key {_join(at, name)} is missing; export the bundle again")
    part = kind(**values)
    if hasattr(part, "check"):
        part.check(at)
    return part


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, at: str, source: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return read_part(cast(type[Any], kind), value, at, source)
    if origin in (Union, types.UnionType):
        return read_part(_alternative(get_args(kind), value), value, at, source)
    if origin is Literal:
        if value not in get_args(kind):
            raise _wrong(at, f"one of {', '.join(map(repr, get_args(kind)))}", value, source)
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(at, "a list", value, source)
        return tuple(_read(get_args(kind)[0], entry, f"{at}[{index}]", source) for index, entry in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise _wrong(at, "an object", value, source)
        inner = get_args(kind)[1]
        return dict(value) if inner is Any else {key: _read(inner, value[key], _join(at, key), source) for key in value}
    return _read_plain(kind, value, at, source)


def _alternative(kinds: tuple[Any, ...], value: Any) -> type[Any]:
    """The class with most of the object's keys: a head is known by its key ``head``, an encoder by ``file``."""
    keys = value.keys() if isinstance(value, dict) else set()
    return cast(type[Any], max(kinds, key=lambda kind: len(keys & {field.name for field in dataclasses.fields(kind)})))


def _read_plain(kind: Any, value: Any, at: str, source: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:  # not isinstance: true is an int to Python
        raise _wrong(at, _NAMES[kind], value, source)
    if kind is float and not math.isfinite(value):
        raise _wrong(at, "a finite number", value, source)
    return value


def _join(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _wrong(at: str, expected: str, value: Any, source: str) -> BundleError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BundleError(f"{source}: {at}: expected {expected}, got {shown} ({type(value).__name__})")
