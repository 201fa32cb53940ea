"""The history store: adding, reading, changing."""

from __future__ import annotations

import ast
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import DimensionError, StoreError, TextError, UnknownItemError, UnknownUserError
from personaplug_edge.store import Added, HistoryStore, NewItem

D, K, H = 6, 2, 5


def rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "vectors": generator.standard_normal((n, D)).astype(np.float32),
        "projections": generator.standard_normal((n, K, H)).astype(np.float32),
    }


def add(store: HistoryStore, user: str, *texts: str, seed: int = 0, keys: str = "") -> Added:
    items = [NewItem(text) for text in texts]
    return store.add(user, items, encoder_key="e" + keys, bundle_key="b" + keys, **rows(len(items), seed))


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    with HistoryStore(tmp_path / "h.db" if request.param == "file" else ":memory:") as opened:
        yield opened


def test_items_come_back_as_they_were_stored(store: HistoryStore) -> None:
    new = NewItem("Grüße \N{SNOWMAN}\n", output="5", time=12.5, source="mail")
    added = store.add("anna", [new], encoder_key="e", bundle_key="b", **rows(1))
    item = store.item("anna", added.ids[0])
    assert added.new == [True]
    assert (item.user, item.text, item.output, item.time, item.source) == ("anna", new.text, "5", 12.5, "mail")
    assert len(item.digest) == 64 and item.created > 1.6e9
    assert store.list("anna") == store.items("anna", added.ids) == [item]
    assert store.users() == ["anna"] and store.count("anna") == 1


def test_matrix_is_the_float16_rounding_in_the_order_of_ids(store: HistoryStore) -> None:
    add(store, "ben", "other", seed=9)
    first, second = add(store, "anna", "a", "b"), add(store, "anna", "c", seed=1)
    history = store.matrix("anna", "e", "b")
    expected = np.concatenate([rows(2)["vectors"], rows(1, 1)["vectors"]]).astype(np.float16).astype(np.float32)
    assert history.ids.tolist() == first.ids + second.ids and history.ids.dtype == np.int64
    assert history.vectors.dtype == history.projections.dtype == np.float32
    np.testing.assert_array_equal(history.vectors, expected)
    projected = np.concatenate([rows(2)["projections"], rows(1, 1)["projections"]]).astype(np.float16)
    np.testing.assert_array_equal(history.projections, projected)
    later = store.matrix("anna", "e", "b", after_id=first.ids[-1])
    assert later.ids.tolist() == second.ids and later.projections.shape == (1, K, H)


def test_unknown_users_and_keys_have_an_empty_history(store: HistoryStore) -> None:
    assert store.matrix("anna", "e", "b").projections.shape == (0, 0, 0)
    assert store.persona_sum("anna", "b")[0].shape == (0, 0)
    add(store, "ben", "x")
    history = store.matrix("anna", "e", "b")
    assert (len(history), history.vectors.shape, history.projections.shape) == (0, (0, D), (0, K, H))
    total, count = store.persona_sum("anna", "b")
    assert (total.shape, total.any(), count) == ((K, H), False, 0)
    assert store.list("anna") == store.search("anna", "x") == [] and store.count("anna") == 0
    assert store.known("anna", [NewItem("x")]) == [None]


def test_duplicates_are_stored_once_for_a_user_and_reported(store: HistoryStore) -> None:
    first = add(store, "anna", "a", "b", "a")
    assert first.new == [True, True, False] and first.ids[2] == first.ids[0]
    revision, total = store.revision("anna"), store.persona_sum("anna", "b")
    again = add(store, "anna", "b", seed=5)
    assert again == Added([first.ids[1]], [False])
    assert store.revision("anna") == revision
    np.testing.assert_array_equal(store.persona_sum("anna", "b")[0], total[0])
    assert store.known("anna", [NewItem("a"), NewItem("a", output="1"), NewItem("z")]) == [first.ids[0], None, None]
    assert add(store, "ben", "a").new == [True]
    assert store.count("anna") == 2 and store.persona_sum("anna", "b")[1] == 2


