"""Bootstrap intervals that resample users: the questions of one user are not independent of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import Metric, Prediction

Array = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with the percentile interval of its resamples."""

    value: float
    low: float
    high: float


class UserBootstrap:
    """The same resamples of users for every metric and method, so that differences are paired.

    ``users`` is the user id of each question, in the order that all predictions are given in.
    """

    def __init__(self, users: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        names, self._owner = np.unique(np.asarray(users), return_inverse=True)
        self.users = len(names)
        share = np.full(self.users, 1 / self.users)
        # How often each user is drawn, when as many users as there are get drawn with replacement.
        self._draws = np.random.default_rng(seed).multinomial(self.users, share, size=resamples).astype(np.float64)

    def estimate(self, metric: Metric, predictions: Sequence[Prediction]) -> Estimate:
        """A metric with its interval."""
        return _estimate(*self._values(metric, predictions))

    def difference(self, metric: Metric, method: Sequence[Prediction], baseline: Sequence[Prediction]) -> Estimate:
        """Metric of ``method`` minus that of ``baseline`` over the same questions, both of each resample."""
        value, resampled = self._values(metric, method)
        other, other_resampled = self._values(metric, baseline)
        return _estimate(value - other, resampled - other_resampled)

    def _values(self, metric: Metric, predictions: Sequence[Prediction]) -> tuple[float, Array]:
        contributions = metric.contributions(predictions)
        if len(contributions) != len(self._owner):
            raise ValueError(f"expected {len(self._owner)} predictions, got {len(contributions)}")
        sums = np.zeros((self.users, contributions.shape[1]))
        np.add.at(sums, self._owner, contributions)
        return float(metric.value(sums.sum(axis=0))), metric.value(self._draws @ sums)


def _estimate(value: float, resampled: Array) -> Estimate:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
