"""Which folders are tasks, what they are called, and what is read before the first question is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_evaluate_data import edit, make_blog, make_task
from test_evaluate_lamp import make_lamp

from personaplug_edge.errors import PersonaPlugError, TextError
from personaplug_edge.evaluate.discover import read_tasks


def names(folder: Path, *chosen: str, split: str = "dev") -> list[str]:
    return [task.name for task in read_tasks(folder, chosen, split)]


def test_the_working_folder_and_the_one_above_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_task(tmp_path / "product_rating", field="score", labels=["o0", "o1"])
    (folder / "inside").mkdir()
    blog = make_blog(tmp_path / "posts")
    for where, given, name in ((folder, ".", "product_rating"), (folder / "inside", "..", "product_rating")):
        monkeypatch.chdir(where)
        assert names(Path(given)) == [name]
        assert names(Path(given), name) == [name]
    monkeypatch.chdir(blog)
    assert names(Path()) == ["posts"]


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "news_category").symlink_to(make_task(tmp_path / "kept", labels=["o0", "o1"]))
    assert names(tmp_path / "data", "news_category") == ["news_category"]


def test_two_folders_of_one_name_are_refused_where_they_are_read(tmp_path: Path) -> None:
    make_lamp(tmp_path / "LaMP-4", "LaMP_4")
    make_lamp(tmp_path / "LaMP_4", "LaMP_4")
    make_lamp(tmp_path / "LaMP_3", "LaMP_3")
    for chosen in ((), ("LaMP-4",), ("LaMP_3", "LaMP_4")):
        with pytest.raises(PersonaPlugError, match=r"LaMP-4 and .*LaMP_4 are one name for a task: rename or remove"):
            read_tasks(tmp_path, chosen)
    assert names(tmp_path, "LaMP_3") == ["LaMP_3"]


def test_one_task_in_two_folders_is_two_tasks(tmp_path: Path) -> None:
    for name in ("LaMP_4_time", "LaMP-4-user"):
        make_lamp(tmp_path / name, "LaMP_4")
    tasks = list(read_tasks(tmp_path))
    assert [(task.name, task.official, task.kind) for task in tasks] == [
        ("LaMP_4_time", "LaMP_4", "text"),
        ("LaMP_4_user", "LaMP_4", "text"),
    ]


def test_a_folder_with_one_of_its_split_is_one_task(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "LaMP_4_time" / "dev", "LaMP_4")
    assert names(folder.parent) == ["LaMP_4_time"]
    assert names(tmp_path) == ["LaMP_4_time"]
    assert names(folder) == ["LaMP_4"]  # "dev" tells nothing


def test_a_split_that_some_tasks_lack(tmp_path: Path) -> None:
    make_task(tmp_path / "a")
    edit(make_task(tmp_path / "b") / "questions.jsonl", lambda rows: [{**row, "split": "test"} for row in rows])
    make_blog(tmp_path / "posts")
    assert names(tmp_path) == ["a", "posts"]
    assert names(tmp_path, split="test") == ["b", "posts"]
    with pytest.raises(PersonaPlugError, match="no question of split 'test' in .*a; it has dev, train"):
        read_tasks(tmp_path, ["b", "a"], "test")
    with pytest.raises(PersonaPlugError, match="no question of split 'later' in"):
        read_tasks(tmp_path, split="later")


def test_every_task_is_checked_before_the_first_is_given(tmp_path: Path) -> None:
    make_task(tmp_path / "a")
    edit(make_task(tmp_path / "b") / "questions.jsonl", lambda rows: [{**row, "output": ""} for row in rows])
    with pytest.raises(TextError, match="b/questions.jsonl: question 2 .*: the wanted output is empty"):
        read_tasks(tmp_path)
    assert names(tmp_path, "a") == ["a"]
