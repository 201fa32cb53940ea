"""The page of results: ``python benchmarks/report.py RESULTS`` writes docs/benchmarks.md and its pictures.

RESULTS is the folder that run_all.py wrote. Every JSON file there that has ``tables`` and ``goals`` gets a part; what
is to be said of a figure that was missed stands in benchmarks/notes.md, by benchmark.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import ROOT
from pictures import draw

PARTS = {
    "decode": "One sequence",
    "time_to_first_token": "Time to first token",
    "many_users": "Many users at once",
    "adapter_swap": "Adapters",
    "history_intake": "History intake",
    "history_growth": "Long histories, and bytes stored",
    "personal_embedding": "The personal embedding alone",
    "memory": "Memory and start",
    "scale": "Scale",
}
"""Headings by benchmark, in the order of the page; what is not named comes last under its own name."""
INTRODUCTION = """# Benchmarks

Ours and a peer in one run, on the same model, threads and prompts: they take turns within each round, every other round
in reverse, and the median over the rounds is given (of a ratio: the median of the rounds' ratios). `tiny`, `135m` and
`1.1b` are Llama shapes with random weights in Q8_0 that the benchmarks make themselves. Everything below was measured
on {processor}, {cores} cores, llama-cpp-python {llama}, no GPU; load average {load} when the first began. One command
runs all of it and writes this page and its pictures:

    {command}
"""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Reports by benchmark, in the order of PARTS."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text())
        if "tables" in report:
            found[str(report["benchmark"])] = report
    order = [*PARTS, *(name for name in found if name not in PARTS)]
    return {name: found[name] for name in order if name in found}


def page(reports: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """The page in Markdown; ``pictures`` and ``notes`` by benchmark."""
    machine = next(iter(reports.values()))["machine"]
    start = INTRODUCTION.format(
        processor=machine["processor"],
        cores=machine["cores"],
        llama=machine["packages"]["llama-cpp-python"],
        load=f"{machine['load_average']:.1f}",
        command="python benchmarks/run_all.py results && python benchmarks/report.py results",
    )
    goals = [(name, each) for name, report in reports.items() for each in report.get("goals", ())]
    met = sum(each["met"] for _, each in goals)
    parts = [start, f"{met} of {len(goals)} goals are met; what is missed is marked, and said below its table.\n"]
    for name, report in reports.items():
        parts.append(f"## {PARTS.get(name, name)}\n")
        parts.append(f"    {command(str(report['command']))}\n")
        if name in pictures:
            parts.append(f"![{PARTS.get(name, name)}]({pictures[name]})\n")
        parts += [_table(each["title"], each["columns"], each["rows"]) for each in report["tables"]]
        if report.get("goals"):
            rows = [[g["what"], g["goal"], f"{g['figure']:g}", verdict(g)] for g in report["goals"]]
            parts.append(_table("", ["goal", "", "figure", ""], rows))
        if name in notes:
            parts.append(notes[name] + "\n")
    return "\n".join(parts)


def verdict(goal: Mapping[str, Any]) -> str:
    """Met, or missed by how much of the goal."""
    if goal["met"]:
        return "met"
    wanted = float(str(goal["goal"]).split()[1])
    return f"**missed by {abs(goal['figure'] - wanted) / abs(wanted):.1%}**" if wanted else "**missed**"


def command(line: str) -> str:
    """The command as a reader would type it: folders of whoever ran it left out."""
    return re.sub(
        r"--(json|folder|c-loop|c-batched)[ =]\S+", lambda m: "--json out.json" if m[1] == "json" else "", line
    )


def read_notes(path: Path) -> dict[str, str]:
    """Paragraphs by benchmark, from parts that begin with ``## name``."""
    text = path.read_text() if path.exists() else ""
    pairs = (part.partition("\n") for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:])
    return {name.strip(): body.strip() for name, _, body in pairs if body.strip()}


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    lines = [f"{title}:\n"] if title else []
    lines.append("| " + " | ".join(columns) + " |")
    lines.append("| " + " | ".join(["---", *["---:"] * (len(columns) - 1)]) + " |")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", type=Path, help="folder of JSON files")
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks.md", help="the page")
    options.add_argument("--notes", type=Path, default=ROOT / "benchmarks" / "notes.md")
    given = options.parse_args()
    reports = read(given.results)
    if not reports:
        raise SystemExit(
            f"expected reports in {given.results}, found none; python benchmarks/run_all.py {given.results}"
        )
    pictures = {}
    for name, report in reports.items():
        picture = given.out.with_name(f"benchmarks-{name.replace('_', '-')}.png")
        if draw(name, report, picture):
            pictures[name] = picture.name
    given.out.write_text(page(reports, pictures, read_notes(given.notes)))
    print(f"{given.out} and {len(pictures)} pictures")


if __name__ == "__main__":
    main()
