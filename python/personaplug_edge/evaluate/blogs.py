"""Texts without questions as a task: a post's first words are given, and the likelihood of its rest is measured.

A folder with ``users.jsonl`` alone becomes this task. Of a user's posts, in time order, the first 80 % are train, the
next 10 % dev and the rest test (a known user's later posts). The history of a post is all that come before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import PersonaPlugError
from .data import Example, NoQuestionError, PastItem, Task, cut_rest, spread
from .files import find_file, name_of
from .questions import read_users

GIVEN: Final = 20
"""Words of a post that are given."""
REST: Final = 5
"""Words that have to follow them; shorter posts are history only."""
HISTORY: Final = 3
"""Posts that have to come before a question, as in the other tasks' questions."""
USERS: Final = 200
"""Users that are asked, at even distances in the file: about as many questions as the other tasks have. All are known
(as the wrong user, for instance)."""

WORDING: Final = "Continue the following post in the style of its author. post:"
SHORT_WORDING: Final = "continuation of post:"


def is_blog(folder: Path) -> bool:
    """Whether a folder holds users and no questions in this project's layout."""
    return find_file(folder, "users.jsonl") is not None and find_file(folder, "questions.jsonl") is None


def split_of(number: int, count: int) -> str:
    """The split of a user's post ``number`` (from 0) of ``count``."""
    return "train" if number < count * 8 // 10 else "dev" if number < count * 9 // 10 else "test"


def read_blog(folder: Path, split: str = "dev", *, short: bool = True, limit: int = 0, sample: int = USERS) -> Task:
    """The continuations of one split, of ``sample`` users (0: all); ``limit`` takes so many questions of theirs,
    evenly spread (0: all).

    Raises PersonaPlugError where the items have outputs (their questions are missing), NoQuestionError where the split
    is empty.
    """
    users, field = read_users(folder)
    if field:
        raise PersonaPlugError(f"expected questions.jsonl in {folder}: its items have outputs ({field!r})")
    histories = {name: user.items for name, user in users.items()}
    wording = SHORT_WORDING if short else WORDING
    ids = [id for user in users.values() for id in user.ids if id]
    # Posts that each user numbers anew are named by their user, too.
    own = len(set(ids)) == len(ids)
    examples = [
        example
        for name in spread(list(histories), sample)
        for number in range(HISTORY, len(histories[name]))
        if split_of(number, len(histories[name])) == split
        if (example := _example(name, histories[name], users[name].ids[number] if own else "", number, wording))
    ]
    if not examples:
        raise NoQuestionError(f"no question of split {split!r} in {folder}: train, dev and test are known")
    return Task(
        name=name_of(folder),
        kind="continuation",
        labels=(),
        examples=tuple(spread(examples, limit)),
        users=histories,
        marker="post:",
    )


def _example(user: str, items: tuple[PastItem, ...], id: str, number: int, wording: str) -> Example | None:
    words = items[number].text.split()
    if len(words) < GIVEN + REST:
        return None
    return Example(
        id=id or f"{user}-{number}",
        user_id=user,
        input=f"{wording} {' '.join(words[:GIVEN])}",
        gold=cut_rest(" ".join(words[GIVEN:])),
        history=tuple(item for item in items[:number] if item.text),
    )
