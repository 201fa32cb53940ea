"""What users share: groups of near ones by k-means, and the words that set a group apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

STARTS, ROUNDS = 10, 100
"""Beginnings of k-means, of which the best is kept, and rounds of each at most."""

PRIOR = 500.0
"""Weight of all histories together against a group's own words (Monroe et al. 2008, section 3.5.1)."""
LEAST_Z = 1.96
"""Standard errors by which a group must differ in a word that names it."""
SHARED_BY = 1 / 3
"""Share of a group's users that must have a word, and never one alone: a name is what they share, and nobody's own."""
FAMILIAR = 0.5
"""Share of all other users from which on a word is everybody's ("your", "these"), however much more it is used here."""

Places = NDArray[np.intp]


def k_means(rows: NDArray[Any], count: int, seed: int = 0) -> Places:
    """The group of each row, (n,), at most ``count`` groups, the largest first; the same for the same seed.

    Lloyd's rounds from STARTS beginnings chosen as k-means++ does (Arthur and Vassilvitskii 2007).
    """
    data = np.asarray(rows, dtype=np.float64)
    count = min(count, len(np.unique(data, axis=0))) if len(data) else 0
    if count < 2:
        return np.zeros(len(data), dtype=np.intp)
    random = np.random.default_rng(seed)
    runs = [_lloyd(data, _beginning(data, count, random)) for _ in range(STARTS)]
    _, found = min(runs, key=lambda run: run[0])
    order = [group for group, _ in Counter(found.tolist()).most_common()]
    return np.array([order.index(group) for group in found], dtype=np.intp)


def usual_count(users: int) -> int:
    """Groups that suit so many users: few enough to be told apart."""
    return max(1, min(8, round(sqrt(users / 2))))


def words_of(texts: Iterable[str]) -> Counter[str]:
    """In how many texts each word stands; a word has three letters or more."""
    return Counter(word for text in texts for word in set(_WORD.findall(text.casefold())))


def telling_words(words: Sequence[Counter[str]], groups: Sequence[int], most: int = 4) -> list[list[str]]:
    """For each group the words that set it apart from the others, most telling first; ``words`` are each user's.

    Weighted log-odds with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin' Words", eq. 22).
    """
    whole: Counter[str] = Counter()
    inside = [Counter[str]() for _ in range(max(groups, default=-1) + 1)]
    users = [Counter[str]() for _ in inside]
    for each, group in zip(words, groups, strict=True):
        whole.update(each)
        inside[group].update(each)
        users[group].update(each.keys())
    sizes, total = Counter(groups), whole.total()
    spread = sum(users, Counter[str]())
    found = []
    for group, own in enumerate(inside):
        needed, others = max(2.0, SHARED_BY * sizes[group]), len(groups) - sizes[group]
        scores = {
            word: _z(own[word], own.total(), whole[word] - own[word], total - own.total(), PRIOR * whole[word] / total)
            for word in own
            if users[group][word] >= needed and spread[word] - users[group][word] <= FAMILIAR * others
        }
        best = sorted(scores, key=lambda word: (-scores[word], word))[:most]
        found.append([word for word in best if scores[word] >= LEAST_Z])
    return found


_WORD = re.compile(r"[^\W\d_]{3,}")


def _z(own: int, own_total: int, other: int, other_total: int, prior: float) -> float:
    """How many standard errors a word is commoner here than there."""
    here, there = own + prior, other + prior
    rest_here, rest_there = own_total + PRIOR - here, other_total + PRIOR - there
    if rest_here <= 0 or rest_there <= 0:  # there is no other word
        return 0.0
    odds = log(here / rest_here) - log(there / rest_there)
    return odds / sqrt(1 / here + 1 / there)


def _beginning(data: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    centers = [data[random.integers(len(data))]]
    nearest = ((data - centers[0]) ** 2).sum(axis=1)
    while len(centers) < count:
        # There are so many different rows, so that some are away from every center.
        centers.append(data[random.choice(len(data), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, ((data - centers[-1]) ** 2).sum(axis=1))
    return np.array(centers)


def _lloyd(data: NDArray[np.float64], centers: NDArray[np.float64]) -> tuple[float, Places]:
    squares = (data**2).sum(axis=1)
    found = np.full(len(data), -1, dtype=np.intp)
    for _ in range(ROUNDS):
        # |x - c|^2 without (n, k, d) in memory.
        distances = squares[:, None] - 2 * data @ centers.T + (centers**2).sum(axis=1)
        new = distances.argmin(axis=1)
        if (new == found).all():
            break
        found = new
        for group in np.unique(found):  # an empty group keeps its center
            centers[group] = data[found == group].mean(axis=0)
    return float(distances.min(axis=1).sum()), found
