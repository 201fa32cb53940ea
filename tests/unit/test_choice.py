"""Which of the offered labels is the answer: the likeliest, or of a scale the one in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from personaplug_edge.results import Choice

SCALE = ("1", "2", "3", "4", "5")


def choice(shares: Sequence[float]) -> Choice:
    logprobs = tuple(math.log(share) - 7.0 for share in shares)
    return Choice(SCALE[int(np.argmax(shares))], SCALE, logprobs, (), 0.0)


@pytest.mark.parametrize(
    ("shares", "median"),
    [
        ((0.4, 0.02, 0.03, 0.3, 0.25), "4"),
        ((0.96, 0.01, 0.01, 0.01, 0.01), "1"),
        ((0.01, 0.01, 0.01, 0.01, 0.96), "5"),
        ((1e-9, 0.49, 1e-9, 1e-9, 0.51), "5"),
        ((0.25, 0.25, 0.25, 0.125, 0.125), "2"),
    ],
)
def test_the_median_of_a_scale(shares: Sequence[float], median: str) -> None:
    assert choice(shares).median == median


def test_no_other_label_has_a_smaller_expected_distance() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        shares = rng.dirichlet(np.full(5, 0.5)) + 1e-6
        shares /= shares.sum()
        distances = [float(shares @ np.abs(np.arange(5) - place)) for place in range(5)]
        assert distances[SCALE.index(choice(shares).median)] == pytest.approx(min(distances))
