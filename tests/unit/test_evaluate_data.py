"""The readers of evaluation data, on small files made here."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from personaplug_edge.errors import PersonaPlugError, TextError
from personaplug_edge.evaluate.data import PastItem, read_task
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_edge.evaluate.lamp import query_text, read_lamp, stream_questions


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def make_task(folder: Path, *, end: str = ".jsonl", labels: list[str] | None = None, field: str = "category") -> Path:
    folder.mkdir(parents=True)
    users = [
        {
            "user_id": user,
            "history": [{"id": f"{user}{n}", "text": f"{user} text {n}", field: f"o{n % 2}"} for n in range(5)],
        }
        for user in ("anna", "ben", "cleo")
    ]
    questions = [
        {
            "id": f"{user['user_id']}-{n}",
            "user_id": user["user_id"],
            "split": "dev" if n == 4 else "train",
            "input": f"Long wording. article: {user['user_id']} asks {n}",
            "short_input": f"category of article: {user['user_id']} asks {n}",
            "output": f"o{n % 2}",
            "n_history": n,
        }
        for user in users
        for n in (3, 4)
    ]
    write_rows(folder / f"users{end}", users)
    write_rows(folder / f"questions{end}", questions)
    if labels is not None:
        (folder / "labels.json").write_text(json.dumps(labels))
    return folder


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.xz"])
def test_profile_is_what_came_before_the_question(tmp_path: Path, end: str) -> None:
    task = read_task(make_task(tmp_path / "news_category", end=end, labels=["o0", "o1"]))
    assert (task.kind, task.labels, task.marker, task.prior) == ("label", ("o0", "o1"), "article:", "o0")
    assert [example.id for example in task.examples] == ["anna-4", "ben-4", "cleo-4"]
    example = task.examples[1]
    assert example.input == "category of article: ben asks 4"
    assert example.history == tuple(PastItem(f"ben text {n}", f"o{n % 2}") for n in range(4))
    assert len(task.users["ben"]) == 5


def test_full_input_other_split_and_limit(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t")
    task = read_task(folder, "train", short=False, limit=2)
    assert [example.id for example in task.examples] == ["anna-3", "ben-3"]
    assert task.examples[0].input == "Long wording. article: anna asks 3"
    assert (task.kind, task.labels, task.prior) == ("text", (), "")


def test_numbers_as_labels_make_a_rating(tmp_path: Path) -> None:
    assert read_task(make_task(tmp_path / "t", labels=["1", "2"], field="score")).kind == "rating"


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t")
    with pytest.raises(PersonaPlugError, match="no question of split 'test' in .*; it has dev, train"):
        read_task(folder, "test")
    with (folder / "users.jsonl").open("a") as file:
        file.write('{"user_id": "dora", "hist')
    with pytest.raises(TextError, match=r"users\.jsonl:4: expected a JSON record"):
        read_task(folder)
    write_rows(folder / "users.jsonl", [{"user_id": "anna", "history": []}])
    with pytest.raises(TextError, match="user 'ben' is not in its users file"):
        read_task(folder)
    write_rows(folder / "questions.jsonl", [{"id": "1", "split": "dev"}])
    with pytest.raises(TextError, match="lacks 'user_id'"):
        read_task(folder)


def test_tasks_are_found_in_a_folder_or_are_it(tmp_path: Path) -> None:
    make_task(tmp_path / "b")
    make_task(tmp_path / "a")
    assert [task.name for task in read_tasks(tmp_path)] == ["a", "b"]
    assert [task.name for task in read_tasks(tmp_path, ["b"])] == ["b"]
    assert [task.name for task in read_tasks(tmp_path / "a")] == ["a"]
    with pytest.raises(PersonaPlugError, match="expected task c in .*, found a, b"):
        read_tasks(tmp_path, ["c"])
    with pytest.raises(PersonaPlugError, match="expected a folder"):
        read_tasks(tmp_path / "nowhere")


NEWS = (
    "Which category does this article relate to among the following categories? Just answer with the category name "
    "without further explanation. categories: [women, sports, style & beauty] article: A game: won."
)
LAMP: dict[str, tuple[str, dict[str, str], PastItem, str, str]] = {
    "LaMP_1": (
        'For an author who has written the paper with the title "Good title", which reference is related? Just answer '
        'with [1] or [2] without explanation. [1]: "X" [2]: "Y"',
        {"title": "T", "abstract": " An abstract. "},
        PastItem("T An abstract."),
        "[1]",
        "Good title",
    ),
    "LaMP_2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
        "explanation. tags: [sci-fi, comedy] description: Robots.",
        {"description": "D", "tag": "comedy"},
        PastItem("D", "comedy"),
        "sci-fi",
        "Robots.",
    ),
    "LaMP_2N": (
        NEWS,
        {"text": "X", "title": "Y", "category": "sports"},
        PastItem("X", "sports"),
        "sports",
        "A game: won.",
    ),
    "LaMP_3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
        "further explanation. review: Fine.",
        {"text": "R", "score": "4"},
        PastItem("R", "4"),
        "5",
        "Fine.",
    ),
    "LaMP_4": (
        "Generate a headline for the following article: Rain.",
        {"text": "A", "title": "H"},
        PastItem("A", "H"),
        "Wet",
        "Rain.",
    ),
    "LaMP_5": (
        "Generate a title for the following abstract of a paper: We show.",
        {"title": "H", "abstract": "B"},
        PastItem("B", "H"),
        "On showing",
        "We show.",
    ),
    "LaMP_6": (
        "Generate a subject for the following email: Hi.",
        {"text": "E", "title": "S"},
        PastItem("E", "S"),
        "Hi",
        "Hi.",
    ),
    "LaMP_7": (
        "Paraphrase the following tweet without any explanation before or after it: yo",
        {"text": "tweet"},
        PastItem("tweet"),
        "hello",
        "yo",
    ),
}


def make_lamp(folder: Path, name: str, *, count: int = 3) -> Path:
    folder.mkdir(parents=True)
    text, item, _, gold, _ = LAMP[name]
    questions = [
        {"id": f"11{n}", "input": text, "profile": [{"id": f"{n}{k}", **item} for k in range(n + 1)]}
        for n in range(count)
    ]
    golds = [{"id": f"11{n}", "output": gold} for n in range(count)]
    (folder / "dev_questions.json").write_text(json.dumps(questions, indent=4))
    (folder / "dev_outputs.json").write_text(json.dumps({"task": name.removesuffix("N"), "golds": golds}, indent=4))
    return folder


@pytest.mark.parametrize("name", LAMP)
def test_lamp_files_of_every_task(tmp_path: Path, name: str) -> None:
    text, _, item, gold, about = LAMP[name]
    task = read_lamp(make_lamp(tmp_path / "x", name))
    assert task.name == name
    assert [(example.id, example.gold, len(example.history)) for example in task.examples] == [
        ("110", gold, 1),
        ("111", gold, 2),
        ("112", gold, 3),
    ]
    assert task.examples[0].history == (item,)
    assert query_text(text, task.marker) == about
    assert (gold in task.labels) == bool(task.labels)


def test_lamp_labels_come_from_the_wording(tmp_path: Path) -> None:
    task = read_lamp(make_lamp(tmp_path / "x", "LaMP_2N"))
    assert (task.kind, task.labels) == ("label", ("sports", "style & beauty", "women"))


def test_lamp_is_streamed(tmp_path: Path) -> None:
    path = make_lamp(tmp_path / "x", "LaMP_3") / "dev_questions.json"
    path.write_text(path.read_text()[:-40])  # a cut file gives what comes before the cut
    rows = stream_questions(path)
    assert [next(rows)["id"], next(rows)["id"]] == ["110", "111"]
    with pytest.raises(TextError, match="broken after question 2"):
        next(rows)
    assert len(read_lamp(path.parent, limit=2).examples) == 2


def test_lamp_files_that_do_not_fit(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "x", "LaMP_3")
    outputs = folder / "dev_outputs.json"
    outputs.write_text(json.dumps({"task": "LaMP_9", "golds": []}))
    with pytest.raises(PersonaPlugError, match="task 'LaMP_9' is unknown"):
        read_lamp(folder)
    outputs.write_text(json.dumps({"task": "LaMP_3", "golds": []}))
    with pytest.raises(TextError, match="question '110' has no output"):
        read_lamp(folder)
    outputs.write_text(json.dumps({"task": "LaMP_5", "golds": [{"id": "110", "output": "x"}]}))
    with pytest.raises(TextError, match="question '110': a profile item lacks abstract, title; it has id, text, score"):
        read_lamp(folder)
    outputs.write_text(json.dumps([1]))
    with pytest.raises(TextError, match="expected"):
        read_lamp(folder)
    outputs.unlink()
    with pytest.raises(PersonaPlugError, match="no outputs for its test split"):
        read_lamp(folder)


def test_discover_takes_lamp_folders(tmp_path: Path) -> None:
    make_lamp(tmp_path / "LaMP_3", "LaMP_3")
    make_task(tmp_path / "news_category")
    assert [task.name for task in read_tasks(tmp_path)] == ["LaMP_3", "news_category"]
