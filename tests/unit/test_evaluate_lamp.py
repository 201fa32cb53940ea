"""The readers of LaMP's and LongLaMP's own files, on records written by hand in their layouts."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from test_evaluate_data import make_task

from personaplug_edge.errors import PersonaPlugError, TextError
from personaplug_edge.evaluate.data import PastItem
from personaplug_edge.evaluate.discover import read_tasks
from personaplug_edge.evaluate.lamp import LAYOUTS, read_lamp
from personaplug_edge.evaluate.longlamp import read_longlamp
from personaplug_edge.personalize.wording import wording_of

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
        "X Y",
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
    task = read_lamp(make_lamp(tmp_path / name, name))
    assert task.name == name
    assert [(example.id, example.gold, len(example.history)) for example in task.examples] == [
        ("110", gold, 1),
        ("111", gold, 2),
        ("112", gold, 3),
    ]
    assert task.examples[0].history == (item,)
    assert wording_of("{input}", text).subject(text) == about
    assert (gold in task.labels) == bool(task.labels)
    assert task.official == name.removesuffix("N")
    assert task.users["111"] == task.examples[1].history == (item, item)


def test_lamp_labels_come_from_the_wording(tmp_path: Path) -> None:
    task = read_lamp(make_lamp(tmp_path / "x", "LaMP_2N"))
    assert (task.kind, task.labels) == ("label", ("sports", "style & beauty", "women"))


def test_labels_that_no_wording_names_are_the_official_ones(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "x", "LaMP_2")
    path = folder / "dev_questions.json"
    path.write_text(path.read_text().replace("tags: [sci-fi, comedy] ", ""))
    assert read_lamp(folder).labels == LAYOUTS["LaMP_2"].labels
    assert [len(LAYOUTS[name].labels) for name in ("LaMP_1", "LaMP_2", "LaMP_2N", "LaMP_3")] == [2, 15, 15, 5]


def change(folder: Path, edit: Any, name: str = "dev_questions.json") -> None:
    path = folder / name
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_limit_takes_questions_evenly(tmp_path: Path) -> None:
    task = read_lamp(make_lamp(tmp_path / "x", "LaMP_3", count=6), limit=3)
    assert [example.id for example in task.examples] == ["110", "112", "114"]
    assert list(task.users) == ["110", "111", "112", "113", "114", "115"]  # who is the wrong one depends on all


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files_in_a_folder_of_their_split(tmp_path: Path, ending: str, pack: Any) -> None:
    folder = make_lamp(tmp_path / "LaMP_4", "LaMP_4")
    (folder / "dev").mkdir()
    for name in ("dev_questions.json", "dev_outputs.json"):
        (folder / "dev" / (name + ending)).write_bytes(pack((folder / name).read_bytes()))
        (folder / name).unlink()
    (task,) = read_tasks(tmp_path, ["LaMP-4"])
    assert [len(example.history) for example in task.examples] == [1, 2, 3]
    assert task.examples[2].history[0] == PastItem("A", "H")


def test_a_time_based_profile_is_put_in_order_of_its_dates(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "x", "LaMP_4")
    dates = ["2017-10-09", "2017-9-30", "2016-12-31"]

    def edit(rows: Any) -> None:
        for number, (item, date) in enumerate(zip(rows[2]["profile"], dates, strict=True)):
            item |= {"date": date, "text": str(number)}
        rows[2]["user_id"] = 7

    change(folder, edit)
    task = read_lamp(folder)
    assert [item.text for item in task.examples[2].history] == ["2", "1", "0"]
    assert [example.user_id for example in task.examples] == ["110", "111", "7"]
    assert len(task.users["7"]) == 3


def test_a_profile_may_lack_texts_but_not_fields(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "x", "LaMP_1")
    change(folder, lambda rows: rows[1]["profile"].__setitem__(0, {"title": "T", "abstract": None, "venue": 1}))
    change(folder, lambda rows: rows[2]["profile"].__setitem__(1, {"title": "", "abstract": " "}))
    histories = [example.history for example in read_lamp(folder).examples]
    assert histories[1] == (PastItem("T"), PastItem("T An abstract."))
    assert len(histories[2]) == 2  # an item without any text tells nothing
    change(folder, lambda rows: rows[0].update(profile=[]))
    assert read_lamp(folder).examples[0].history == ()


BROKEN: dict[str, tuple[Any, str]] = {
    "id missing": (lambda rows: rows[1].pop("id"), "question 2 lacks 'id'; it has input, profile"),
    "id twice": (lambda rows: rows[1].update(id="110"), "question 2: the question '110' is there twice"),
    "input missing": (lambda rows: rows[1].pop("input"), r"question 2 \(id '111'\) lacks 'input'"),
    "input null": (lambda rows: rows[2].update(input=None), r"question 3 .*: expected 'input' to be a text, got null"),
    "input empty": (lambda rows: rows[2].update(input=" "), "'input' is empty"),
    "profile missing": (lambda rows: rows[0].pop("profile"), "question 1 .*: expected 'profile' to be a list"),
    "profile of texts": (lambda rows: rows[0].update(profile=["a"]), "question 1 .*: expected 'profile' to be a list"),
    "field missing": (
        lambda rows: rows[2]["profile"][1].pop("score"),
        r"question 3 \(id '112'\), profile item 2 lacks score; it has id, text",
    ),
    "field of another kind": (
        lambda rows: rows[2]["profile"][1].update(text={"a": 1}),
        "profile item 2: expected 'text' to be a text, got dict",
    ),
    "no question": (lambda rows: rows.clear(), "has no question"),
    "no object": (lambda rows: rows.insert(1, 5), "record 2: expected a JSON object, got int"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_malformed_question_is_named_with_its_field(tmp_path: Path, case: str) -> None:
    edit, message = BROKEN[case]
    folder = make_lamp(tmp_path / "x", "LaMP_3")
    change(folder, edit)
    with pytest.raises(PersonaPlugError, match=message):
        read_lamp(folder)


def test_outputs_that_do_not_fit(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "x", "LaMP_3")
    cases: list[tuple[Any, str]] = [
        ({"task": "LaMP_9", "golds": []}, "task 'LaMP_9' is unknown"),
        ({"task": "LaMP_3", "golds": []}, "question 1 .* has no output"),
        ({"task": "LaMP_3", "golds": [{"id": str(n), "output": "5"} for n in range(110, 115)]}, "2 outputs have no"),
        ({"task": "LaMP_3", "golds": [{"id": "110", "output": "good"}]}, "to be a number, got 'good'"),
        ({"task": "LaMP_3", "golds": [{"id": "110", "output": "5"}] * 2}, "gold 2: the question '110' is there twice"),
        ({"task": "LaMP_3", "golds": [{"id": "110"}]}, "gold 1 lacks 'output'"),
        ({"task": "LaMP_5", "golds": [{"id": "110", "output": "x"}]}, "profile item 1 lacks abstract, title"),
        ({"task": "LaMP_3", "golds": [7]}, "gold 1: expected an object"),
        ([1], "expected"),
    ]
    for value, message in cases:
        (folder / "dev_outputs.json").write_text(json.dumps(value))
        with pytest.raises(PersonaPlugError, match=message):
            read_lamp(folder)
    (folder / "dev_outputs.json").unlink()
    with pytest.raises(PersonaPlugError, match="no outputs for its test split"):
        read_lamp(folder)


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "x", "LaMP_3")
    path = folder / "dev_questions.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(TextError, match="broken after record 2, near byte"):
        read_lamp(folder)


def test_discover_takes_lamp_folders(tmp_path: Path) -> None:
    make_lamp(tmp_path / "LaMP_3", "LaMP_3")
    make_task(tmp_path / "news_category")
    assert [task.name for task in read_tasks(tmp_path)] == ["LaMP_3", "news_category"]


LONG: dict[str, tuple[dict[str, Any], dict[str, Any], PastItem, str]] = {
    "abstract_generation": (
        {"name": "Ada", "input": 'Generate an abstract for the title "T" using the following items: a, b'},
        {"id": "1", "title": "Old", "abstract": "We show.", "year": 1999},
        PastItem("Old", "We show."),
        "a, b",
    ),
    "topic_writing": (
        {"author": "ada", "input": "Generate the content for a reddit post What I did."},
        {"id": "1", "author": "ada", "content": "Long story.", "summary": "A story"},
        PastItem("A story", "Long story."),
        "What I did.",
    ),
    "product_review": (
        {
            "reviewerId": "A1",
            "input": 'Generate the review text written by a reviewer who has a given an overall rating of "5" for a '
            'product with description "A pan.". The summary of the review text is "Good".',
        },
        {"overall": "5.0", "summary": "Fine", "description": ["A pot.", "Red."], "reviewText": "It boils."},
        PastItem("5.0 Fine A pot. Red.", "It boils."),
        '"A pan.". The summary of the review text is "Good".',
    ),
}


def long_rows(name: str) -> list[dict[str, Any]]:
    own, item, _, _ = LONG[name]
    return [{**own, "output": f"gold {n}", "profile": [item] * n} for n in (1, 2)]


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("ending", ["val.json", "val.jsonl", "dev.jsonl.gz"])
def test_longlamp_files_of_every_task(tmp_path: Path, name: str, ending: str) -> None:
    _, _, item, about = LONG[name]
    folder, rows = tmp_path / f"{name}_user", long_rows(name)
    folder.mkdir()
    text = json.dumps(rows) if ending.endswith("json") else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / ending).write_bytes((gzip.compress if ending.endswith("gz") else bytes)(text.encode()))
    (task,) = read_tasks(tmp_path)
    assert (task.name, task.official, task.kind, task.labels) == (f"{name}_user", f"LongLaMP_{name}", "text", ())
    assert [(e.id, e.gold, e.history) for e in task.examples] == [
        ("dev-0", "gold 1", (item,)),
        ("dev-1", "gold 2", (item, item)),
    ]
    assert len(task.users) == 1  # both are one user's
    assert task.examples[0].input.partition(task.marker)[2].strip() == about


def test_longlamp_profiles_as_columns(tmp_path: Path) -> None:
    rows = long_rows("topic_writing")
    for row in rows:
        row["profile"] = {field: [item[field] for item in row["profile"]] for field in ("summary", "content")}
    (tmp_path / "test.json").write_text(json.dumps(rows))
    assert [len(e.history) for e in read_longlamp(tmp_path, "test").examples] == [1, 2]
    rows[1]["profile"]["content"].pop()
    (tmp_path / "test.json").write_text(json.dumps(rows))
    with pytest.raises(TextError, match="record 2: the lists of 'profile' differ in length"):
        read_longlamp(tmp_path, "test")


def test_longlamp_files_that_do_not_fit(tmp_path: Path) -> None:
    rows = long_rows("topic_writing")
    del rows[1]["output"]
    (tmp_path / "val.json").write_text(json.dumps(rows))
    with pytest.raises(TextError, match="record 2 lacks 'output'"):
        read_longlamp(tmp_path)
    (tmp_path / "val.json").write_text(json.dumps([{"input": "Say something", "profile": [], "output": "x"}]))
    with pytest.raises(PersonaPlugError, match="not a task of LongLaMP"):
        read_longlamp(tmp_path)
    with pytest.raises(PersonaPlugError, match=r"expected train\.json or train\.jsonl"):
        read_longlamp(tmp_path, "train")
