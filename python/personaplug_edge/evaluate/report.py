"""From predictions to figures: every metric with its interval, the paired differences that carry the claims, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .bootstrap import LEVEL, RESAMPLES, Estimate, UserBootstrap
from .costs import Cost, cost_of
from .lengths import LengthFigure, by_length
from .metrics import Metric, Prediction, metrics_of
from .runner import TaskRun
from .truncated import HistoryFigure, by_history

FORMAT = 1
OWN = ("pplug", "query")
"""The first of these that was run is compared with every other method, as every method is with ``none``."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric of one method."""

    method: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``method`` minus ``baseline`` in a metric, over the same questions."""

    method: str
    baseline: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class TaskReport:
    """All figures of one task; ``directions`` tells of each metric whether higher is better."""

    task: str
    questions: int
    users: int
    methods: tuple[str, ...]
    directions: Mapping[str, bool]
    figures: tuple[Figure, ...]
    differences: tuple[Difference, ...]
    costs: Mapping[str, Cost]
    by_length: tuple[LengthFigure, ...] = ()
    by_history: tuple[HistoryFigure, ...] = ()

    def figure(self, method: str, metric: str) -> Estimate | None:
        """A figure; None where a method has no such metric (a vote has no likelihood)."""
        return next((f.estimate for f in self.figures if (f.method, f.metric) == (method, metric)), None)


def report_of(run: TaskRun, *, resamples: int = RESAMPLES, seed: int = 0) -> TaskReport:
    """The figures of one task's run, intervals over ``resamples`` resamples of its users."""
    task = run.task
    first: Sequence[Prediction] = next(iter(run.predictions.values()), ())
    bootstrap = UserBootstrap([prediction.user_id for prediction in first], resamples=resamples, seed=seed)
    metrics = metrics_of(task.kind, task.labels)
    lengths = [len(example.history) for example in task.examples]
    return TaskReport(
        task=task.name,
        questions=len(first),
        users=bootstrap.users,
        methods=tuple(run.predictions),
        directions={metric.name: metric.higher_is_better for metric in metrics},
        figures=tuple(
            Figure(method=method, metric=metric.name, estimate=bootstrap.estimate(metric, predictions))
            for method, predictions in run.predictions.items()
            for metric in metrics
            if _has(run, metric, method)
        ),
        differences=tuple(
            Difference(
                method=method,
                baseline=baseline,
                metric=metric.name,
                estimate=bootstrap.difference(metric, run.predictions[method], run.predictions[baseline]),
            )
            for method, baseline in _pairs(list(run.predictions))
            for metric in metrics
            if _has(run, metric, method, baseline)
        ),
        costs={method: cost for method, answers in run.predictions.items() if (cost := cost_of(answers)).known},
        by_length=by_length(lengths, run.predictions, _shown(metrics), resamples=resamples, seed=seed),
        by_history=by_history(lengths, run.truncated, _shown(metrics), bootstrap),
    )


def to_json(reports: Sequence[TaskReport], about: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object of all reports; ``about`` (bundle, split, versions, ...) is put beside them."""
    return {"format": FORMAT, "interval": LEVEL, **about, "tasks": [asdict(report) for report in reports]}


def _shown(metrics: Sequence[Metric]) -> list[Metric]:
    """The first metric and the likelihood per token."""
    return list(dict.fromkeys([metrics[0], *(metric for metric in metrics if metric.name == "nll_per_token")]))


def _pairs(methods: list[str]) -> list[tuple[str, str]]:
    pairs = [(method, "none") for method in methods if method != "none" and "none" in methods]
    own = next((method for method in OWN if method in methods), None)
    return pairs + [(own, method) for method in methods if own and method not in (own, "none")]


def _has(run: TaskRun, metric: Metric, *methods: str) -> bool:
    known = (prediction.logprob is not None for method in methods for prediction in run.predictions[method])
    return not metric.needs_logprob or all(known)