def test_text_and_output_do_not_run_into_each_other(store: HistoryStore) -> None:
    for text, output in [("ab", "c"), ("a", "bc"), ("abc", "")]:
        added = store.add("anna", [NewItem(text, output)], encoder_key="e", bundle_key="b", **rows(1))
        assert added.new == [True]


def test_rows_of_duplicates_are_not_read(store: HistoryStore) -> None:
    """Callers do not encode what is known: its rows may be NaN, but never become a new item's vectors."""
    add(store, "anna", "a")
    before = store.matrix("anna", "e", "b")
    unknown = {"vectors": np.full((2, D), np.nan), "projections": np.full((2, K, H), np.nan)}
    unknown["vectors"][1], unknown["projections"][1] = 1, 2
    added = store.add("anna", [NewItem("a"), NewItem("b")], encoder_key="e", bundle_key="b", **unknown)
    assert added.new == [False, True]
    after = store.matrix("anna", "e", "b")
    np.testing.assert_array_equal(after.vectors[0], before.vectors[0])
    assert (after.vectors[1] == 1).all() and (after.projections[1] == 2).all()
    store.delete_item("anna", added.ids[0])
    with pytest.raises(DimensionError, match="NaN"):
        store.add("anna", [NewItem("a"), NewItem("b")], encoder_key="e", bundle_key="b", **unknown)
    assert store.count("anna") == 1


def test_a_duplicate_stays_missing_under_new_keys(store: HistoryStore) -> None:
    add(store, "anna", "a", "b")
    assert add(store, "anna", "b", keys="2").new == [False]
    assert [item.text for item in store.missing("e2", "b2")] == ["a", "b"]
    assert store.persona_sum("anna", "b2")[1] == 0


def test_no_items_make_no_user(store: HistoryStore) -> None:
    assert add(store, "anna") == Added([], [])
    assert store.users() == [] and store.revision("anna") == 0


def test_edit_keeps_the_id_and_replaces_everything(store: HistoryStore) -> None:
    ids = add(store, "anna", "a", "b").ids
    stored = list(store.missing("e2", "b2"))
    assert store.put_vectors(stored, "e2", rows(2)["vectors"]) == 2
    assert store.put_projections(stored, "b2", rows(2)["projections"]) == 2
    before = store.revision("anna")
    item = store.edit("anna", ids[0], NewItem("z", "out"), encoder_key="e", bundle_key="b", **rows(1, 7))
    assert (item.id, item.text, item.output) == (ids[0], "z", "out")
    assert store.rewritten("anna") == store.revision("anna") > before
    history = store.matrix("anna", "e", "b")
    np.testing.assert_array_equal(history.vectors[0], rows(1, 7)["vectors"][0].astype(np.float16))
    np.testing.assert_array_equal(store.persona_sum("anna", "b")[0], history.projections.astype(np.float64).sum(axis=0))
    assert store.persona_sum("anna", "b2")[1] == 1 and store.matrix("anna", "e2", "b2").ids.tolist() == ids[1:]
    with pytest.raises(TextError, match=f"already as item {ids[1]}"):
        store.edit("anna", ids[0], NewItem("b"), encoder_key="e", bundle_key="b", **rows(1))
    assert store.item("anna", ids[0]).text == "z"
    store.edit("anna", ids[0], NewItem("z", "out", time=1.0), encoder_key="e", bundle_key="b", **rows(1))
    assert store.item("anna", ids[0]).time == 1.0


def test_items_of_others_cannot_be_touched(store: HistoryStore) -> None:
    (theirs,) = add(store, "ben", "b").ids
    add(store, "anna", "a")
    for call in (
        lambda: store.item("anna", theirs),
        lambda: store.items("anna", [theirs]),
        lambda: store.delete_item("anna", theirs),
        lambda: store.edit("anna", theirs, NewItem("x"), encoder_key="e", bundle_key="b", **rows(1)),
        lambda: store.item("anna", 2**70),
        lambda: store.item("nobody", 1),
        lambda: store.delete_item("anna", 0),
    ):
        with pytest.raises(UnknownItemError, match="no history item"):
            call()
    with pytest.raises(UnknownUserError, match="carl"):
        store.delete_user("carl")
    assert store.count("ben") == 1


