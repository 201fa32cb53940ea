"""What a method will ask the encoder for, so that a whole group's texts go through it together.

A method that is not named here, one of another package say, may ask for anything: what was not made ahead is made when
it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..personalize.registry import parse

BY_VECTORS = frozenset({"pplug", "pplug-static", "dense", "vote"})
"""Those that look at the vectors of a history."""
BY_QUERY = frozenset({"pplug"})
"""Those that read the request through the input encoder."""
BY_SUBJECT = frozenset({"dense", "vote"})
"""Those that read what the request is about through the behavior encoder."""
WITHOUT_HISTORY = frozenset({"none", "instruction", "lora", "prompt-tuning"})
"""Those that read no history."""
WITH_ADAPTERS = frozenset({"lora", "prompt-tuning"})
"""Those that read what was trained for the user."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the methods of a spec ask for."""

    vectors: bool
    query: bool
    subject: bool
    history: bool
    adapters: bool


@lru_cache(maxsize=256)
def needs_of(spec: str) -> Needs:
    """What a spec asks for, "query", "static" and "off" among them. Raises MethodError for what is no spec."""
    names = {part.name for part in parse(spec)}
    return Needs(
        vectors=bool(names & BY_VECTORS),
        query=bool(names & BY_QUERY),
        subject=bool(names & BY_SUBJECT),
        history=not names <= WITHOUT_HISTORY,
        adapters=bool(names & WITH_ADAPTERS),
    )
