"""The methods that are compared: each maps a question to what the runtime is asked.

PPlug's own are ``query`` and ``static``; ``none`` and ``instruction`` tell what the plug adds without a history,
``wrong_user`` what it adds with somebody else's, ``bm25`` what text in the prompt does instead (LaMP, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import PersonaPlugError
from ..personalize.retrieval import TextItem, bm25_top, with_items
from .data import Example, PastItem, Task
from .lamp import query_text

LLM_METHODS = ("none", "instruction", "static", "query", "bm25", "wrong_user")
LABEL_METHODS = ("majority", "vote")
"""Those that ask no LLM and exist for tasks with labels only."""
METHODS = LLM_METHODS + LABEL_METHODS

LONG_WORDING = 60
"""Characters; a longer wording is not repeated before every retrieved item (LaMP-2N's lists all its categories)."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the runtime is asked: ``history`` is used by the personas, ``instruction`` keeps the instruction rows."""

    text: str
    history: tuple[PastItem, ...] = ()
    persona: Literal["query", "static", "off"] = "off"
    instruction: bool = True


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How ``bm25`` writes items: ``render`` an answered request, ``fits`` tells whether an input is kept whole."""

    render: Callable[[str, str], str]
    fits: Callable[[str], bool]
    items: int = 4


def wrong_history(task: Task, example: Example) -> tuple[PastItem, ...]:
    """As many items of the next user who has so many; where none has, all that the richest other user has.

    Deterministic, and never the user's own. Raises PersonaPlugError for a task with a single user.
    """
    users = list(task.users)
    start = users.index(example.user_id)
    others = users[start + 1 :] + users[:start]
    if not others:
        raise PersonaPlugError(f"{task.name}: wrong_user needs two users or more; leave it out or raise --limit")
    wanted = len(example.history)
    other = next((user for user in others if len(task.users[user]) >= wanted), "")
    other = other or max(others, key=lambda user: len(task.users[user]))
    return task.users[other][:wanted]


def request_of(method: str, task: Task, example: Example, retrieval: Retrieval) -> Request:
    """What ``method`` asks of the runtime for a question. Raises PersonaPlugError for a name outside of LLM_METHODS."""
    text, history = example.input, example.history
    if method == "none":
        return Request(text=text, instruction=False)
    if method == "instruction":
        return Request(text=text)
    if method == "static":
        return Request(text=text, history=history, persona="static")
    if method == "query":
        return Request(text=text, history=history, persona="query")
    if method == "wrong_user":
        return Request(text=text, history=wrong_history(task, example), persona="query")
    if method == "bm25":
        return Request(text=_with_retrieved(task, example, retrieval), instruction=False)
    raise PersonaPlugError(f"unknown method {method!r}; known: {', '.join(METHODS)}")


def methods_for(task: Task, chosen: Sequence[str]) -> list[str]:
    """The chosen methods that a task has (none chosen: all), in METHODS' order. Raises PersonaPlugError for others."""
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise PersonaPlugError(f"unknown method {', '.join(unknown)}; known: {', '.join(METHODS)}")
    possible = METHODS if task.labels and task.prior else LLM_METHODS  # LaMP-1's histories have no labels
    return [name for name in possible if not chosen or name in chosen]


def _with_retrieved(task: Task, example: Example, retrieval: Retrieval) -> str:
    query = query_text(example.input, task.marker)
    best = bm25_top(query, example.history, retrieval.items)
    head, found, _ = example.input.partition(task.marker)
    wording = head + found if found and len(head) <= LONG_WORDING else found

    def render(item: TextItem) -> str:
        return retrieval.render(f"{wording} {item.text}".strip(), item.output)

    return with_items(example.input, best, render, retrieval.fits)
