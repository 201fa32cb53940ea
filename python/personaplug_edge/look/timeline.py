"""Attribution over time: where in a history the items lie that decide for a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..results import Attribution

FIRST, LAST = -62_135_596_800.0, 253_402_300_799.0
"""Seconds since 1970 of the years 1 and 9999: what a calendar shows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """A history in the order of its axis, oldest first; all arrays are (n,)."""

    attribution: tuple[Attribution, ...]
    """the items with their weights, in that order"""
    dated: bool
    """whether the axis is time: every item has one. Else it is the place in the history, from 1"""
    where: NDArray[np.float64]
    """place on the axis: seconds since 1970 UTC, or number from 1"""
    weight: NDArray[np.float64]
    """share of the personal embedding"""
    newer: NDArray[np.float64]
    """cumulative weight by age: the share of this item and all newer ones"""

    @property
    def even(self) -> float:
        """The weight that every item would have if all weighed the same."""
        return 1 / len(self.weight) if len(self.weight) else 0.0

    def heaviest(self, count: int) -> list[int]:
        """Places of the items that weigh most, by falling weight."""
        order: list[int] = np.argsort(-self.weight, kind="stable")[:count].tolist()
        return order

    def half(self) -> int:
        """How many of the newest items have half of the weight together."""
        return int((self.newer < 0.5).sum()) + 1 if len(self.newer) else 0


def timeline_of(attribution: Sequence[Attribution]) -> Timeline:
    """The timeline of all items of a history, given oldest first, as they were added."""
    times = [each.item.time for each in attribution]
    known = [time for time in times if time is not None and FIRST <= time <= LAST]
    dated = bool(times) and len(known) == len(times) and len(set(known)) > 1
    where = np.array(known if dated else range(1, len(times) + 1), dtype=np.float64)
    order = np.argsort(where, kind="stable").tolist()
    weight = np.array([attribution[place].weight for place in order], dtype=np.float64)
    return Timeline(
        attribution=tuple(attribution[place] for place in order),
        dated=dated,
        where=where[order],
        weight=weight,
        newer=weight[::-1].cumsum()[::-1],
    )
