"""PPlug (arXiv 2409.11901): the personal embedding of a user for a request, and its static form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.embedder import UserEmbedder
from personaplug_edge.personalize.method import Contribution, Request
from personaplug_edge.personalize.past import Past
from personaplug_edge.results import Attribution

ATTRIBUTED = 50
"""History items that an attribution names at most; the rest weigh less."""


@dataclass(frozen=True)
class Persona:
    """Persona rows and where they come from."""

    rows: NDArray[np.float32]
    """(k, embedding width)"""
    weights: NDArray[np.float32]
    """(n,) the weight of each history item; empty for a cold start and for the static form"""
    cold_start: bool = False
    """True where the history was empty"""


def query_persona(
    embedder: UserEmbedder, query: NDArray[np.float32], vectors: NDArray[np.float32], projections: NDArray[np.float32]
) -> Persona:
    """Input-aware attention over the history (eqs. 4 and 5).

    Args:
        query: (d,) the request through the input encoder.
        vectors: (n, d) the history through the behavior encoder; n may be 0.
        projections: (n, k, H) the projected history.
    """
    if not len(vectors):
        return cold_start(embedder)
    result = embedder.aggregate(query, vectors, projections)
    return Persona(result.persona, result.weights)


def static_persona(embedder: UserEmbedder, total: NDArray[np.float64], count: int) -> Persona:
    """The mean of all projections at the scale of a token: the same for every request, so it can be kept.

    Args:
        total: (k, H) sum of the projected history.
        count: items in it; 0 gives the cold start.
    """
    if not count:
        return cold_start(embedder)
    mean = (total / count).astype(np.float32)[None]
    blank = np.zeros((1, embedder.width), dtype=np.float32)
    # Attention over one item weighs it 1, whatever the query: the aggregator then only scales the mean.
    return Persona(embedder.aggregate(blank[0], blank, mean).persona, np.zeros(0, dtype=np.float32))


def cold_start(embedder: UserEmbedder) -> Persona:
    """The bundle's trained rows for a user without history."""
    return Persona(embedder.cold_start, np.zeros(0, dtype=np.float32), cold_start=True)


def query(user: Past, request: Request) -> Contribution:
    """The personal embedding for this request, behind the instruction rows: the paper's method."""
    found, attribution = attribute(request.services.embedder, user, request.text, ATTRIBUTED)
    return Contribution(
        instruction=True,
        persona=found.rows,
        cold_start=found.cold_start,
        attribution=attribution,
        keeps=frozenset({"vectors", "projections"}),
    )


def attribute(
    embedder: UserEmbedder, user: Past, text: str, most: int | None
) -> tuple[Persona, tuple[Attribution, ...]]:
    """The personal embedding for a text, and the ``most`` items that weigh most in it, by falling weight; None: all
    items in the order of the history, the oldest first.

    Raises UnknownItemError where an item was deleted since its vector was read: it must not weigh in any more.
    """
    if not (len(user) and len(past := user.arrays)):
        return cold_start(embedder), ()
    found = query_persona(embedder, embedder.query(text), past.vectors, past.projections)
    places = np.arange(len(past)) if most is None else heaviest_places(found.weights, most)
    items = user.pick([int(past.ids[place]) for place in places])
    return found, tuple(Attribution(i, float(found.weights[p])) for i, p in zip(items, places, strict=True))


def static(user: Past, request: Request) -> Contribution:
    """The mean of the history, the same for every request, behind the instruction rows."""
    embedder = request.services.embedder
    found = static_persona(embedder, *user.total) if user.user is not None or len(user) else cold_start(embedder)
    return Contribution(instruction=True, persona=found.rows, cold_start=found.cold_start, keeps=frozenset({"sum"}))


def heaviest_places(weights: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the ``count`` greatest weights, by falling weight; of equal ones the older first."""
    chosen = np.arange(len(weights))
    if count < len(weights):
        chosen = np.sort(np.argpartition(-weights, count)[:count])
    return chosen[np.argsort(-weights[chosen], kind="stable")]
