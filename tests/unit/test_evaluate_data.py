"""The readers of evaluation data, on small files made here."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from personaplug_edge.errors import PersonaPlugError, TextError
from personaplug_edge.evaluate.blogs import read_blog
from personaplug_edge.evaluate.data import PastItem
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_edge.evaluate.questions import read_task


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    pack = {".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(text.encode()))


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


@pytest.mark.parametrize("end", [".jsonl", ".jsonl.xz", ".jsonl.gz"])
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
    folder = make_task(tmp_path / "t", labels=["1", "2"], field="score")
    edit(folder / "questions.jsonl", lambda rows: [{**row, "output": "2.0"} for row in rows])
    assert read_task(folder).kind == "rating"


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t")
    with pytest.raises(PersonaPlugError, match="no question of split 'test' in .*; it has dev, train"):
        read_task(folder, "test")
    with (folder / "users.jsonl").open("a") as file:
        file.write('{"user_id": "dora", "hist')
    with pytest.raises(TextError, match=r"users\.jsonl:4: expected a JSON record"):
        read_task(folder)
    write_rows(folder / "users.jsonl", [{"user_id": "anna", "history": [{"text": str(n)} for n in range(5)]}])
    with pytest.raises(TextError, match="user 'ben' is not in its users file"):
        read_task(folder)
    write_rows(folder / "questions.jsonl", [{"id": "1", "split": "dev"}])
    with pytest.raises(TextError, match=r"question 1 \(id '1'\) lacks 'input'; it has id, split"):
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


def edit(path: Path, change: Any) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_rows(path, change(rows))


def without(*fields: str) -> Any:
    return lambda rows: [{key: value for key, value in row.items() if key not in fields} for row in rows]


def test_a_test_file_may_lack_and_add(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "news_category", labels=["o0", "o1"])
    edit(folder / "questions.jsonl", without("short_input"))
    edit(folder / "questions.jsonl", lambda rows: [{**row, "language": "en", "rank": None} for row in rows])
    edit(folder / "users.jsonl", lambda rows: [{**row, "age": 7} for row in rows])
    assert read_task(folder).examples[0].input == "category of article: anna asks 4"  # derived, as for all such tasks
    assert read_task(folder, short=False).examples[0].input == "Long wording. article: anna asks 4"
    edit(folder / "questions.jsonl", without("split"))
    assert len(read_task(folder, "test").examples) == 6
    (folder / "labels.json").unlink()
    wording = "categories: [o1, o0] article: new"
    edit(folder / "questions.jsonl", lambda rows: [{**row, "input": wording} for row in rows])
    task = read_task(folder, "test")
    assert (task.labels, task.kind) == (("o0", "o1"), "label")


def test_stars_need_no_file_of_labels(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "product_rating", field="score")
    edit(folder / "questions.jsonl", lambda rows: [{**row, "output": 4} for row in rows])
    task = read_task(folder)
    assert (task.kind, task.labels, task.examples[0].gold) == ("rating", ("1", "2", "3", "4", "5"), "4")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "anna-3", "question 'anna-3' is there twice"),
        ("id", "anna1", "its own item is among the"),
        ("n_history", 6, "expected 'n_history' from 0 to 5"),
        ("n_history", -1, "expected 'n_history' from 0 to 5"),
        ("n_history", "4", "expected 'n_history'"),
        ("output", " ", "wanted output is empty"),
        ("output", None, "expected 'output' to be a text, got null"),
        ("input", ["a"], "expected 'input' to be a text, got list"),
    ],
)
def test_what_would_make_a_figure_wrong_is_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    folder = make_task(tmp_path / "t")
    changed = {"split": "train", field: value}
    edit(folder / "questions.jsonl", lambda rows: [{**rows[1], **changed}, rows[0], *rows[2:]])
    with pytest.raises(TextError, match=message):
        read_task(folder, "train", short=False)


def test_a_rating_that_is_no_number_and_a_user_twice_are_refused(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t", labels=["1", "2"])
    with pytest.raises(TextError, match="expected the wanted output to be a number, got 'o0'"):
        read_task(folder)
    edit(folder / "users.jsonl", lambda rows: rows + rows[:1])
    with pytest.raises(TextError, match="the user 'anna' is there twice"):
        read_task(folder)
    write_rows(folder / "users.jsonl", [{"user_id": "anna", "history": [{"id": "1", "text": None}]}])
    with pytest.raises(TextError, match=r"user 1 \(user_id 'anna'\), item 1: expected 'text' to be a text, got null"):
        read_task(folder)


def test_characters_that_no_text_may_hold_are_replaced(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t")
    edit(folder / "questions.jsonl", lambda rows: [{**row, "output": "a\0b\ud83d"} for row in rows])
    assert read_task(folder).examples[0].gold == "a\ufffdb\ufffd"


def test_names_with_a_hyphen_or_not(tmp_path: Path) -> None:
    make_task(tmp_path / "LaMP-9")
    assert [task.name for task in read_tasks(tmp_path, ["LaMP_9"])] == ["LaMP-9"]


def make_blog(folder: Path, *, users: int = 3, posts: int = 20) -> Path:
    folder.mkdir(parents=True)
    words = " ".join(f"w{n}" for n in range(30))
    rows = [
        {"user_id": f"u{u}", "history": [{"id": f"u{u}-{n}", "text": f"{u} {n} {words}"} for n in range(posts)]}
        for u in range(users)
    ]
    write_rows(folder / "users.jsonl.xz", rows)
    return folder


def test_posts_become_continuations(tmp_path: Path) -> None:
    folder = make_blog(tmp_path / "blog_posts")
    splits = {split: read_blog(folder, split) for split in ("train", "dev", "test")}
    assert {split: [e.id for e in task.examples[-2:]] for split, task in splits.items()} == {
        "train": ["u2-14", "u2-15"],
        "dev": ["u2-16", "u2-17"],
        "test": ["u2-18", "u2-19"],
    }
    assert [len(task.examples) for task in splits.values()] == [3 * 13, 6, 6]  # train starts at the fourth post
    example = splits["dev"].examples[0]
    assert example.input == "continuation of post: 0 16 " + " ".join(f"w{n}" for n in range(18))
    assert example.gold == " ".join(f"w{n}" for n in range(18, 30))
    assert [item.text[:4] for item in example.history] == [f"0 {n} "[:4] for n in range(16)]
    assert (splits["dev"].kind, splits["dev"].marker, len(splits["dev"].users)) == ("continuation", "post:", 3)
    assert read_blog(folder, short=False).examples[0].input.startswith("Continue the following post")


def test_posts_with_questions_of_their_own_are_continuations(tmp_path: Path) -> None:
    folder = make_blog(tmp_path / "blog_posts")
    row = {"id": "q", "user_id": "u1", "split": "test", "input": "Go on. post: a", "output": "w " * 300, "n_history": 9}
    write_rows(folder / "questions.jsonl.gz", [row])
    (task,) = read_tasks(tmp_path, split="test")
    assert (task.kind, task.examples[0].input, len(task.examples[0].gold)) == (
        "continuation",
        "continuation of post: a",
        199,
    )


def test_a_long_rest_is_cut_at_a_word(tmp_path: Path) -> None:
    folder, given = tmp_path / "blog_posts", " ".join(["x"] * 20)
    rests = ["y " * 300, "longer " * 90, "z" * 600 + " 2 3 4 5", "a b c d"]
    posts = [{"id": str(n), "text": f"{given} {rest}"} for n, rest in enumerate(["a b c d e", *rests] * 8)]
    folder.mkdir()
    write_rows(folder / "users.jsonl", [{"user_id": "u", "history": posts}])
    golds = {int(e.id) % 5: e.gold for e in read_blog(folder, "train").examples}
    assert {n: len(gold) for n, gold in golds.items()} == {0: 9, 1: 199, 2: 7 * 71 - 1, 3: 500}


def test_posts_are_sampled_by_user(tmp_path: Path) -> None:
    folder = make_blog(tmp_path / "blog_posts", users=9)
    assert [e.user_id for e in read_blog(folder, sample=3).examples] == ["u0", "u0", "u3", "u3", "u6", "u6"]
    assert len(read_blog(folder, sample=0).examples) == 18
    assert len(read_blog(folder, limit=4).examples) == 4
    assert [task.name for task in read_tasks(tmp_path)] == ["blog_posts"]
    with pytest.raises(PersonaPlugError, match="train, dev and test are known"):
        read_blog(folder, "later")


def test_posts_that_each_user_numbers_anew_are_told_apart(tmp_path: Path) -> None:
    folder = make_blog(tmp_path / "blog_posts")
    numbered = [{"id": str(n), "text": f"{n} " + "word " * 40} for n in range(20)]
    write_rows(folder / "users.jsonl.xz", [{"user_id": user, "history": numbered} for user in ("anna", "ben")])
    assert [e.id for e in read_blog(folder).examples] == ["anna-16", "anna-17", "ben-16", "ben-17"]


def test_a_task_without_its_questions_is_no_blog(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "news_category")
    (folder / "questions.jsonl").unlink()
    with pytest.raises(PersonaPlugError, match=r"expected questions\.jsonl .* outputs \('category'\)"):
        next(read_tasks(tmp_path))
