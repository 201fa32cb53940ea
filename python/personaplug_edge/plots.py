"""Pictures of weights and answers. matplotlib is imported on the first call; no window, no global state."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError

if TYPE_CHECKING:
    from .demo.runner import DemoReport
    from .results import Attribution

DPI = 150
"""Dots an inch of a picture."""


def empty_figure(width: float, height: float) -> Any:
    """An empty figure, width and height in inches, drawn by Agg."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f"expected matplotlib for a picture, got {error}; pip install 'personaplug-edge[plot]'"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def fix_layout(figure: Any) -> None:
    """Lays a figure out once and for all: from here on it is known where its panels lie."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def plain(text: str, width: int, lines: int = 2) -> str:
    """The text for a label: wrapped, cut, and with nothing that matplotlib reads as a formula."""
    short = textwrap.shorten(" ".join(text.split()), width * lines, placeholder="...")
    return textwrap.fill(short, width).replace("$", r"\$")


def save_attribution(attribution: Sequence[Attribution], path: Path, *, title: str = "") -> None:
    """Horizontal bars, the heaviest item on top, written to ``path`` (PNG, or what its ending names)."""
    figure = empty_figure(9, 1.4 + 0.45 * max(1, len(attribution)))
    axes = figure.add_subplot()
    names = [
        plain(f"{each.item.output}: {each.item.text}" if each.item.output else each.item.text, 60)
        for each in attribution
    ]
    axes.barh(range(len(names)), [each.weight for each in attribution], color="#4878a8")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("weight in the personal embedding")
    axes.set_title(plain(title, 80), fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI)


def save_demo(report: DemoReport, path: Path) -> None:
    """Prompts by people: each cell the answer and its probability, colored by the label, paler when less sure."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    columns = report.columns
    colors = _label_colors(report.labels, colormaps["tab20"])
    figure = empty_figure(4.2 + 1.25 * len(columns), 1.9 + 0.62 * len(report.prompts))
    axes = figure.add_subplot()
    for row in range(len(report.prompts)):
        for column, name in enumerate(columns):
            answer = report.answers[row][name]
            share = answer.probabilities[answer.label]
            differs = name != columns[0] and answer.label != report.answers[row][columns[0]].label
            box = Rectangle(
                (column - 0.48, row - 0.46), 0.96, 0.92, facecolor=(*colors[answer.label], 0.2 + 0.8 * share)
            )
            box.set(edgecolor="black" if differs else "none", linewidth=1.6)
            axes.add_patch(box)
            axes.text(
                column,
                row,
                f"{answer.label}\n{share:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                weight="bold" if differs else "normal",
            )
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(report.prompts) - 0.5, -0.5))
    axes.set_xticks(range(len(columns)), [plain(_headed(name, report.about), 16, 3) for name in columns], fontsize=9)
    axes.set_yticks(range(len(report.prompts)), [plain(prompt, 52, 3) for prompt in report.prompts], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle("The same prompts, answered for each person (framed: another answer than for nobody)", fontsize=11)
    figure.supxlabel(report.timing_line, fontsize=9)
    figure.savefig(path, dpi=DPI)


def _label_colors(labels: Sequence[str], colors: Any) -> dict[str, tuple[float, float, float]]:
    """A color a label; the darker halves of the map's pairs first, so that few labels differ clearly."""
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    return {label: tuple(colors(order[place % 20])[:3]) for place, label in enumerate(labels)}


def _headed(name: str, about: Mapping[str, str]) -> str:
    return f"{name} - {about[name]}" if about.get(name) else name
