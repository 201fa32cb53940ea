"""Which folders are tasks, what they are called, and what is read before the first question is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_evaluate_data import make_blog, make_task

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
