"""Which prompts tell people apart: ``python -m personaplug_edge.demo.differ [BUNDLE]``, for whoever edits them."""

from __future__ import annotations

import sys

from .data import load_people, load_prompts
from .runner import NOBODY, run_demo


def main(bundle: str = "tiny") -> None:
    """One line a prompt: nobody's label, then how many people got which; at the end the counts."""
    from ..plug import PersonaPlug

    prompts = load_prompts()
    with PersonaPlug.load(bundle, threads=1) as plug:
        report = run_demo(plug, load_people(prompts), prompts)
    for number, (prompt, answers) in enumerate(zip(report.prompts, report.answers, strict=True), start=1):
        labels = {name: answers[name].label for name in report.columns}
        others = ", ".join(f"{name} {label}" for name, label in labels.items() if name != NOBODY)
        mark = "*" if len(set(labels.values()) - {labels[NOBODY]}) else " "
        print(f"{mark} {number:2} {labels[NOBODY]:>16} | {others} | {prompt[:60]}")
    print(f"{report.differing} of {len(report.prompts)} prompts differ between people; {report.moved} answers moved")


if __name__ == "__main__":
    main(*sys.argv[1:2])
