"""Which prompts tell people apart, for whoever edits them: ``python -m personaplug_edge.demo.differ [BUNDLE] [FILE]``.

FILE holds articles to try in the place of those of prompts.json, one a line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .data import load_people, load_prompts
from .runner import NOBODY, DemoReport, run_demo


def main(bundle: str = "tiny", file: str = "") -> None:
    """Runs the demo on one thread and prints a line a prompt."""
    from ..plug import PersonaPlug

    prompts = replace(load_prompts(), headlines=())
    if file:
        prompts = replace(prompts, articles=tuple(Path(file).read_text(encoding="utf-8").split("\n")[:-1]))
    with PersonaPlug.load(bundle, threads=1) as plug:
        print("\n".join(lines(run_demo(plug, load_people(prompts), prompts))))


def lines(report: DemoReport) -> Iterator[str]:
    """How many different labels a prompt gets, nobody's, the people's, and the prompt; at the end the counts."""
    for number, (prompt, answers) in enumerate(zip(report.prompts, report.answers, strict=True), start=1):
        labels = {name: answers[name].label for name in report.columns}
        people = ", ".join(f"{name} {label}" for name, label in labels.items() if name != NOBODY)
        yield f"{len(set(labels.values()))} labels | {number:2} | nobody {labels[NOBODY]} | {people} | {prompt[:60]}"
    yield f"{report.differing} of {len(report.prompts)} prompts differ between people; {report.moved} answers moved"


if __name__ == "__main__":
    if len(sys.argv) > 3 or any(argument.startswith("-") for argument in sys.argv[1:]):
        print("usage: python -m personaplug_edge.demo.differ [BUNDLE] [FILE of articles, one a line]", file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    main(*sys.argv[1:])
