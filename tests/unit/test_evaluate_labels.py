"""Labels and ratings of this project's layout: whatever way a file writes them, a gold answer is one of the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_evaluate_data import edit, make_task
from test_evaluate_lamp import change, make_lamp

from personaplug_edge.errors import TextError
from personaplug_edge.evaluate.data import PastItem, Task
from personaplug_edge.evaluate.lamp import read_lamp
from personaplug_edge.evaluate.metrics import Prediction, macro_f1, rating
from personaplug_edge.evaluate.questions import read_task

STARS = ("1", "2", "3", "4", "5")


def rated(folder: Path, output: Any, labels: list[Any] | None = None, score: Any = "4") -> Task:
    """The task of a folder whose questions have this output, and its items this score."""
    make_task(folder, labels=labels, field="score")
    edit(folder / "questions.jsonl", lambda rows: [{**row, "output": output} for row in rows])
    items = [{"id": str(n), "text": "a", "score": score} for n in range(5)]
    edit(folder / "users.jsonl", lambda rows: [{**row, "history": items} for row in rows])
    return read_task(folder)


@pytest.mark.parametrize("name", ["product_rating", "t"])
@pytest.mark.parametrize("labels", [None, [1, 2, 3, 4, 5], [1.0, 2.0, 3.0, 4.0, 5.0], [" 1", "2", "3", "4 ", "5\n"]])
@pytest.mark.parametrize("written", [4, 4.0, "4", "4.0", " 4"])
def test_a_rating_is_the_label_of_its_value(tmp_path: Path, name: str, labels: Any, written: Any) -> None:
    task = rated(tmp_path / name, written, labels, score=written)
    assert (task.kind, task.labels, task.prior) == ("rating", STARS, "4")
    assert {example.gold for example in task.examples} == {"4"}
    assert set(task.examples[0].history) == {PastItem("a", "4")}


def test_a_label_keeps_its_own_writing(tmp_path: Path) -> None:
    task = rated(tmp_path / "t", 2, ["0.5", "2.0"])
    assert (task.kind, task.labels, task.examples[0].gold) == ("rating", ("0.5", "2.0"), "2.0")


@pytest.mark.parametrize("output", ["0", 6, "good", 3.5])
def test_a_score_on_an_unknown_scale_is_no_free_text(tmp_path: Path, output: Any) -> None:
    message = f"expected 'output' to be one of 1, 2, 3, 4, 5, got '{output}'; list .* in labels.json"
    with pytest.raises(TextError, match=rf"question 2 \(id 'anna-4'\): {message}"):
        rated(tmp_path / "product_rating", output)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["o0", None], "entry 2: expected 'label' to be a text, got null"),
        (["o0", True], "entry 2: expected 'label' to be a text, got bool"),
        (["o0", " "], "entry 2 is empty"),
        (["o0", "o1", "o0 "], "the label 'o0' is there twice"),
        (["1", "2", 1.0], "the label '1' is there twice"),
        (["1", "2", "1.0"], r"the label '1\.0' is there twice"),
        ([], r"expected a list of labels, got \[\]"),
        ({"o0": 1}, "expected a list of labels, got dict"),
    ],
)
def test_labels_that_tell_nothing_apart_are_refused(tmp_path: Path, labels: Any, message: str) -> None:
    folder = make_task(tmp_path / "t")
    (folder / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(TextError, match=rf"labels\.json: {message}"):
        read_task(folder)


def test_a_label_and_its_answer_lose_white_space(tmp_path: Path) -> None:
    folder = make_task(tmp_path / "t", labels=["o0 ", "o1"])
    edit(folder / "questions.jsonl", lambda rows: [{**row, "output": " o0\n"} for row in rows])
    task = read_task(folder)
    assert (task.labels, task.examples[0].gold) == (("o0", "o1"), "o0")
    right = Prediction(id="1", user_id="u", gold="o0", text="o0")
    assert macro_f1(["o0 "])([right]) == 1.0


def test_lamp_ratings_too(tmp_path: Path) -> None:
    folder = make_lamp(tmp_path / "LaMP_3", "LaMP_3")
    change(folder, lambda value: value["golds"][0].update(output="5.0"), "dev_outputs.json")
    change(folder, lambda rows: rows[0]["profile"][0].update(score="3.0"))
    task = read_lamp(folder)
    assert (task.examples[0].gold, task.examples[0].history[0].output) == ("5", "3")


def test_white_space_that_only_str_knows_around_a_rating() -> None:
    assert rating("\x1f4", 5.0, 1.0, 5.0) == 4.0