def test_revisions_grow_and_are_never_used_again(store: HistoryStore) -> None:
    seen = [store.revision("anna")]

    def grown() -> bool:
        seen.append(store.revision("anna"))
        return seen[-1] > seen[-2]

    first = add(store, "anna", "a", "b").ids
    assert grown() and store.rewritten("anna") < seen[-1]
    store.delete_item("anna", first[0])
    assert grown() and store.rewritten("anna") == seen[-1]
    store.delete_user("anna")
    assert grown()
    add(store, "ben", "x")
    second = add(store, "anna", "a").ids
    assert grown() and not set(first) & set(second)
    own = store.revision("anna")
    add(store, "ben", "y")
    assert store.revision("anna") == own


def test_ids_are_not_used_again_after_the_last_item_is_deleted(store: HistoryStore) -> None:
    (last,) = add(store, "anna", "a").ids
    store.delete_item("anna", last)
    assert add(store, "anna", "b").ids[0] > last


def test_list_pages_in_both_directions(store: HistoryStore) -> None:
    add(store, "anna", *"abcde")
    text = lambda **options: "".join(item.text for item in store.list("anna", **options))  # noqa: E731
    assert text() == "abcde" and text(newest_first=True) == "edcba"
    assert text(limit=2, offset=1) == "bc" and text(limit=2, newest_first=True) == "ed" and text(offset=9) == ""
    with pytest.raises(StoreError, match="negative"):
        store.list("anna", limit=-1)


def test_items_come_in_the_order_of_the_ids_asked_for(store: HistoryStore) -> None:
    ids = add(store, "anna", *(f"text {number}" for number in range(600))).ids  # more than a statement asks for
    asked = [*ids[::-2], ids[0], ids[0]]
    assert [item.id for item in store.items("anna", asked)] == asked
    assert store.items("anna", []) == []
    store.delete_item("anna", ids[300])
    with pytest.raises(UnknownItemError, match=str(ids[300])):
        store.items("anna", ids)


def test_search_is_plain_text_in_any_case_and_any_script(store: HistoryStore) -> None:
    add(store, "anna", "100% sure_thing", "STRASSE ÄÖ", "cafe\u0301", "other")
    store.add("anna", [NewItem("t", output="Thriller")], encoder_key="e", bundle_key="b", **rows(1))
    add(store, "ben", "thriller")
    found = lambda needle: [item.text for item in store.search("anna", needle)]  # noqa: E731
    assert found("0% S") == found("sure_t") == ["100% sure_thing"] and found("e_t") == ["100% sure_thing"]
    assert found("straße äö") == ["STRASSE ÄÖ"] and found("CAFÉ") == ["cafe\u0301"] and found("THRILL") == ["t"]
    assert found("\\") == found("' OR 1=1 --") == []
    assert len(store.search("anna", "e", limit=1, newest_first=True)) == 1
    with pytest.raises(TextError, match="empty"):
        store.search("anna", "")


@pytest.mark.parametrize(
    ("item", "match"),
    [
        (NewItem(""), "empty"),
        (NewItem(" \n\t\u3000"), "white space"),
        (NewItem("a\0b"), "NUL"),
        (NewItem("a\ud800"), "lone surrogate"),
        (NewItem("a", output="\udfff"), "output"),
        (NewItem("a", source="\0"), "source"),
        (NewItem("é" * (1 << 19) + "a"), "limit is 1048576"),
        (NewItem("a", time=float("nan")), "finite"),
        (NewItem("a", time=10**400), "finite"),
        (NewItem("a", time=True), "time"),
        (NewItem("a", time="now"), "time"),  # type: ignore[arg-type]
        (NewItem(None), "must be a str"),  # type: ignore[arg-type]
        ("a", "NewItem"),
    ],
)
def test_bad_items_are_refused_and_nothing_is_stored(store: HistoryStore, item: NewItem, match: str) -> None:
    with pytest.raises(TextError, match=match):
        store.add("anna", [NewItem("good"), item], encoder_key="e", bundle_key="b", **rows(2))
    assert store.users() == []


