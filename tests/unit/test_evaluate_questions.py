"""Questions of this project's layout that would be dropped, mixed up or found broken in the middle of a run."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest
from test_evaluate_data import edit, make_task, without

from personaplug_edge.errors import PersonaPlugError, TextError
from personaplug_edge.evaluate.questions import read_task, read_users


def changed(folder: Path, number: int, **fields: Any) -> Path:
    """A task's folder, one question of which (from 1) has other fields; None takes a field away."""
    path = make_task(folder) / "questions.jsonl"

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **fields} if place == number else row for place, row in enumerate(rows, 1)]

    edit(path, change)
    return folder


def test_a_question_without_a_split_is_not_dropped(tmp_path: Path) -> None:
    folder = changed(tmp_path / "t", 3, split=None)
    with pytest.raises(TextError, match=r"questions\.jsonl: question 3 \(id 'ben-3'\) lacks 'split', which other"):
        read_task(folder)
    edit(folder / "questions.jsonl", lambda rows: without("split")(rows[:1]) + rows[1:2])
    with pytest.raises(TextError, match=r"question 1 \(id 'anna-3'\) lacks 'split'"):
        read_task(folder)
    edit(folder / "questions.jsonl", lambda rows: [{**row, "split": None} for row in rows])
    assert len(read_task(folder).examples) == 2  # none of them names one
    edit(folder / "questions.jsonl", lambda rows: [])
    with pytest.raises(PersonaPlugError, match="it has no question"):
        read_task(folder)


@pytest.mark.parametrize("value", [None, ["a"], True])
def test_an_id_that_is_no_text_is_named_by_its_number(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TextError, match=r"questions\.jsonl: question 4: expected 'id' to be a text, got"):
        read_task(changed(tmp_path / "t", 4, id=value))
    folder = make_task(tmp_path / "u")
    edit(folder / "users.jsonl", lambda rows: [rows[0], {**rows[1], "user_id": value}])
    with pytest.raises(TextError, match=r"users\.jsonl: user 2: expected 'user_id' to be a text, got"):
        read_task(folder)


def test_ids_can_be_written_to_a_file(tmp_path: Path) -> None:
    folder = changed(tmp_path / "t", 2, id="a\ud83d", user_id="anna")
    assert read_task(folder).examples[0].id == "a\ufffd"
    items = [{"id": "a\ud83d", "text": "x"}] * 5
    edit(folder / "users.jsonl", lambda rows: [{**row, "history": items} for row in rows])
    with pytest.raises(TextError, match="its own item is among the 4 of its profile"):
        read_task(folder)


def test_an_item_without_an_id_is_nobodys(tmp_path: Path) -> None:
    folder = changed(tmp_path / "t", 2, id="None")
    edit(folder / "users.jsonl", lambda rows: [{**row, "history": [{"id": None, "text": "x"}] * 5} for row in rows])
    assert len(read_task(folder).examples[0].history) == 4


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"short_input": "   "}, "short_input"),
        ({"short_input": "", "input": ""}, "input"),
        ({"short_input": None, "input": "\n"}, "input"),
    ],
)
def test_a_blank_question_is_found_before_the_run(tmp_path: Path, fields: dict[str, Any], field: str) -> None:
    folder = changed(tmp_path / "t", 6, **fields)
    with pytest.raises(TextError, match=rf"questions\.jsonl: question 6 \(id 'cleo-4'\): '{field}' is empty"):
        read_task(folder)


def test_an_empty_short_input_is_none(tmp_path: Path) -> None:
    folder = changed(tmp_path / "news_category", 2, short_input="")
    assert read_task(folder).examples[0].input == "category of article: anna asks 4"


def test_the_prior_knows_no_answer(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t", labels=["o0", "o1"])
    first = {"anna": "o1", "ben": "o1", "cleo": "o0"}
    items = [{"text": "x", "category": "o0"}] * 4

    def begin(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**row, "history": [{"id": f"{row['user_id']}-4", "text": "x", "category": first[row["user_id"]]}, *items]}
            for row in rows
        ]

    def ask(counts: dict[str, int]) -> str:
        users = [name for name in first if name in counts]
        rows = [{"id": f"{name}-q", "user_id": name, "output": "o1", "input": "of: x"} for name in users]
        edit(folder / "questions.jsonl", lambda _: [{**row, "n_history": counts[row["user_id"]]} for row in rows])
        return read_task(folder).prior

    edit(folder / "users.jsonl", begin)
    assert ask({"anna": 2, "ben": 1}) == "o1"  # the first items precede the questions
    assert ask({"anna": 0, "ben": 0}) == "o0"  # and here they are their answers: only cleo's is known
    assert ask({"anna": 0, "ben": 0, "cleo": 0}) == ""


@pytest.mark.parametrize("stem", ["questions", "users"])
def test_two_files_of_one_kind_are_refused(tmp_path: Path, stem: str) -> None:
    folder = make_task(tmp_path / "t")
    (folder / f"{stem}.jsonl.xz").write_bytes(lzma.compress((folder / f"{stem}.jsonl").read_bytes()))
    found = rf"found {stem}\.jsonl and {stem}\.jsonl\.xz: remove one"
    with pytest.raises(PersonaPlugError, match=rf"expected one {stem}\.jsonl in .*, {found}"):
        read_task(folder)


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([{"title": "t"}, {"title": "t", "category": "c"}, {"title": "t", "category": "c"}, {}, {}], "category"),
        ([{"title": "t", "category": "c"}, *[{"title": "t", "category": None}] * 4], "title"),
        ([{"title": "t"}, {"title": "t"}, {"score": 1}, {"output": "o"}], "title"),
        ([{"text": "a"}], ""),
    ],
)
def test_the_output_field_is_what_most_items_have(tmp_path: Path, items: list[Any], field: str) -> None:
    folder = make_task(tmp_path / "t")
    rows = [{"user_id": str(n), "history": [{"text": "x", **item}]} for n, item in enumerate(items)]
    edit(folder / "users.jsonl", lambda _: rows)
    assert read_users(folder)[1] == field


def test_a_first_item_without_a_category_makes_no_headlines(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t")
    edit(folder / "questions.jsonl", lambda rows: [{**row, "input": "categories: [o0, o1] article: x"} for row in rows])

    def titled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        items = [{**item, "title": "T"} for item in rows[0]["history"]]
        return [{**rows[0], "history": [*without("category")(items[:1]), *items[1:]]}, *rows[1:]]

    edit(folder / "users.jsonl", titled)
    task = read_task(folder)
    assert (task.kind, task.labels) == ("label", ("o0", "o1"))
    assert [item.output for item in task.users["anna"]] == ["", "o1", "o0", "o1", "o0"]
