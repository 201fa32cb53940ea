"""The demo's people and prompts: invented, in two files beside this one that are meant to be edited."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DemoItem:
    """A thing a person wrote: a sentence of an article, the category it went under, and perhaps its headline."""

    text: str
    category: str
    headline: str = ""


@dataclass(frozen=True, kw_only=True)
class Person:
    """An invented person. ``about`` is a few words for the table's head."""

    id: str
    about: str
    items: tuple[DemoItem, ...]

    @property
    def writes_headlines(self) -> bool:
        """Whether headlines can be written in this person's manner."""
        return bool(self.items) and all(item.headline for item in self.items)


@dataclass(frozen=True, kw_only=True)
class DemoPrompts:
    """``articles`` get one of ``labels``; ``headlines`` are articles that want a headline.

    ``people`` maps a person's id to a few words about them, in the order of the table's columns. The two wordings hold
    ``{article}``; they are those that the bundle was trained with.
    """

    people: dict[str, str]
    labels: tuple[str, ...]
    category_wording: str
    headline_wording: str
    articles: tuple[str, ...]
    headlines: tuple[str, ...]


def load_prompts() -> DemoPrompts:
    """The prompts of prompts.json."""
    row = json.loads(files(__package__).joinpath("prompts.json").read_text(encoding="utf-8"))
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return DemoPrompts(**values)


def load_people(prompts: DemoPrompts) -> tuple[Person, ...]:
    """The people that the prompts name, with their items of people.jsonl (an item a line)."""
    lines = files(__package__).joinpath("people.jsonl").read_text(encoding="utf-8").splitlines()
    items: dict[str, list[DemoItem]] = {name: [] for name in prompts.people}
    for line in lines:
        if line.strip():
            row = json.loads(line)
            items[row.pop("person")].append(DemoItem(**row))
    return tuple(Person(id=name, about=prompts.people[name], items=tuple(found)) for name, found in items.items())
