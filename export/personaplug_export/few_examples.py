"""Few examples of many: drawn evenly over users, so that one of a thousand questions counts as one of two does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from personaplug_edge.evaluate.data import Task
from personaplug_edge.evaluate.discover import read_tasks


def draw_evenly(users: Sequence[str], count: int, seed: int) -> list[int]:
    """Indices of ``count`` questions, given the user of each, in order; all of them where there are fewer.

    Users take turns: nobody has two more than another who has questions left. Who comes first and which of a user's
    questions are taken is drawn with ``seed``.
    """
    order = np.random.default_rng(seed).permutation(len(users))
    taken: dict[str, int] = {}
    turns = np.zeros(len(users), dtype=int)
    for index in order:
        turns[index] = taken.get(users[index], 0)
        taken[users[index]] = turns[index] + 1
    return sorted(int(i) for i in order[np.argsort(turns[order], kind="stable")][:count])


def few_examples(
    folders: Sequence[Path], shares: Mapping[str, float], split: str, count: int, seed: int
) -> dict[str, Task]:
    """The tasks with ``count`` questions in all, in proportion to ``shares``; at least one a task.

    A task is read twice, and only what is drawn is kept.
    """
    tasks = [task for folder in folders for task in read_tasks(folder, split=split)]
    whole = sum(shares.get(task.name, 1.0) for task in tasks)
    drawn = {}
    for task in tasks:
        wanted = max(1, round(count * shares.get(task.name, 1.0) / whole))
        chosen = set(draw_evenly([q.user_id for q in task.examples], wanted, seed))
        drawn[task.name] = replace(task, examples=[q for index, q in enumerate(task.examples) if index in chosen])
    return drawn
