"""``personaplug-export tiny`` from nothing to an answer: the recipe's own steps, on invented data and in small."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from personaplug_edge import PersonaPlug
from personaplug_export import cli
from personaplug_export.parity_llm import probe_prompts
from personaplug_export.tiny import build, build_encoder, build_llm, context, encoder, llm, tokenizer

USERS = 4
ITEMS = 12
TASKS = {
    "news_category": ("category", ("sport", "art")),
    "news_headline": ("title", ("A day at sea", "What the rain said")),
    "email_subject": ("title", ("Report", "Lunch")),
    "product_rating": ("score", ("1", "5")),
}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """All that the recipe reads, in its layout: four tasks, posts, general text."""
    folder = tmp_path / "data"
    words = cycle(" ".join(probe_prompts(392)).split())

    def text(count: int) -> str:
        return " ".join(islice(words, count))

    for task, (field, answers) in TASKS.items():
        users, questions = [], []
        for user in range(USERS):
            name = f"u{user}"
            history = [
                {"id": str(i), "text": text(12), "title": "", field: answers[user % 2], "date": f"2020-01-{i + 1:02}"}
                for i in range(ITEMS)
            ]
            users.append({"user_id": name, "history": history})
            for number, split in ((4, "train"), (8, "train"), (11, "dev")):
                question = {"id": f"{name}-{number}", "user_id": name, "split": split, "n_history": number}
                asked = f"{task.replace('_', ' ')} of text: {text(12)}"
                questions.append({**question, "input": asked, "short_input": asked, "output": answers[user % 2]})
        write(folder / task / "users.jsonl.xz", users)
        write(folder / task / "questions.jsonl.xz", questions)
    posts = [{"user_id": f"b{b}", "history": [{"id": str(i), "text": text(45)} for i in range(10)]} for b in range(3)]
    write(folder / "blog_posts" / "users.jsonl.xz", posts)
    write(folder / "general_text" / "film_reviews.jsonl.xz", [{"text": text(30), "rating": r} for r in range(1, 11)])
    with lzma.open(folder / "general_text" / "blogs.txt.xz", "wt", encoding="utf-8") as file:
        file.writelines(text(60) + "\n" for _ in range(80))
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe's sizes, a thousandth of what they are."""
    monkeypatch.setattr(encoder, "VOCABULARY", 300)
    monkeypatch.setattr(build_encoder, "HELD_OUT", 20)
    monkeypatch.setattr(tokenizer, "VOCABULARY", 420)
    monkeypatch.setattr(llm, "VOCABULARY", 420)
    monkeypatch.setattr(build_llm, "RAW_ROWS", 2)
    monkeypatch.setattr(build_llm, "TASK_STEPS", 3)
    monkeypatch.setattr(build_llm, "SHARES", dict.fromkeys(build_llm.SHARES, 6))
    monkeypatch.setattr(context, "WITH_ROWS", dict.fromkeys(context.WITH_ROWS, 6))
    monkeypatch.setattr(context, "WITH_TEXT", dict.fromkeys(context.WITH_TEXT, 6))
    monkeypatch.setattr(build, "PLUG", replace(build.PLUG, steps=3, batch=4))


@pytest.mark.usefixtures("small", "llama_cpp")
def test_the_recipe_makes_a_bundle_that_answers(data: Path, tmp_path: Path, teacher_folder: Path) -> None:
    out = tmp_path / "out"
    arguments = ["tiny", str(data), str(teacher_folder), str(out), "--raw-tokens", "3000"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    manifest = json.loads((out / "tiny" / "bundle.json").read_text())
    assert manifest["measured"]["raw tokens read by the LLM"] == 3000
    with PersonaPlug.load(out / "tiny", store=tmp_path / "store.sqlite3", threads=1) as plug:
        plug.user("anna").remember_all([("the sea at night", "sport"), ("rain over the hills", "art")])
        reply = plug.generate("news category of text: the sea", user="anna")
        assert len(reply.attribution) == 2 and reply.tokens
    trained = {path: path.read_bytes() for path in (out / "llm").iterdir()}
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0  # what is there stays as it is
    assert {path: path.read_bytes() for path in (out / "llm").iterdir()} == trained
