"""What an adaptation brought: the losses of the same dev questions in several ways, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from personaplug_edge.evaluate.bootstrap import Estimate, UserBootstrap
from personaplug_edge.evaluate.metrics import Prediction, nll

RESULT = "adapted"


class AdaptReport:
    """Losses in nats an answer, by way and task. ``users``: the user of each question, by task."""

    def __init__(self, users: Mapping[str, Sequence[str]]) -> None:
        self.losses: dict[str, dict[str, list[float]]] = {}
        self._users = [f"{task}/{user}" for task, names in users.items() for user in names]
        self._tasks = list(users)

    def add(self, way: str, losses: Mapping[str, list[float]]) -> None:
        """The losses of all questions in one more way, in the order of ``users``."""
        self.losses[way] = dict(losses)

    def mean(self, way: str, task: str | None = None) -> float:
        """The mean over a task's answers, or over all."""
        values = [loss for name in self._tasks if task in (None, name) for loss in self.losses[way][name]]
        return sum(values) / len(values)

    def difference(self, way: str) -> Estimate:
        """Adapted minus ``way``, over all answers, with the 95 % interval that resamples users."""
        return UserBootstrap(self._users).difference(nll, self._predictions(RESULT), self._predictions(way))

    def lines(self) -> list[str]:
        """The report as text: a line a way, its means by task and over all, and what adapting brought against it."""
        width = max(map(len, self.losses))
        columns = self._tasks if len(self._tasks) == 1 else [*self._tasks, "all"]
        lines = [" " * width + "".join(f"  {task:>13}" for task in columns) + "  adapted minus this, 95 %"]
        for way in self.losses:
            cells = [self.mean(way, None if task == "all" else task) for task in columns]
            lines.append(f"{way:<{width}}" + "".join(f"  {cell:13.4f}" for cell in cells) + self._told(way))
        return lines

    def facts(self) -> dict[str, Any]:
        """The report as JSON."""
        means = {way: {task: self.mean(way, task) for task in self._tasks} for way in self.losses}
        differences = {way: vars(self.difference(way)) for way in self.losses if way != RESULT}
        return {"dev_loss": means, "adapted_minus": differences, "dev_questions": len(self._users)}

    def _told(self, way: str) -> str:
        if way == RESULT:
            return ""
        found = self.difference(way)
        return f"  {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"

    def _predictions(self, way: str) -> list[Prediction]:
        losses = [loss for task in self._tasks for loss in self.losses[way][task]]
        return [
            Prediction(id="", user_id=user, gold="", text="", logprob=-loss)
            for user, loss in zip(self._users, losses, strict=True)
        ]
