"""Which methods there are, and the reading of a spec such as ``pplug+bm25:1``.

A spec is one method, or several joined by ``+``; behind a colon stands a method's argument. Methods of other packages
come by the entry-point group GROUP and are loaded when they are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING

from personaplug_edge.errors import MethodError
from personaplug_edge.personalize.method import Kind, Method

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "personaplug_edge.methods"
"""The entry-point group of methods that other packages bring."""

ALIASES = {"query": "pplug", "static": "pplug-static", "off": "instruction"}
"""The names that ``persona=`` and older reports have for methods."""

MOST_ITEMS = 100
"""Items that a retrieval may be asked for."""


@dataclass(frozen=True)
class Part:
    """One method of a spec."""

    name: str
    argument: str
    method: Method
    own: bool = True
    """False for a method that another package brought"""


def _function(module: str, name: str) -> Callable[[str, str], Method]:
    def make(method: str, argument: str) -> Method:
        if argument:
            raise MethodError(f"method {method!r} takes nothing behind a colon, got {argument!r}; write {method!r}")
        found: Method = getattr(import_module(f"{__package__}.{module}"), name)
        return found

    return make


def _retrieval(module: str, name: str, *keeps: Kind) -> Callable[[str, str], Method]:
    def make(method: str, argument: str) -> Method:
        from personaplug_edge.personalize.retrieval import DEFAULT_ITEMS, Retrieval

        if argument and not (argument.isdecimal() and 1 <= int(argument) <= MOST_ITEMS):
            raise MethodError(
                f"expected how many items behind {method!r}, 1 to {MOST_ITEMS}, got {argument!r}; write {method}:4"
            )
        ranking = getattr(import_module(f"{__package__}.{module}"), name)
        items = int(argument) if argument else DEFAULT_ITEMS
        return Retrieval(ranking=ranking, items=items, keeps=frozenset({"texts", *keeps}))

    return make


_MAKERS: dict[str, Callable[[str, str], Method]] = {
    "none": _function("bare", "none"),
    "instruction": _function("bare", "instruction"),
    "pplug": _function("pplug", "query"),
    "pplug-static": _function("pplug", "static"),
    "recency": _retrieval("recency", "newest"),
    "random": _retrieval("random", "by_chance"),
    "bm25": _retrieval("bm25", "nearest_by_words"),
    "dense": _retrieval("dense", "nearest_by_meaning", "vectors"),
    "summary": _function("summary", "summary"),
    "lora": _function("adapter", "lora"),
    "prompt-tuning": _function("adapter", "prompt_tuning"),
    "majority": _function("labels", "majority"),
    "vote": _function("labels", "vote"),
}
METHODS = tuple(_MAKERS)
"""The methods that this package brings; each stands for itself or in a combination."""

LABEL_METHODS = ("majority", "vote")
"""Those that ask no LLM: they choose among labels and stand alone."""


ROWS_ALONE = frozenset({"none", "instruction", "pplug", "pplug-static", "lora", "prompt-tuning", *LABEL_METHODS})
"""Those that put no text in front of a request, so that its length need not be known."""


def known() -> list[str]:
    """The names of all methods, those that other packages bring too."""
    return [*METHODS, *sorted(set(_found()) - set(METHODS))]


def puts_text(spec: str) -> bool:
    """Whether a method of a spec may put text into a request. Raises MethodError as :func:`parse`."""
    return any(part.name not in ROWS_ALONE for part in parse(spec))


def parse(spec: str) -> tuple[Part, ...]:
    """The methods of a spec in their order. Raises MethodError that says what is known."""
    if not isinstance(spec, str) or not spec.strip():
        raise MethodError(f"expected a method such as 'pplug' or 'pplug+bm25:1', got {spec!r}; known: {_known()}")
    return _parse(spec)


@lru_cache(maxsize=256)
def _parse(spec: str) -> tuple[Part, ...]:
    parts = tuple(_part(each.strip(), spec) for each in spec.split("+"))
    names = [part.name for part in parts]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise MethodError(f"method {doubled[0]!r} stands twice in {spec!r}; name it once")
    if len(parts) > 1 and (alone := next((name for name in names if name in LABEL_METHODS), "")):
        raise MethodError(f"method {alone!r} asks no LLM and cannot be combined, as in {spec!r}; name it alone")
    return parts


def _part(text: str, spec: str) -> Part:
    name, _, argument = text.partition(":")
    name = ALIASES.get(name, name)
    if name in _MAKERS:
        return Part(name, argument, _MAKERS[name](name, argument))
    if name in _found():
        return Part(name, argument, _load(name), own=False)
    inside = f" in {spec!r}" if text != spec else ""
    raise MethodError(f"unknown method {name!r}{inside}; known: {_known()}")


@lru_cache(maxsize=1)
def _found() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {each.name: each for each in entry_points(group=GROUP)}


def _load(name: str) -> Method:
    entry = _found()[name]
    try:
        method = entry.load()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise MethodError(f"method {name!r} of {entry.value} cannot be loaded: {what}") from error
    if not callable(method):
        raise MethodError(f"method {name!r}: expected a function (user, request) at {entry.value}, got {method!r:.80}")
    found: Method = method
    return found


def _known() -> str:
    return ", ".join(known())
