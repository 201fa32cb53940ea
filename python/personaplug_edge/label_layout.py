"""Where labels of points go so that they cover neither each other nor the points: greedy, deterministic, any units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RINGS = (0.0, 0.6, 1.2, 2.0, 3.0, 4.5, 6.5, 9.0)
"""Distances that are tried, beyond the one where a label touches its point, in heights of a label."""
DIRECTIONS = 16
"""Directions that are tried at each distance, from up right on."""


def place_labels(
    points: ArrayLike,
    sizes: ArrayLike,
    bounds: tuple[float, float, float, float],
    *,
    gap: float = 0.0,
    obstacles: ArrayLike = (),
) -> Array:
    """Centers (n, 2) of labels with ``sizes`` (n, 2) beside ``points`` (n, 2), all in one unit, such as pixels.

    Each label takes the nearest free place within ``bounds`` (left, bottom, right, top), ``gap`` away from what is
    there and from ``obstacles`` (m, 4), boxes like ``bounds``; where none is free, the one that covers least. Points in
    crowded places choose first.
    """
    spots = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    extents = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    dots = [_box(spot, np.full(2, 2 * gap)) for spot in spots]
    dots += list(np.asarray(obstacles, dtype=np.float64).reshape(-1, 4))
    centers, taken = np.zeros_like(spots), list[Array]()
    for place in _crowded_first(spots):
        tried = _candidates(spots[place], extents[place], gap)
        costs = [_covered(_box(center, extents[place] + gap), [*dots, *taken], bounds) for center in tried]
        best = int(np.argmin(costs))  # the first of equal ones, the nearest
        centers[place] = tried[best]
        taken.append(_box(tried[best], extents[place]))
    return centers


def _candidates(spot: Array, size: Array, gap: float) -> list[Array]:
    turns = np.pi / 4 + 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    found = []
    for ring in RINGS:
        for turn in turns:
            way = np.array([np.cos(turn), np.sin(turn)])
            # So far that the label's edge, not its center, is at the ring.
            reach = min(h / abs(w) for h, w in zip(size / 2 + gap, way, strict=True) if abs(w) > 1e-9)
            found.append(spot + way * (reach + gap + ring * size[1]))
    return found


def _crowded_first(spots: Array) -> Sequence[int]:
    if len(spots) < 2:
        return range(len(spots))
    distances = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
    scale = np.median(distances) or 1.0
    order: list[int] = np.argsort(-np.exp(-distances / (0.1 * scale)).sum(axis=1), kind="stable").tolist()
    return order


def _box(center: Array, size: Array) -> Array:
    return np.concatenate([center - size / 2, center + size / 2])


def _shared(one: Array, other: Array) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.clip(sides, 0, None)))


def _covered(box: Array, others: Sequence[Array], bounds: tuple[float, float, float, float]) -> float:
    inside = np.array([max(box[0], bounds[0]), max(box[1], bounds[1]), min(box[2], bounds[2]), min(box[3], bounds[3])])
    whole = float(np.prod(box[2:] - box[:2]))
    outside = whole - float(np.prod(np.clip(inside[2:] - inside[:2], 0, None)))
    if not len(others):
        return 10 * outside
    stack = np.stack(others)
    sides = np.minimum(box[2:], stack[:, 2:]) - np.maximum(box[:2], stack[:, :2])
    return 10 * outside + float(np.prod(np.clip(sides, 0, None), axis=1).sum())
