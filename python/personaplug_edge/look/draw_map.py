"""The picture of a map of users: ids or numbers, never their texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..label_layout import place_labels
from ..plots import DPI, empty_figure, fix_layout, plain
from .colors import OTHER_COLOR, colors_of
from .user_map import UserMap

MOST_NAMED = 120
"""Users up to which each one's id stands on the map: more cannot be read."""
LONGEST_ID = 16


def save_map(made: UserMap, path: Path, *, title: str = "", named: bool = True) -> None:
    """Writes the picture (PNG, or what the ending names). Raises MissingExtraError without matplotlib."""
    figure = empty_figure(10, 7)
    panel = figure.add_subplot()
    colors = colors_of(list(made.groups))
    points = np.array([(user.x, user.y) for user in made.users])
    for group, count in list(made.groups.items())[: len(colors)]:
        _scatter(panel, made, group, colors[group], f"{plain(group, 28, 2)} ({count})")
    rest = [group for group in made.groups if group not in colors]
    for number, group in enumerate(rest):
        users = sum(made.groups[each] for each in rest)
        _scatter(panel, made, group, OTHER_COLOR, "" if number else f"{len(rest)} others ({users})")
    heading = "commonest label" if made.color == "label" else "nearest users, by their words"
    panel.legend(
        title=heading,
        alignment="left",
        title_fontsize=8,
        fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    panel.set_xlabel(f"first direction: {made.shares[0]:.0%} of the variance", fontsize=9)
    panel.set_ylabel(f"second: {made.shares[1]:.0%}", fontsize=9)
    panel.set_aspect("equal", adjustable="datalim")
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title(plain(title, 100), fontsize=10, loc="left")
    if named and len(made.users) <= MOST_NAMED:
        fix_layout(figure)
        _name(panel, made, points, colors)
    figure.savefig(path, dpi=DPI)


def describe(made: UserMap) -> str:
    """The map in a sentence: how many users, what the picture shows, and whether neighbors are alike."""
    text = f"{len(made.users)} users; the picture shows {sum(made.shares):.0%} of the variance of their embeddings"
    if made.neighbors is None or made.chance is None:
        return text
    return f"{text}; the nearest user has the same label for {made.neighbors:.0%} (by chance {made.chance:.0%})"


def _scatter(panel: Any, made: UserMap, group: str, color: str, label: str) -> None:
    users = [user for user in made.users if user.group == group]
    sizes = [10 + 4 * min(user.items, 400) ** 0.5 for user in users]
    panel.scatter(
        [user.x for user in users],
        [user.y for user in users],
        sizes,
        color=color,
        alpha=0.8,
        linewidth=0,
        label=label or "_",
    )


def _name(panel: Any, made: UserMap, points: Any, colors: dict[str, str]) -> None:
    scale = panel.figure.dpi / 72
    spots = panel.transData.transform(points)
    names = [plain(user.user, LONGEST_ID, 1) or "?" for user in made.users]
    sizes = [(3.6 * scale * len(name) + 2 * scale, 7 * scale) for name in names]
    box = panel.get_window_extent()
    centers = place_labels(spots, sizes, (box.x0, box.y0, box.x1, box.y1), gap=3 * scale)
    for user, name, spot, center in zip(made.users, names, spots, centers, strict=True):
        shift = (center - spot) / scale
        far = float(np.hypot(*shift)) > 3.6 * len(name) / 2 + 12
        label = panel.annotate(
            name,
            (user.x, user.y),
            tuple(shift),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=6,
            color=colors.get(user.group, "#777777"),
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#bbbbbb"} if far else None,
        )
        label.set_in_layout(False)
