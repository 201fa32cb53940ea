"""The same questions asked with the last 0, 1, 2, ... items of each history: what a history brings as it grows.

Groups of questions by the length of their histories (:mod:`.lengths`) are groups of users, too; here users and
questions stay, so that a curve is about the history alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import MethodError, PersonaPlugError
from ..personalize import registry
from .bootstrap import Estimate, UserBootstrap
from .data import Example, Task
from .methods import ALL, WRONG_USER, check_method, methods_for
from .metrics import Metric, Prediction

NO_HISTORY = frozenset({"none", "instruction", "lora", "prompt-tuning"})
"""Methods that read no history when they answer: those that train have read it before."""


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """Which methods are asked again, with how many of the latest items of each history."""

    lengths: tuple[int, ...] = ()
    """items, rising"""
    methods: tuple[str, ...] = ("pplug",)
    """their names; "all" is every one that reads a history"""

    def __post_init__(self) -> None:
        if list(self.lengths) != sorted(set(self.lengths)) or min(self.lengths, default=0) < 0:
            shown = ",".join(map(str, self.lengths))
            raise PersonaPlugError(f"expected lengths of 0 or more, rising, each once; got {shown}: write 0,1,2,5")
        for name in self.methods:
            if name != ALL:
                check_method(name)
                if not _reads_history(name):
                    raise MethodError(f"method {name!r} reads no history: expected one that does, such as pplug")

    def series(self, task: Task) -> list[Series]:
        """What is asked of a task, method by method; nothing of methods that it does not have."""
        if not self.lengths:
            return []
        names = [name for name in methods_for(task, self.methods) if _reads_history(name)]
        return [Series(name, length) for name in names for length in self.lengths]


@dataclass(frozen=True)
class Series:
    """One method asked with whole histories (``length`` None), or with at most so many of their latest items."""

    method: str
    length: int | None = None

    @property
    def name(self) -> str:
        """For file names: "pplug", "pplug.last-5"."""
        return self.method if self.length is None else f"{self.method}.last-{self.length}"

    def items(self, example: Example) -> int:
        """How many items are read of a question's history."""
        return len(example.history) if self.length is None else min(self.length, len(example.history))

    def cut(self, example: Example) -> Example:
        """The question with the latest items alone."""
        return replace(example, history=example.history[len(example.history) - self.items(example) :])


@dataclass(frozen=True, kw_only=True)
class HistoryFigure:
    """One metric of one method, every question asked with at most ``length`` items."""

    method: str
    metric: str
    length: int
    whole: int
    """questions whose history has so many items; the others count with all that they have"""
    estimate: Estimate
    gain: Estimate | None
    """the difference to the shortest length, paired; None for that one"""


def by_history(
    sizes: Sequence[int],
    answers: Mapping[str, Mapping[int, Sequence[Prediction]]],
    metrics: Sequence[Metric],
    bootstrap: UserBootstrap,
) -> tuple[HistoryFigure, ...]:
    """The figures of each method, length and metric. ``sizes`` are the items of each question's whole history."""
    return tuple(
        HistoryFigure(
            method=method,
            metric=metric.name,
            length=length,
            whole=sum(size >= length for size in sizes),
            estimate=bootstrap.estimate(metric, found),
            gain=None if length == min(each) else bootstrap.difference(metric, found, each[min(each)]),
        )
        for method, each in answers.items()
        for metric in metrics
        if not metric.needs_logprob or all(p.logprob is not None for found in each.values() for p in found)
        for length, found in each.items()
    )


def _reads_history(name: str) -> bool:
    return name == WRONG_USER or any(part.name not in NO_HISTORY for part in registry.parse(name))
