"""Which items are retrieved, how they are written, and that they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from personaplug_edge.personalize.bm25 import index_of
from personaplug_edge.personalize.dense import cosines, top
from personaplug_edge.personalize.fit import LEAST_TOKENS, fit_cut, fit_whole, shares
from personaplug_edge.personalize.labels import majority_votes, similarity_votes
from personaplug_edge.personalize.memo import Memo
from personaplug_edge.personalize.wording import LAMP_WORDINGS, wording_of
from personaplug_edge.store import NewItem

TINY = "{input}\nanswer:"


def items(*texts: str) -> list[NewItem]:
    return [NewItem(text) for text in texts]


def bm25_top(query: str, texts: list[str], count: int) -> list[str]:
    found = index_of(range(len(texts)), items(*texts)).best(query, count)
    return [texts[place] for place in found]


def test_bm25_finds_shared_rare_words() -> None:
    texts = ["the cat sat", "the dog ran far", "the rain fell", "a dog in the rain ran far"]
    assert bm25_top("Rain, dog!", texts, 2) == ["a dog in the rain ran far", "the rain fell"]
    assert bm25_top("zebra", texts, 1) == ["a dog in the rain ran far"]  # equal: the latest
    assert bm25_top("x", ["!", "?"], 1) == ["?"]
    assert bm25_top("cat", ["cat"], 5) == ["cat"]


def test_scores_are_those_of_the_library() -> None:
    from rank_bm25 import BM25Okapi

    chance = np.random.default_rng(1)
    texts = [" ".join(f"w{min(int(n), 40)}" for n in chance.zipf(1.4, size=1 + place % 30)) for place in range(80)]
    library = BM25Okapi([text.split() for text in texts])
    index = index_of(range(80), items(*texts))
    for query in ("w1 w2 w3", "w7 w7 w1", "unseen", "w40 w12 unseen w5"):
        np.testing.assert_array_equal(index.scores(query), library.get_scores(query.split()))


def test_top_is_what_a_stable_sort_gives() -> None:
    chance = np.random.default_rng(0)
    for count in (1, 3, 50, 200, 400):
        scores = chance.integers(0, 20, 200).astype(np.float32)  # many equal ones
        wanted = sorted(range(200), key=lambda place: (-scores[place], -place))[:count]
        assert top(scores, count).tolist() == wanted
    assert top(np.zeros(0, np.float32), 3).tolist() == []


def test_cosines() -> None:
    vectors = np.array([[3, 4], [0, 0], [-1, 0]], dtype=np.float32)
    np.testing.assert_allclose(cosines(np.array([2, 0], np.float32), vectors), [0.6, 0, -1])


@pytest.mark.parametrize(
    ("lengths", "room", "kept"),
    [((10, 10, 10), 15, [5, 5, 5]), ((2, 20, 20), 22, [2, 10, 10]), ((3, 4), 100, [3, 4]), ((5, 5), 0, [0, 0])],
)
def test_room_is_shared_evenly(lengths: tuple[int, ...], room: int, kept: list[int]) -> None:
    assert shares(lengths, room) == kept


def words(text: str) -> int:
    return len(text.split())


def cut(text: str, tokens: int) -> str:
    return " ".join(text.split()[:tokens])


def test_texts_are_cut_until_they_fit() -> None:
    texts = [f"{name} " * 40 for name in "abc"]
    for room in (200, 100, 60, 40, 12, 3):
        kept = fit_cut(texts, lambda some: words(" and ".join(some)), words, cut, room)
        assert words(" and ".join(kept)) <= room or not kept
        assert all(words(text) >= LEAST_TOKENS for text in kept)
        assert len(kept) == {200: 3, 100: 3, 60: 3, 40: 3, 12: 1, 3: 0}[room]
    assert fit_cut(["a b", "c"], lambda some: words(" ".join(some)), words, cut, 3) == ["a b", "c"]  # short but whole


def test_items_are_left_out_from_the_last_until_they_fit() -> None:
    texts = ["best", "second best", "the third"]
    fitting = [fit_whole(3, lambda n: words(" ".join(texts[:n])), room) for room in (9, 5, 4, 3, 1, 0)]
    assert fitting == [3, 3, 2, 2, 1, 0]


def test_the_plain_form_is_an_answered_request() -> None:
    wording = wording_of(TINY, "category of article: the senate votes")
    assert wording.subject("category of article: the senate votes") == "the senate votes"
    front, text = wording.place("category of article: q", [wording.write(f"{n} {{x}}", "out") for n in (1, 2)])
    assert front == "category of article: 2 {x}\nanswer: out\ncategory of article: 1 {x}\nanswer: out\n"
    assert text == "category of article: q"
    for free in ("what now?", "x" * 80 + ": y", "to do:"):  # no wording, a long one, nothing behind it
        assert wording_of(TINY, free).subject(free) == free
        assert wording_of(TINY, free).write("t", "o") == "t\nanswer: o\n"
    assert wording.write(" a post ", " ") == "a post\n"  # without an answer there is no example to show


LAMP = {
    "LaMP_1": 'For an author who has written the paper with the title "Graphs", which reference is related? Just answer'
    ' with [1] or [2] without explanation. [1]: "A" [2]: "B"',
    "LaMP_2": "Which tag does this movie relate to among the following tags? Just answer with the tag name without"
    " further explanation. tags: [sci-fi, comedy] description: Graphs",
    "LaMP_2N": "Which category does this article relate to among the following categories? Just answer with the"
    " category name without further explanation. categories: [women, religion] article: Graphs",
    "LaMP_3": "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5"
    " without further explanation. review: Graphs",
    "LaMP_4": "Generate a headline for the following article: Graphs",
    "LaMP_5": "Generate a title for the following abstract of a paper: Graphs",
    "LaMP_6": "Generate a subject for the following email: Graphs",
    "LaMP_7": "Paraphrase the following tweet without any explanation before or after it: Graphs",
}

WRITTEN = {
    "LaMP_2": 'the tag for the movie: "b" is "2", and the tag for the movie: "a" is "1". ',
    "LaMP_2N": 'the category for the article: "b" is "2", and the category for the article: "a" is "1". ',
    "LaMP_3": '2 is the score for "b", and 1 is the score for "a". ',
    "LaMP_4": '"2" is the title for "b", and "1" is the title for "a". ',
    "LaMP_5": '"2" is the title for "b", and "1" is the title for "a". Following the given patterns ',
    "LaMP_6": '"2" is the title for "b", and "1" is the title for "a". ',
    "LaMP_7": '"b", and "a" are written by a person. Following the given patterns ',
}


@pytest.mark.parametrize("name", LAMP)
def test_lamp_wordings(name: str) -> None:
    request = LAMP[name]
    wording = wording_of(TINY, request)
    assert wording.name == name and wording in LAMP_WORDINGS
    about = "A B" if name == "LaMP_1" else "Graphs"  # LaMP looks for papers like both candidates
    assert wording.subject(request) == about
    front, text = wording.place(request, [wording.write("a", "1"), wording.write("b", "2")])
    if name == "LaMP_1":
        assert front == ""
        assert text == request.replace('"Graphs"', '"Graphs", and "b", and "a"')
        assert wording.subject(text) == about
    else:
        assert (front, text) == (WRITTEN[name], request)


@pytest.mark.parametrize("title", ['On "foo" bar', '"Foo" and "bar"', 'What is "foo"'])
def test_a_title_with_quotation_marks_stays_whole(title: str) -> None:
    request = LAMP["LaMP_1"].replace("Graphs", title)
    wording = wording_of(TINY, request)
    assert wording.parts(request)[1] == title and wording.subject(request) == "A B"
    _, text = wording.place(request, [wording.write("a", "1"), wording.write("b", "2")])
    assert text == request.replace(f'"{title}"', f'"{title}", and "b", and "a"')
    _, again = wording.place(text, [wording.write("c", "3")])  # of a second method
    assert again == request.replace(f'"{title}"', f'"{title}", and "b", and "a", and "c"')
    other = f'{wording.begins} "Graphs", what is related?'  # worded otherwise: the next quotation mark
    assert wording.place(other, ['"a"'])[1] == f'{wording.begins} "Graphs", and "a", what is related?'
    unquoted = f"{wording.begins} Graphs, what is related?"
    assert wording.place(unquoted, ['"a"']) == ('"a". ', unquoted)


def test_majority() -> None:
    def best(*outputs: str) -> str:
        votes = majority_votes(outputs)
        return max(votes, key=votes.__getitem__, default="nothing")

    assert best("a", "b", "b") == "b"
    assert best("b", "b", "a") == "b"
    assert best("a", "b") == "b" and best("a", "b", "", "a", "b", "a") == "a"  # equally common: the latest
    assert best("") == best() == "nothing"


def test_similarity_vote() -> None:
    outputs = ["a", "a", "b", "c"]
    vectors = np.array([[0.6, 0.8], [0.6, 0.8], [2, 0.2], [-1, 0]], dtype=np.float32)
    query = np.array([3, 0], dtype=np.float32)

    def best(query: Any, vectors: Any = vectors, **options: Any) -> str:
        votes = similarity_votes(query, vectors, outputs[: len(vectors)], **options)
        return max(votes, key=votes.__getitem__, default="nothing")

    assert best(query) == "b"  # one near item against two far ones
    assert best(query, power=0.5) == "a"
    assert best(-query) == "c"
    assert best(query, vectors[:0]) == best(query, np.zeros((4, 2), np.float32)) == "nothing"


def test_memo_keeps_what_was_used_last() -> None:
    memo, made = Memo(max_items=5), []

    def get(user: str, version: int, size: int = 2) -> str:
        return memo.get("k", user, version, size, lambda: made.append(user) or f"{user}{version}")

    assert [get("a", 1), get("a", 1), get("b", 1), get("a", 2)] == ["a1", "a1", "b1", "a2"]
    assert made == ["a", "b", "a"]
    get("c", 1)  # six items: the one used longest ago goes
    assert get("a", 2) == "a2" and made == ["a", "b", "a", "c"]
    get("b", 1)
    assert made[-1] == "b"
    memo.drop("b")
    get("b", 1)
    assert made[-2:] == ["b", "b"]


def test_memo_keeps_nothing_of_a_user_who_was_erased_while_it_was_made() -> None:
    memo = Memo()

    def erased() -> str:
        memo.drop("a")
        return "of what was erased"

    assert memo.get("k", "a", 1, 1, erased) == "of what was erased"
    with pytest.raises(ZeroDivisionError):
        memo.get("k", "a", 1, 1, lambda: str(1 // 0))
    assert not memo._values and not memo._being_made
    assert memo.get("k", "a", 1, 1, lambda: "anew") == memo.get("k", "a", 1, 1, lambda: "not made") == "anew"
