"""Specs of methods, their errors, and methods that other packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from personaplug_edge.errors import MethodError, PromptError, UnknownItemError
from personaplug_edge.personalize import registry
from personaplug_edge.personalize.combine import contribute
from personaplug_edge.personalize.method import Contribution, Request
from personaplug_edge.personalize.retrieval import DEFAULT_ITEMS, Retrieval
from personaplug_edge.personalize.wording import plain
from personaplug_edge.prompt import Prompt


class WordsAreTokens:
    """The services that combining asks for."""

    llm = SimpleNamespace(model=SimpleNamespace(vocabulary_size=9))
    embedder = SimpleNamespace(instruction=[[0.0] * 4] * 2)

    def length(self, text: str) -> int:
        return len(text.split())


def fake_request(text: str = "a request", room: int = 9) -> Request:
    services: Any = WordsAreTokens()
    return Request(text=text, placed=text, wording=plain("{input}", text), room=room, services=services)


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Methods of another package: mine, whole, broken, wrong, lost."""
    names = {"mine": "mine", "whole": "whole", "broken": "broken", "wrong": "wrong", "lost": "no_such", "gone": "gone"}
    found = [metadata.EntryPoint(name, f"{__name__}:{at}", registry.GROUP) for name, at in names.items()]
    for entry in found:
        vars(entry)["load"] = lambda entry=entry: globals()[entry.value.rpartition(":")[2]]
    monkeypatch.setattr(metadata, "entry_points", lambda group: found if group == registry.GROUP else [])
    registry._found.cache_clear()
    registry._parse.cache_clear()
    yield
    registry._found.cache_clear()
    registry._parse.cache_clear()


def mine(user: Any, request: Any) -> Contribution:
    return Contribution(front=f"mine {request.argument} {request.room} ", sampling={"temperature": 0.5}, bytes_kept=3)


def whole(user: Any, request: Any) -> Prompt:
    return Prompt.tokens([1, 2])


def broken(user: Any, request: Any) -> Contribution:
    raise KeyError("oops")


def wrong(user: Any, request: Any) -> Any:
    return "text"


def gone(user: Any, request: Any) -> Any:
    raise UnknownItemError("deleted meanwhile")


def test_parts_and_arguments() -> None:
    parts = registry.parse("pplug + bm25:2+dense")
    assert [(part.name, part.argument) for part in parts] == [("pplug", ""), ("bm25", "2"), ("dense", "")]
    assert isinstance(parts[1].method, Retrieval) and parts[1].method.items == 2
    assert isinstance(parts[2].method, Retrieval) and parts[2].method.items == DEFAULT_ITEMS
    assert [registry.parse(alias)[0].name for alias in registry.ALIASES] == list(registry.ALIASES.values())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nonne", "unknown method 'nonne'; known: none, instruction, pplug, .*vote"),
        ("pplug+bm52:1", "unknown method 'bm52' in 'pplug\\+bm52:1'; known: none"),
        ("bm25:0", "how many items behind 'bm25', 1 to 100, got '0'"),
        ("bm25:many", "got 'many'; write bm25:4"),
        ("pplug:3", "'pplug' takes nothing behind a colon, got '3'"),
        ("pplug+query", "'pplug' stands twice"),
        ("vote+pplug", "'vote' asks no LLM"),
        ("pplug+", "unknown method ''"),
        ("", "expected a method such as"),
        (None, "expected a method such as"),
    ],
)
def test_specs_that_are_none(spec: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        registry.parse(spec)
    assert issubclass(MethodError, PromptError)  # and so a ValueError


def test_a_method_of_another_package(brought: None) -> None:
    assert "mine" in registry.known() and "mine" not in registry.METHODS
    made = contribute(registry.parse("mine:x"), None, fake_request())  # type: ignore[arg-type]
    assert (made.front, made.sampling, made.bytes_kept) == ("mine x 9 ", {"temperature": 0.5}, 3)
    both = contribute(registry.parse("mine:y+none"), None, fake_request())  # type: ignore[arg-type]
    assert both.front == "mine y 9 "
    alone = contribute(registry.parse("whole"), None, fake_request())  # type: ignore[arg-type]
    assert alone.prompt == Prompt.tokens([1, 2])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("whole+none", "'whole' makes the whole prompt"),
        ("broken", "method 'broken' failed: KeyError: 'oops'"),
        ("none+broken", "method 'broken' failed"),
        ("wrong", "method 'wrong': expected a Contribution or a Prompt, got 'text'"),
        ("lost", "method 'lost' of .* cannot be loaded: KeyError"),
    ],
)
def test_faults_of_another_package_are_named(brought: None, spec: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        contribute(registry.parse(spec), None, fake_request())  # type: ignore[arg-type]


def test_an_item_deleted_meanwhile_reaches_the_caller_who_asks_again(brought: None) -> None:
    with pytest.raises(UnknownItemError):
        contribute(registry.parse("gone"), None, fake_request())  # type: ignore[arg-type]


def part(name: str, **values: Any) -> registry.Part:
    return registry.Part(name, "", lambda user, request: Contribution(**values))


def test_contributions_stand_side_by_side() -> None:
    one, two = np.ones((1, 4), np.float32), np.full((2, 4), 2, np.float32)
    rooms: list[int] = []

    def last(user: Any, request: Any) -> Contribution:
        rooms.append(request.room)
        return Contribution(front="d ", sampling={"seed": 2, "top_k": 3}, keeps=frozenset({"texts"}))

    made = contribute(
        [
            part("a", instruction=True, persona=one, front="a b c ", bytes_kept=1, sampling={"seed": 1}),
            part("b", instruction=True, persona=two, keeps=frozenset({"vectors"}), adapter="x", bytes_kept=2),
            registry.Part("c", "", last),
        ],
        None,  # type: ignore[arg-type]
        fake_request(room=14),
    )
    assert made.instruction and made.persona is not None
    np.testing.assert_array_equal(made.persona, np.concatenate([one, two]))
    assert (made.front, made.adapter, made.bytes_kept, made.keeps) == ("a b c d ", "x", 3, {"texts", "vectors"})
    assert made.sampling == {"seed": 1, "top_k": 3}  # who is named first decides
    assert rooms == [14 - 3 - 1 - 2 - 2]  # a's text and row, the instruction once, b's rows


def test_two_adapters_cannot_run_together() -> None:
    with pytest.raises(MethodError, match="x and y: one adapter"):
        contribute([part("a", adapter="x"), part("b", adapter="y")], None, fake_request())  # type: ignore[arg-type]
