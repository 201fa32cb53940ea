"""A row of the input: which fields it may have, and what they must be."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import MethodError, PromptError, SamplingError, TextError
from ..personalize.registry import parse
from ..request import checked_labels
from ..sampling import Sampling
from ..store import NewItem
from ..store.checks import check_user
from ..store.item_record import item_of
from ..texts import check_text, check_unicode
from .options import BatchOptions

if TYPE_CHECKING:
    from ..personalizer import PersonaMode

FIELDS = ("id", "user", "history", "prompt", "persona", "method", "options", "labels")
_NUMBERS: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A row that was understood."""

    id: str | int
    number: int
    prompt: str
    user: str | None
    history: tuple[NewItem, ...] | None
    """None: the user's, from the file of histories or the store."""
    persona: PersonaMode
    method: str | None
    """None: ``persona``."""
    sampling: Sampling
    asked: bool
    """Whether the row or the run says how to decode; then what a method hints at counts for nothing."""
    labels: tuple[str, ...]
    kept: dict[str, Any]
    row: Any
    """As it was read."""

    @property
    def spec(self) -> str:
        """The method, or the mode that is short for one."""
        return self.method or self.persona


def parse_row(row: Any, number: int, name: str | int, base: Sampling, options: BatchOptions) -> Request:
    """The request of a row; ``name`` is its id if it has none. Raises TextError, PromptError, SamplingError."""
    if not isinstance(row, Mapping):
        raise TextError(f'expected an object such as {{"prompt": "..."}}, got {type(row).__name__}')
    given = {field: value for field, value in row.items() if value is not None}  # Parquet has null for what is absent
    if unknown := [field for field in given if field not in FIELDS and field not in options.keep]:
        raise TextError(
            f"unknown field {unknown[0]!r}; known are {', '.join(FIELDS)}; --keep {unknown[0]} copies it to the output"
        )
    if "prompt" not in given:
        raise TextError("the field 'prompt' is missing")
    persona, method = _way(given, options)
    row_id = _row_id(given.get("id", name))
    return Request(
        id=row_id,
        number=number,
        prompt=check_text(given["prompt"], "the prompt"),
        user=check_user(given["user"]) if "user" in given else None,
        history=parse_history(given["history"]) if "history" in given else None,
        persona=persona,
        method=method,
        sampling=seeded(_sampling(given.get("options"), base), options.seed, row_id),
        asked=options.sampling is not None or "options" in given,
        labels=_labels(given["labels"]) if "labels" in given else options.labels,
        kept={field: _copied(row[field], field) for field in options.keep if field in row},
        row=row,
    )


def _copied(value: Any, field: str) -> Any:
    try:
        return _kept(value, field)
    except RecursionError:
        raise TextError(f"{field}: nested too deep to be copied") from None


def _kept(value: Any, field: str) -> Any:
    """A value to copy, without what JSON cannot say: numbers that are none become null, as in most tools."""
    if isinstance(value, str):
        return check_unicode(value, field)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {check_unicode(name, field): _kept(each, field) for name, each in value.items()}
    return [_kept(each, field) for each in value] if isinstance(value, (list, tuple)) else value


def _way(given: Mapping[str, Any], options: BatchOptions) -> tuple[PersonaMode, str | None]:
    """A row's persona and method: its own, or else the run's."""
    persona = given.get("persona", options.persona)
    if persona not in ("query", "static", "off"):
        raise PromptError(f'persona: expected "query", "static" or "off", got {persona!r:.80}')
    if "method" not in given:
        return persona, None if "persona" in given else options.method
    if "persona" in given:
        raise MethodError("a method stands in place of a persona: give the row one of them")
    parse(given["method"])
    return persona, given["method"]


def parse_history(value: Any) -> tuple[NewItem, ...]:
    """History items: texts, or objects with text and perhaps output, time, source. Raises TextError."""
    if not isinstance(value, (list, tuple)):
        raise TextError(f"history: expected a list of texts or objects, got {type(value).__name__}")
    items = []
    for place, each in enumerate(value, start=1):
        try:
            items.append(item_of(each))
        except TextError as error:
            raise TextError(f"history item {place}: {error}") from None
    return tuple(items)


def _row_id(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TextError(f"id: expected a text or a whole number, got {type(value).__name__}")
    return check_unicode(value, "id") if isinstance(value, str) else value


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise PromptError(f"labels: expected a list of texts, got {type(value).__name__}")
    return tuple(checked_labels(value))


def _sampling(value: Any, base: Sampling) -> Sampling:
    """``base`` with a row's options put over it."""
    if value is None:
        return base
    if not isinstance(value, Mapping):
        raise SamplingError(f"options: expected an object, got {type(value).__name__}")
    known = {field.name: str(field.type) for field in fields(Sampling)}
    given = {}
    for name, option in value.items():
        if name not in known:
            raise SamplingError(f"options: unknown option {name!r}; known are {', '.join(known)}")
        if option is not None:
            given[name] = _option(name, known[name], option)
    return replace(base, **given)


def _option(name: str, kind: str, value: Any) -> Any:
    if name == "stop":
        stops = [value] if isinstance(value, str) else value
        if isinstance(stops, (list, tuple)) and all(isinstance(stop, str) for stop in stops):
            return tuple(stops)
    elif name == "logit_bias":
        try:  # JSON has no keys but strings; Parquet's maps are lists of pairs
            return {int(token): float(bias) for token, bias in dict(value).items()}
        except (TypeError, ValueError):
            pass
    elif name == "grammar":
        if isinstance(value, str):
            return value
    else:
        expected = _NUMBERS[kind.partition(" ")[0]]
        if isinstance(value, expected) and isinstance(value, bool) == (expected is bool):
            return value
    raise SamplingError(f"options: {name}: expected {kind}, got {value!r:.80}")


def seeded(sampling: Sampling, run_seed: int, row_id: str | int) -> Sampling:
    """With a seed of the row's own where one is drawn with, so that a broken run repeats what an unbroken one does."""
    if sampling.seed is not None or not sampling.temperature > 0:
        return sampling
    digest = hashlib.sha256(json.dumps([run_seed, row_id]).encode()).digest()
    return replace(sampling, seed=int.from_bytes(digest[:8], "little") % (2**32 - 1))
