"""The methods that are compared: those that users call, by the same names and combinations, and two for comparison.

``none`` and ``instruction`` tell what the plug adds without a history, ``wrong_user`` what it adds with somebody
else's; the others are :mod:`personaplug_edge.personalize`'s. ``query`` and ``static`` are PPlug's two forms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import MethodError, PersonaPlugError
from ..personalize import registry
from .data import Example, PastItem, Task

WRONG_USER = "wrong_user"
LLM_METHODS = ("none", "instruction", "static", "query", "bm25", WRONG_USER)
"""Those that are run where none is named."""
LABEL_METHODS = registry.LABEL_METHODS
"""Those that ask no LLM and exist for tasks with labels only."""
METHODS = LLM_METHODS + LABEL_METHODS

ALL = "all"
"""The name for every method, with the combinations that papers report, and those that other packages bring."""

ALL_METHODS = (
    *LLM_METHODS,
    "recency",
    "random",
    "dense",
    "query+bm25:1",
    "query+dense:1",
    "summary",
    "summary+dense",
    *LABEL_METHODS,
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the runtime is asked: by which method, and with which history."""

    method: str
    history: tuple[PastItem, ...]


def question_of(name: str, task: Task, example: Example, bm25_items: int = 4) -> Question:
    """How ``name`` asks a question."""
    if name == WRONG_USER:
        return Question(method="pplug", history=wrong_history(task, example))
    return Question(method=_numbered(name, bm25_items), history=tuple(example.history))


def identity(name: str, bm25_items: int = 4) -> tuple[tuple[str, str], ...]:
    """Equal for names that ask in the same way: "query" and "pplug", "bm25" and "bm25:4"."""
    if name == WRONG_USER:
        return ((name, ""),)
    return tuple((part.name, part.argument) for part in registry.parse(_numbered(name, bm25_items)))


def _numbered(name: str, bm25_items: int) -> str:
    """The method with the number of items where it names bm25 without one."""
    return "+".join(f"bm25:{bm25_items}" if part.strip() == "bm25" else part for part in name.split("+"))


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
    sizes: Mapping[str, int] = getattr(task.users, "sizes", None) or {u: len(items) for u, items in task.users.items()}
    other = next((user for user in others if sizes[user] >= wanted), "")
    return task.users[other or max(others, key=sizes.__getitem__)][:wanted]


def methods_for(task: Task, chosen: Sequence[str]) -> list[str]:
    """The chosen methods that a task has: METHODS where none is chosen, those first; "all" is every one.

    Raises MethodError for one that there is not.
    """
    wanted = list(chosen) or list(METHODS)
    if ALL in wanted:
        brought = [name for name in registry.known() if name not in registry.METHODS]
        wanted = [*ALL_METHODS, *brought, *(name for name in wanted if name != ALL)]
    for name in wanted:
        check_method(name)
    has_labels = bool(task.labels and task.prior)  # LaMP-1's histories have no labels
    possible = [name for name in dict.fromkeys(wanted) if has_labels or name not in LABEL_METHODS]
    return sorted(possible, key=lambda name: METHODS.index(name) if name in METHODS else len(LLM_METHODS) - 0.5)


def check_method(name: str) -> None:
    """Raises MethodError, naming what is known, for what is neither a method nor a combination of some."""
    try:
        if name != WRONG_USER:
            registry.parse(name)
    except MethodError as error:
        unknown = str(error).startswith("unknown")
        raise MethodError(f"{error}, {WRONG_USER}, {ALL}" if unknown else str(error)) from None
