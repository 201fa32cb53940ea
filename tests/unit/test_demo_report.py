"""The demo with a plug without an LLM: its data, its report, its tables, its picture."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_cli_plug import FakePlug
from rich.console import Console
from test_cli import Terminal, run  # noqa: F401

from personaplug_edge.demo.data import load_people, load_prompts
from personaplug_edge.demo.differ import lines
from personaplug_edge.demo.runner import NOBODY, run_demo
from personaplug_edge.demo.show import as_json, most_disputed, show

pytest.importorskip("personaplug_edge.sampling")


def test_people_and_prompts_are_whole() -> None:
    prompts = load_prompts()
    people = load_people(prompts)
    assert len(people) >= 5 and len(prompts.articles) >= 12 and any(person.writes_headlines for person in people)
    for person in people:
        assert 20 <= len(person.items) <= 30
        assert len({item.text for item in person.items}) == len(person.items)
        assert sum(item.category in prompts.labels for item in person.items) >= 20
    assert "{article}" in prompts.category_wording and "{article}" in prompts.headline_wording


def test_the_report_counts_what_differs(tmp_path: Path) -> None:
    prompts = load_prompts()
    people = load_people(prompts)
    ticks: list[tuple[int, int]] = []
    with FakePlug(None) as plug:
        report = run_demo(plug, people, prompts, progress=lambda *now: ticks.append(now))  # type: ignore[arg-type]
    assert ticks[-1][0] == ticks[-1][1] == len(ticks)
    assert report.columns[0] == NOBODY and len(report.answers) == len(prompts.articles)
    assert 0 < report.differing <= len(prompts.articles)
    assert report.moved == sum(row[n].label != row[NOBODY].label for row in report.answers for n in report.columns[1:])
    assert all(
        len(row[name].weighed) == (0 if name == NOBODY else 3) for row in report.answers for name in report.columns
    )
    assert set(report.headlines[0]) == {NOBODY, *(person.id for person in people if person.writes_headlines)}
    for width in (80, 160):
        console = Console(width=width, file=io.StringIO(), record=True)
        show(report, console, prompt=2)
        text = console.export_text()
        assert (
            "time to first token" in text.lower() and "prompt 2" in text and max(map(len, text.splitlines())) <= width
        )
        assert all(text.count(person.id) >= 2 for person in people)
        assert ("no persona" in text) == (width == 160)  # the head of the wide table
    assert json.loads(json.dumps(as_json(report)))["differing"] == report.differing
    assert 0 <= most_disputed(report) < len(report.prompts)


def test_the_command_writes_json_and_a_picture(run: Terminal, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = run("demo", "--json", "--png", str(tmp_path / "demo.png"))
    assert code == 0 and json.loads(out)["bundle"] == "tiny" and "wrote" in err
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert not run.store.exists()
    assert run("demo", "--no-picture", "--prompt", "99")[0] == 2


def test_without_matplotlib_the_tables_remain(run: Terminal, tmp_path: Path) -> None:  # noqa: F811
    run.patch.chdir(tmp_path)
    run.patch.setitem(sys.modules, "matplotlib.figure", None)
    code, out, err = run("demo")
    assert code == 0 and "category of article" in out and "no picture" in err and "[plot]" in err
    code, _, err = run("demo", "--png", str(tmp_path / "demo.png"))
    assert code == 1 and "error: expected matplotlib" in err


def test_differ_has_a_line_a_prompt() -> None:
    prompts = load_prompts()
    with FakePlug(None) as plug:
        report = run_demo(plug, load_people(prompts), prompts)  # type: ignore[arg-type]
    found = list(lines(report))
    assert len(found) == len(prompts.articles) + 1 and found[-1].startswith(f"{report.differing} of ")
    assert all(line.split(" | ")[2] == "nobody politics" for line in found[:-1])


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["--no-such"], 2), (["tiny", "file", "more"], 2)])
def test_differ_tells_its_usage(arguments: list[str], code: int) -> None:
    command = [sys.executable, "-m", "personaplug_edge.demo.differ", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == code and done.stderr.startswith("usage: ") and done.stderr.count("\n") == 1
