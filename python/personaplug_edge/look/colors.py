"""Colors of groups: ten that are told apart, gray for the rest."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito, "Color Universal Design", 2008, without black; then four that keep away from those.
COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#b8a000",
    "#7a4fa3",
    "#8c5109",
    "#b2182b",
)
OTHER_COLOR = "#aaaaaa"


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """A color each for the first names of a list, the commonest first; the others are OTHER_COLOR's."""
    return dict(zip(dict.fromkeys(names), COLORS, strict=False))
