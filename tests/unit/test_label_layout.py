"""Labels beside points: none on another, none on a point, none outside, while there is room."""

from __future__ import annotations

import numpy as np
import pytest

from personaplug_edge.label_layout import place_labels

BOUNDS = (0.0, 0.0, 400.0, 300.0)


def overlaps(centers: object, sizes: object) -> list[tuple[int, int]]:
    """Pairs of labels that cover each other."""
    apart = np.abs(np.asarray(centers)[:, None] - np.asarray(centers)[None])
    reach = (np.asarray(sizes, float)[:, None] + np.asarray(sizes, float)[None]) / 2
    cover = (apart < reach - 1e-9).all(axis=-1)
    return [(i, j) for i in range(len(cover)) for j in range(i) if cover[i, j]]


@pytest.mark.parametrize("seed", range(5))
def test_labels_keep_clear_of_each_other_and_of_points(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.uniform((20, 20), (380, 280), (20, 2))
    points[10:15] = points[10] + random.uniform(-4, 4, (5, 2))  # a crowd
    sizes = np.tile([30.0, 12.0], (20, 1))
    centers = place_labels(points, sizes, BOUNDS, gap=2)
    assert overlaps(centers, sizes) == []
    inside = np.abs(points[:, None] - centers[None]) < sizes[None] / 2
    assert not inside.all(axis=-1).any()
    assert (centers - sizes / 2 >= 0).all() and (centers + sizes / 2 <= BOUNDS[2:]).all()
    assert (centers == place_labels(points, sizes, BOUNDS, gap=2)).all()


def test_equal_points_get_labels_of_their_own() -> None:
    sizes = [[20.0, 10.0]] * 4
    centers = place_labels([[200.0, 150.0]] * 4, sizes, BOUNDS)
    assert overlaps(centers, sizes) == []
    assert np.linalg.norm(centers - [200, 150], axis=1).max() < 40


def test_labels_go_around_obstacles() -> None:
    wall = [(100.0, 0.0, 400.0, 300.0)]  # all that is right of the point
    (center,) = place_labels([[95.0, 150.0]], [[40.0, 10.0]], BOUNDS, gap=1, obstacles=wall)
    assert center[0] + 20 <= 100


def test_no_points_and_no_room() -> None:
    assert place_labels([], [], BOUNDS).shape == (0, 2)
    assert np.isfinite(place_labels([[5.0, 5.0]] * 2, [[900.0, 900.0]] * 2, BOUNDS)).all()
