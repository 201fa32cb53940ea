"""What each method asks of the runtime, and the baselines that ask no LLM."""

from __future__ import annotations

import numpy as np
import pytest

from personaplug_edge.errors import PersonaPlugError
from personaplug_edge.evaluate.baselines import majority, similarity_vote
from personaplug_edge.evaluate.data import Example, PastItem, Task
from personaplug_edge.evaluate.methods import METHODS, Retrieval, methods_for, request_of, wrong_history
from personaplug_edge.personalize.retrieval import bm25_top, retrieval_prompt, with_items


def history(user: str, count: int) -> tuple[PastItem, ...]:
    return tuple(PastItem(f"{user} {n}", "sports" if n % 3 else "food") for n in range(count))


def make_task(labels: tuple[str, ...] = ("food", "sports"), **counts: int) -> Task:
    users = {user: history(user, count) for user, count in counts.items()}
    examples = tuple(
        Example(id=user, user_id=user, input=f"category of article: {user} 1", gold="food", history=items[:4])
        for user, items in users.items()
    )
    return Task(name="t", kind="label", labels=labels, examples=examples, users=users, prior="food", marker="article:")


RETRIEVAL = Retrieval(render=lambda text, output: f"{text} = {output}\n", fits=lambda text: len(text) < 200, items=2)


def test_requests_of_each_method() -> None:
    task = make_task(anna=5, ben=5)
    example = task.examples[0]
    asked = {
        m: request_of(m, task, example, RETRIEVAL) for m in ("none", "instruction", "static", "query", "wrong_user")
    }
    assert all(request.text == example.input for request in asked.values())
    assert [request.persona for request in asked.values()] == ["off", "off", "static", "query", "query"]
    assert [request.instruction for request in asked.values()] == [False, True, True, True, True]
    assert asked["static"].history == asked["query"].history == example.history
    assert asked["wrong_user"].history == task.users["ben"][:4]
    retrieved = request_of("bm25", task, example, RETRIEVAL)
    lines = retrieved.text.splitlines()
    assert lines[-1] == example.input
    assert lines[-2] == "category of article: anna 1 = sports"  # the best item stands next to the question
    assert (len(lines), retrieved.instruction, retrieved.history) == (3, False, ())
    with pytest.raises(PersonaPlugError, match="unknown method 'best'"):
        request_of("best", task, example, RETRIEVAL)


def test_a_long_wording_is_not_repeated() -> None:
    task = make_task(anna=5)
    example = Example(id="1", user_id="anna", input="x" * 80 + " article: anna 1", gold="", history=history("anna", 2))
    lines = request_of("bm25", task, example, RETRIEVAL).text.splitlines()
    assert lines[0].startswith("article: anna")


def test_the_wrong_user_is_the_next_with_enough_items() -> None:
    task = make_task(anna=4, ben=2, cleo=6, dora=3)
    by_user = {example.user_id: wrong_history(task, example) for example in task.examples}
    assert by_user["anna"] == task.users["cleo"][:4]  # ben has too few
    assert by_user["ben"] == task.users["cleo"][:2]
    assert by_user["cleo"] == task.users["anna"]  # around the end; dora has too few
    assert by_user["dora"] == task.users["anna"][:3]
    rich = make_task(anna=4, ben=2, cleo=3)
    assert wrong_history(rich, rich.examples[0]) == rich.users["cleo"]  # nobody has enough: the richest
    with pytest.raises(PersonaPlugError, match="needs two users"):
        wrong_history(make_task(anna=3), make_task(anna=3).examples[0])


def test_methods_of_a_task() -> None:
    task = make_task(anna=3)
    assert tuple(methods_for(task, ())) == METHODS
    assert methods_for(task, ["vote", "none"]) == ["none", "vote"]
    assert "majority" not in methods_for(make_task((), anna=3), ())
    with pytest.raises(PersonaPlugError, match="unknown method nonne"):
        methods_for(task, ["nonne"])


def test_bm25_finds_shared_rare_words() -> None:
    items = [
        PastItem(text) for text in ("the cat sat", "the dog ran far", "the rain fell", "a dog in the rain ran far")
    ]
    assert [item.text for item in bm25_top("Rain, dog!", items, 2)] == ["a dog in the rain ran far", "the rain fell"]
    assert bm25_top("x", [], 3) == []
    assert bm25_top("x", items, 0) == []
    assert [item.text for item in bm25_top("zebra", items, 1)] == ["a dog in the rain ran far"]  # equal: the latest
    assert [item.text for item in bm25_top("x", [PastItem("!"), PastItem("?")], 1)] == ["?"]


def test_items_are_dropped_worst_first_until_it_fits() -> None:
    items = [PastItem("best"), PastItem("second"), PastItem("third")]
    fit = {
        limit: with_items("q", items, lambda i: i.text + "|", lambda t, n=limit: len(t) <= n)
        for limit in (99, 15, 7, 2)
    }
    assert fit == {99: "third|second|best|q", 15: "second|best|q", 7: "best|q", 2: "q"}


def test_retrieval_prompt_is_tokens_only() -> None:
    items = [PastItem("red car", "a"), PastItem("blue sky", "b"), PastItem("green", "c")]
    prompt = retrieval_prompt("blue", items, tokenize=lambda text: list(text.encode()), k=1)
    assert prompt.spans == (list(b"blue sky\nb\n\nblue"),)


def test_majority() -> None:
    assert majority([PastItem("", "a"), PastItem("", "b"), PastItem("", "b")], "p") == "b"
    assert majority([PastItem("", "a"), PastItem("", "b")], "p") == "b"  # equally common: the latest
    assert majority([PastItem("x")], "p") == majority([], "p") == "p"


def test_similarity_vote() -> None:
    items = [PastItem("", "a"), PastItem("", "a"), PastItem("", "b"), PastItem("", "c")]
    vectors = np.array([[0.6, 0.8], [0.6, 0.8], [2, 0.2], [-1, 0]], dtype=np.float32)
    query = np.array([3, 0], dtype=np.float32)
    assert similarity_vote(query, vectors, items, "p") == "b"  # one near item against two far ones
    assert similarity_vote(query, vectors, items, "p", power=0.5) == "a"
    assert similarity_vote(-query, vectors, items, "p") == "c"
    assert similarity_vote(query, vectors[:0], [], "p") == "p"
    assert similarity_vote(query, np.zeros((4, 2), np.float32), items, "p") == "p"