def test_the_largest_text_is_stored(store: HistoryStore) -> None:
    text = "é" * (1 << 19)
    assert store.item("anna", add(store, "anna", text).ids[0]).text == text


@pytest.mark.parametrize("user", ["", "a\0", "\ud800", "x" * 257, 5, None])
def test_bad_user_ids_are_refused(store: HistoryStore, user: str) -> None:
    for call in (store.count, store.revision, store.list, store.delete_user):
        with pytest.raises(TextError, match="user id"):
            call(user)
    with pytest.raises(TextError, match="user id"):
        add(store, user, "a")


@pytest.mark.parametrize("user", ["x" * 256, "'; DROP TABLE items; --", "\N{SNOWMAN}", " "])
def test_odd_user_ids_are_kept_as_they_are(store: HistoryStore, user: str) -> None:
    add(store, user, "a")
    assert store.users() == [user] and store.count(user) == 1


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"vectors": np.zeros((2, D))}, "n = 1"),
        ({"vectors": np.zeros(D)}, "shape"),
        ({"vectors": np.zeros((1, 0))}, "shape"),
        ({"vectors": np.zeros((1, D), dtype=np.int32)}, "floating-point"),
        ({"vectors": np.full((1, D), np.nan)}, "finite"),
        ({"vectors": [[1.0, 2.0], [1.0]]}, "one array"),
        ({"projections": np.full((1, K, H), 65520.0)}, "float16"),
        ({"projections": np.full((1, K, H), -np.inf)}, "finite"),
        ({"projections": np.zeros((1, H))}, r"\(n, k, H\)"),
    ],
)
def test_bad_arrays_are_refused_and_nothing_is_stored(store: HistoryStore, change: dict, match: str) -> None:
    with pytest.raises(DimensionError, match=match):
        store.add("anna", [NewItem("a")], encoder_key="e", bundle_key="b", **{**rows(1), **change})
    assert store.users() == []


def test_a_key_stands_for_one_shape(store: HistoryStore) -> None:
    add(store, "anna", "a")
    with pytest.raises(DimensionError, match="another key"):
        store.add(
            "anna", [NewItem("b")], encoder_key="e", bundle_key="b", **{**rows(1), "vectors": np.ones((1, D + 1))}
        )
    with pytest.raises(DimensionError, match="another key"):
        store.add(
            "ben", [NewItem("b")], encoder_key="e", bundle_key="b", **{**rows(1), "projections": np.ones((1, H, K))}
        )
    assert store.count("anna") == 1 and store.users() == ["anna"]
    with pytest.raises(TextError, match="encoder_key"):
        store.matrix("anna", "", "b")


def test_another_store_sees_changes_at_once(tmp_path: Path) -> None:
    with HistoryStore(tmp_path / "h.db") as one, HistoryStore(tmp_path / "h.db") as two:
        assert two.revision("anna") == 0
        (item_id,) = add(one, "anna", "a").ids
        assert two.revision("anna") == one.revision("anna") > 0
        two.delete_item("anna", item_id)
        assert one.count("anna") == 0 and one.revision("anna") == two.revision("anna")


def test_threads_share_a_store(store: HistoryStore) -> None:
    errors: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for i in range(20):
                add(store, f"user {name % 2}", f"{name} {i}", seed=i)
                store.matrix(f"user {name % 2}", "e", "b")
        except BaseException as error:  # collected for the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and store.count("user 0") == store.count("user 1") == 40
    history = store.matrix("user 1", "e", "b")
    np.testing.assert_array_equal(
        store.persona_sum("user 1", "b")[0], history.projections.astype(np.float64).sum(axis=0)
    )
    store.check()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path / "h.db")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count("anna")


def test_the_store_imports_numpy_and_the_standard_library_alone() -> None:
    folder = Path(sys.modules[HistoryStore.__module__].__file__ or "").parent
    found = set()
    for node in (node for file in folder.glob("*.py") for node in ast.walk(ast.parse(file.read_text("utf-8")))):
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            found.update(name.name.split(".")[0] for name in node.names)
    assert found - set(sys.stdlib_module_names) == {"numpy", "personaplug_edge"}
