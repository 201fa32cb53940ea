"""The picture of a timeline: every item's weight over time, and below it how much lies in what is new."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ..label_layout import place_labels
from ..plots import DPI, empty_figure, fix_layout, plain
from .colors import OTHER_COLOR, colors_of
from .timeline import Timeline

LABELED = 6
"""Items that are named."""
WIDEST = 34
"""Characters of a name."""


def save_timeline(timeline: Timeline, path: Path, *, title: str = "") -> None:
    """Writes the picture (PNG, or what the ending names). Raises MissingExtraError without matplotlib."""
    figure = empty_figure(10, 6.2)
    from matplotlib.ticker import PercentFormatter

    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    where = _axis(timeline)
    _weights(top, timeline, where)
    _cumulated(bottom, timeline, where)
    bottom.set_xlabel("" if timeline.dated else "place in the history (1: the oldest)", fontsize=9)
    for panel in (top, bottom):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.yaxis.label.set_size(9)
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    figure.suptitle(plain(title, 100), fontsize=10, x=0.01, ha="left")
    fix_layout(figure)
    _name_heaviest(top, timeline, where)
    figure.savefig(path, dpi=DPI)


def _axis(timeline: Timeline) -> Any:
    if not timeline.dated:
        return timeline.where
    start = datetime(1970, 1, 1, tzinfo=timezone.utc)  # fromtimestamp() knows no date before it on some systems
    return np.array([start + timedelta(seconds=float(second)) for second in timeline.where])


def _weights(panel: Any, timeline: Timeline, where: Any) -> None:
    outputs = [each.item.output for each in timeline.attribution]
    colors = colors_of([output for output, _ in Counter(filter(None, outputs)).most_common()])
    shown = [colors.get(output, OTHER_COLOR) for output in outputs]
    panel.vlines(where, 0, timeline.weight, colors=shown, linewidth=1, alpha=0.5)
    panel.scatter(where, timeline.weight, c=shown, s=14, zorder=3)
    panel.axhline(timeline.even, color="black", linewidth=0.8, linestyle=":")
    panel.annotate("all alike", (1, timeline.even), (-2, 2), xycoords=("axes fraction", "data"), **_small("right"))
    panel.set_ylim(0, 1.3 * float(timeline.weight.max(initial=1e-9)))
    panel.set_ylabel("weight in the personal embedding")
    if 1 < len(set(outputs)) and len(colors) <= len(set(outputs)) <= 2 * len(outputs) / 3:
        handles = [panel.scatter([], [], color=color, s=14, label=plain(name, 24, 1)) for name, color in colors.items()]
        panel.legend(handles=handles, fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _cumulated(panel: Any, timeline: Timeline, where: Any) -> None:
    count = len(timeline.weight)
    even = np.arange(count, 0, -1) / max(count, 1)
    panel.step(where, timeline.newer, where="pre", color="#0072b2", linewidth=1.5, label="this request")
    panel.step(where, even, where="pre", color="black", linewidth=0.8, linestyle=":", label="all alike")
    panel.set_ylim(0, 1.05)
    panel.set_ylabel("share of what is\nas new or newer")
    panel.legend(fontsize=7, frameon=False, loc="lower left")


def _name_heaviest(panel: Any, timeline: Timeline, where: Any) -> None:
    chosen = timeline.heaviest(LABELED)
    if not chosen:
        return
    scale = panel.figure.dpi / 72
    numbers = panel.convert_xunits(where)
    every = panel.transData.transform(np.column_stack([np.asarray(numbers, dtype=np.float64), timeline.weight]))
    spots = every[chosen]
    names = [plain(timeline.attribution[i].item.text, WIDEST, 1) for i in chosen]
    sizes = [(4.1 * scale * len(name.replace("\\$", "$")) + 4 * scale, 10 * scale) for name in names]
    box = panel.get_window_extent()
    stems = np.column_stack([every[:, 0] - scale, np.full(len(every), box.y0), every[:, 0] + scale, every[:, 1]])
    dots = np.column_stack([every - 3 * scale, every + 3 * scale])
    bounds = (box.x0, box.y0, box.x1, box.y1)
    centers = place_labels(spots, sizes, bounds, gap=4 * scale, obstacles=np.concatenate([stems, dots]))
    for i, name, spot, center in zip(chosen, names, spots, centers, strict=True):
        label = panel.annotate(
            name,
            (where[i], timeline.weight[i]),
            tuple((center - spot) / scale),
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#888888"},
            **_small("center"),
        )
        label.set_in_layout(False)


def _small(align: str) -> dict[str, Any]:
    return {
        "textcoords": "offset points",
        "fontsize": 7,
        "ha": align,
        "va": "center" if align == "center" else "bottom",
    }
