"""A map of users: their personal embeddings in two dimensions, colored by what their histories share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import PersonaPlugError
from .groups import k_means, telling_words, usual_count
from .project import project

Color = Literal["auto", "label", "words"]
"""label: each user's commonest output; words: groups of near users, named by their words; auto: the former where
outputs are labels."""

REPEATED = 3
"""Times that outputs must occur on average to be labels: titles do once, categories often."""
NO_OUTPUT = "no output"
"""The group of users without any."""
SAME = 0.9
"""Share of users from which on a common label tells nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Portrait:
    """What a map needs of one user."""

    user: str
    items: int
    persona: NDArray[np.float32]
    """static personal embedding, (k * H,)"""
    outputs: Counter[str]
    """how often each output is in the history; "" is none"""
    words: Counter[str]
    """in how many items each word is"""


@dataclass(frozen=True, kw_only=True)
class MappedUser:
    """A user on the map."""

    user: str
    items: int
    x: float
    y: float
    group: str


@dataclass(frozen=True, kw_only=True)
class UserMap:
    """All users, in the order given."""

    users: tuple[MappedUser, ...]
    shares: tuple[float, float]
    """of the variance of the personal embeddings, in each direction"""
    color: str
    """what the groups are: "label" or "words" """
    groups: dict[str, int]
    """users by group, the largest first"""
    neighbors: float | None = None
    """with labels: share of users with one whose nearest such user, in all dimensions, has the same"""
    chance: float | None = None
    """the same of a user picked by chance"""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; ids and names of groups, no texts."""
        return asdict(self)

    def numbered(self) -> UserMap:
        """The map with numbers from 1 in the place of ids."""
        users = (replace(user, user=str(number)) for number, user in enumerate(self.users, 1))
        return replace(self, users=tuple(users))


def map_of(portraits: Sequence[Portrait], *, color: Color = "auto", groups: int = 0, seed: int = 0) -> UserMap:
    """The map of two users or more; ``groups`` of k-means, 0 for as many as suit. Raises PersonaPlugError."""
    if len(portraits) < 2:
        raise PersonaPlugError(f"expected two users with a history or more, got {len(portraits)}: a map compares them")
    rows = np.stack([portrait.persona for portrait in portraits]).astype(np.float64)
    chosen = color if color != "auto" else "label" if _has_labels(portraits) else "words"
    names = _labels(portraits) if chosen == "label" else _word_groups(portraits, rows, groups, seed)
    flat = project(rows)
    neighbors, chance = _agreement(rows, names) if chosen == "label" else (None, None)
    return UserMap(
        users=tuple(
            MappedUser(user=p.user, items=p.items, x=float(x), y=float(y), group=name)
            for p, (x, y), name in zip(portraits, flat.points, names, strict=True)
        ),
        shares=flat.shares,
        color=chosen,
        groups=dict(Counter(names).most_common()),
        neighbors=neighbors,
        chance=chance,
    )


def _has_labels(portraits: Sequence[Portrait]) -> bool:
    """Whether most items have an output, outputs repeat, and not all users have the same one most often."""
    outputs: Counter[str] = sum((p.outputs for p in portraits), Counter())
    named = outputs.total() - outputs[""]
    if 2 * named < outputs.total() or named < REPEATED * len(set(outputs) - {""}):
        return False
    most = Counter(_labels(portraits)).most_common(1)[0][1]
    return most < SAME * len(portraits)


def _labels(portraits: Sequence[Portrait]) -> list[str]:
    """Each user's commonest output; of equally common ones the first in the alphabet."""
    found = []
    for portrait in portraits:
        outputs = {name: count for name, count in portrait.outputs.items() if name}
        found.append(min(outputs, key=lambda name: (-outputs[name], name), default=NO_OUTPUT))
    return found


def _word_groups(portraits: Sequence[Portrait], rows: NDArray[np.float64], count: int, seed: int) -> list[str]:
    places = k_means(rows, count or usual_count(len(portraits)), seed).tolist()
    words = telling_words([portrait.words for portrait in portraits], places)
    names = [f"{number}: {', '.join(each)}" if each else f"{number}" for number, each in enumerate(words, 1)]
    return [names[place] for place in places]


def _agreement(rows: NDArray[np.float64], groups: Sequence[str]) -> tuple[float, float] | tuple[None, None]:
    """Of users with a label: to have none is not to be alike."""
    labeled = [place for place, name in enumerate(groups) if name != NO_OUTPUT]
    if len(labeled) < 2:
        return None, None
    rows, names = rows[labeled], [groups[place] for place in labeled]
    squares = (rows**2).sum(axis=1)
    distances = squares[:, None] - 2 * rows @ rows.T + squares[None]
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    same = float(np.mean([names[i] == names[j] for i, j in enumerate(nearest)]))
    count = len(names)
    return same, sum(n * (n - 1) for n in Counter(names).values()) / (count * (count - 1))
