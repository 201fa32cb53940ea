"""Quality against cost as panels: a point a method, its number beside it, and the numbers' meaning at the side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import Any

import numpy as np

from ..label_layout import place_labels
from ..plots import fix_layout
from .families import FAMILIES, family_of
from .report import TaskReport
from .tables import TITLES
from .tradeoff import COSTS, Point

NUMBER = (12.0, 9.0)
"""Room of a number beside its point: width and height in pixels at 72 a inch, for type of 7.5."""


def draw_costs(
    part: Any, reports: Sequence[TaskReport], costs: Mapping[str, Sequence[Point]], numbers: Mapping[str, int]
) -> None:
    """Fills a subfigure: a panel a cost, all with the same gains upwards, and the key on the right."""
    panels = part.subplots(1, len(costs) + 1, squeeze=False, width_ratios=[*[3.3] * len(costs), 2.0])[0]
    for panel in panels[1:-1]:
        panel.sharey(panels[0])
        panel.tick_params(labelleft=False)
    for panel, (name, points) in zip(panels[:-1], costs.items(), strict=True):
        _points(panel, points, len(reports))
        panel.set_xlabel(COSTS[name][0], fontsize=9)
    panels[0].set_ylabel(_unit(reports), fontsize=9)
    part.suptitle("Quality against cost (better: up and to the left)", fontsize=11)
    _key(panels[-1], numbers)
    fix_layout(part.figure)
    for panel, points in zip(panels[:-1], costs.values(), strict=True):
        _numbers(panel, points, numbers)


def _points(panel: Any, points: Sequence[Point], tasks: int) -> None:
    panel.axhline(0, color="black", linewidth=0.8)
    for point in points:
        family, gain = family_of(point.method), point.gain
        panel.plot([point.cost] * 2, [gain.low, gain.high], color=family.color, alpha=0.35, linewidth=1.2)
        fill = family.color if gain.tasks == tasks else "white"
        panel.plot([point.cost], [gain.value], family.marker, color=family.color, markerfacecolor=fill, markersize=5.5)
    _cost_axis(panel, [point.cost for point in points])
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _cost_axis(panel: Any, costs: Sequence[float]) -> None:
    """Logarithmic; with a place for 0 where a method costs nothing."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    positive = [cost for cost in costs if cost > 0]
    least, most, ticks = axis_of(min(positive), max(positive))
    if min(costs) == 0:
        start = 10**-0.5 * min(least, ticks[0])
        panel.set_xscale("symlog", linthresh=start, linscale=0.3)
        panel.set_xlim(-0.35 * start, most)
        ticks = [0.0, *ticks]
    else:
        panel.set_xscale("log")
        panel.set_xlim(least, most)
    panel.set_xticks(ticks)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    panel.xaxis.set_minor_locator(NullLocator())


def axis_of(least: float, most: float) -> tuple[float, float, list[float]]:
    """The ends of a logarithmic axis and its ticks, two or more: 1, 2, 5 of each decade, or decades where many."""
    decades = range(floor(log10(least)) - 1, floor(log10(most)) + 2)
    steps = (1, 2, 5) if most < 100 * least else (1,)
    every = [step * 10.0**decade for decade in decades for step in steps]
    low, high = least / 1.6, most * 1.8
    if sum(low <= tick <= high for tick in every) < 2:
        low = min(low, max(tick for tick in every if tick < least) / 1.1)
        high = max(high, min(tick for tick in every if tick > most) * 1.1)
    return low, high, [tick for tick in every if low <= tick <= high]


def short_number(value: float) -> str:
    """A tick: 0.5, 20, 3k, 1M."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def _numbers(panel: Any, points: Sequence[Point], numbers: Mapping[str, int]) -> None:
    if not points:
        return
    scale = panel.figure.dpi / 72
    place = panel.transData.transform
    spots = place([(point.cost, point.gain.value) for point in points])
    low, high = (place([(p.cost, end) for p, end in zip(points, ends, strict=True)]) for ends in _ends(points))
    bars = np.column_stack([low - [scale, 0], high + [scale, 0]])
    box = panel.get_window_extent()
    sizes = [[NUMBER[0] * scale, NUMBER[1] * scale]] * len(points)
    centers = place_labels(spots, sizes, (box.x0, box.y0, box.x1, box.y1), gap=3 * scale, obstacles=bars)
    for point, spot, center in zip(points, spots, centers, strict=True):
        shift = (center - spot) / scale
        far = float((shift**2).sum()) > 2 * NUMBER[0] ** 2
        text = panel.annotate(
            str(numbers[point.method]),
            (point.cost, point.gain.value),
            tuple(shift),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=family_of(point.method).color,
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#999999", "shrinkA": 0} if far else None,
        )
        text.set_in_layout(False)


def _ends(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.gain.low for point in points], [point.gain.high for point in points]


def _key(panel: Any, numbers: Mapping[str, int]) -> None:
    """The methods by family, with their numbers."""
    panel.set_axis_off()
    lines: list[tuple[str, str, bool]] = []
    for family in FAMILIES:
        names = [name for name in numbers if family_of(name) is family]
        if names:
            lines.append((family.name, family.color, True))
            lines += [(f"{numbers[name]:>2}  {name}", family.color, False) for name in names]
    step = 1 / max(len(lines) + 1, 16)
    for place, (text, color, head) in enumerate(lines):
        panel.text(0, 1 - place * step, text, color=color, fontsize=8, weight="bold" if head else "normal", va="top")


def _unit(reports: Sequence[TaskReport]) -> str:
    if len(reports) > 1:
        return f"mean gain over none, {len(reports)} tasks\n(unit: half the interval of none; hollow: fewer tasks)"
    metric, up = next(iter(reports[0].directions.items()))
    return f"{TITLES[metric]}: gain over none" + ("" if up else " (so much less)")
