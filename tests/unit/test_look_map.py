"""The map of users: projection, groups, their names; and the command over a store and over files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from personaplug_edge.errors import PersonaPlugError
from personaplug_edge.look.draw_map import describe, save_map
from personaplug_edge.look.groups import k_means, telling_words, usual_count, words_of
from personaplug_edge.look.project import project
from personaplug_edge.look.user_map import Portrait, map_of


def test_projection_keeps_distances_and_tells_the_shares() -> None:
    random = np.random.default_rng(0)
    flat = random.normal(size=(30, 2)) * [5, 1]
    turned = flat @ np.linalg.qr(random.normal(size=(7, 7)))[0][:2] + 3
    found = project(turned)
    between = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(found.points[:, None] - found.points[None], axis=-1), between, atol=1e-9)
    variance = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
    assert found.shares == pytest.approx(variance / variance.sum())
    np.testing.assert_allclose(project(turned.astype(np.float32)).points, found.points, atol=1e-5)
    assert found.points[:, 0].std() > found.points[:, 1].std()


@pytest.mark.parametrize("rows", [np.ones((4, 3)) / 3, np.zeros((1, 3)), np.zeros((0, 3))])
def test_rows_that_are_alike_lie_at_the_origin(rows: np.ndarray) -> None:
    found = project(rows)
    assert found.points.shape == (len(rows), 2) and not found.points.any() and found.shares == (0, 0)


def test_two_rows_have_one_direction() -> None:
    found = project(np.array([[0.0, 0, 0], [0, 3, 4]]))
    assert found.shares == pytest.approx((1, 0)) and abs(found.points[0, 0] - found.points[1, 0]) == pytest.approx(5)


def test_k_means_finds_groups_and_repeats() -> None:
    random = np.random.default_rng(1)
    rows = np.concatenate([random.normal(center, 0.1, (count, 5)) for center, count in ((0, 10), (5, 20), (-5, 5))])
    places = k_means(rows, 3, seed=3)
    assert places.tolist() == [1] * 10 + [0] * 20 + [2] * 5  # the largest first
    assert (places == k_means(rows, 3, seed=3)).all()
    assert k_means(np.ones((4, 2)), 3).tolist() == [0] * 4
    assert sorted(k_means(np.array([[0.0], [1.0]]), 5).tolist()) == [0, 1]
    assert [usual_count(users) for users in (1, 2, 8, 73, 10_000)] == [1, 1, 2, 6, 8]


def test_words_that_set_a_group_apart_are_shared_by_it() -> None:
    sports = ["the match was late", "a match and the score", "the striker and the match"]
    kitchen = ["the soup was hot", "soup with the bread", "the bread and the soup"]
    users = [words_of(texts * 20) for texts in (sports, sports, [*kitchen, "secretword"], kitchen)]
    assert words_of(["Match, match! 42 ab"]) == Counter({"match": 1})
    first, second = telling_words(users, [0, 0, 1, 1])
    assert first[0] == "match" and second[0] == "soup"
    assert not {"the", "was", "secretword"} & {*first, *second}
    often = [words_of(["your soup", "your bread", "a knife"] * 50), words_of(["your soup", "bread"] * 50)]
    seldom = [words_of(["match"] * 200 + ["your match"]), words_of(["your match"] + ["score"] * 200)]
    assert telling_words(often + seldom, [0, 0, 1, 1])[0] == ["bread", "soup"]  # "your" is everybody's
    assert telling_words(users[:2], [0, 1]) == [[], []]  # nobody's words name a group of one


def test_a_group_with_one_word_alone() -> None:
    assert telling_words([Counter({"text": 2}), Counter({"text": 2})], [0, 1]) == [[], []]
    assert len(telling_words([Counter({"goal": 3}), Counter({"goal": 3}), Counter({"vote": 3})], [0, 0, 1])) == 2


def portraits(titles: bool = False) -> list[Portrait]:
    """Two kinds of users, far apart."""
    random = np.random.default_rng(2)
    found = []
    for number in range(12):
        sporty = number % 3 > 0
        texts = [("the match at noon" if sporty else "a soup of leeks")] * 10
        outputs = {f"title {number} {n}": 1 for n in range(10)} if titles else {"ab"[sporty]: 7, "c": 3}
        persona = np.eye(2)[int(sporty)].repeat(4) + random.normal(0, 0.05, 8)
        found.append(
            Portrait(
                user=f"user-{number}",
                items=10,
                persona=persona.astype(np.float32),
                outputs=Counter(outputs),
                words=words_of(texts),
            )
        )
    return found


def test_users_are_colored_by_their_commonest_label() -> None:
    made = map_of(portraits())
    assert (made.color, made.groups) == ("label", {"b": 8, "a": 4})
    assert [user.group for user in made.users[:3]] == ["a", "b", "b"]
    assert made.neighbors == 1 and made.chance == pytest.approx((8 * 7 + 4 * 3) / (12 * 11))
    xs = {group: [user.x for user in made.users if user.group == group] for group in made.groups}
    assert max(xs["a"]) < min(xs["b"]) or max(xs["b"]) < min(xs["a"])
    assert "12 users" in describe(made) and "for 100% (by chance 52%)" in describe(made)


def test_else_by_groups_of_near_users() -> None:
    made = map_of(portraits(titles=True), groups=2)
    assert made.color == "words" and list(made.groups.values()) == [8, 4] and made.neighbors is None
    names = list(made.groups)
    assert "match" in names[0] and "soup" in names[1]
    assert map_of(portraits(), color="words", groups=2).groups == made.groups


def test_a_label_that_all_share_tells_nothing() -> None:
    alike = [Portrait(**{**vars(each), "outputs": Counter(a=9)}) for each in portraits()]
    assert map_of(alike).color == "words"
    bare = [Portrait(**{**vars(each), "outputs": Counter({"": 10})}) for each in portraits()]
    assert map_of(bare).color == "words"
    assert set(map_of(bare, color="label").groups) == {"no output"}


def test_a_map_needs_two_users() -> None:
    with pytest.raises(PersonaPlugError, match="expected two users"):
        map_of(portraits()[:1])


def test_the_picture_and_the_json_hold_no_texts(tmp_path: Path) -> None:
    made = map_of(portraits(titles=True)).numbered()
    save_map(made, tmp_path / "map.png", title="a map")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert [user.user for user in made.users] == [str(n) for n in range(1, 13)]
    assert "title" not in json.dumps(made.to_json())


def test_users_without_an_output_are_not_alike() -> None:
    def one(user: str, place: float, output: str) -> Portrait:
        rows = np.array([place, 0.0], np.float32)
        return Portrait(user=user, items=1, persona=rows, outputs=Counter({output: 4}), words=Counter())

    labeled = [one("a", 0, "x"), one("b", 3, "x"), one("c", 10, "y"), one("d", 13, "y")]
    silent = [one(f"s{number}", 100 + number, "") for number in range(3)]
    among, alone = map_of([*labeled, one("e", 2.9, ""), *silent], color="label"), map_of(labeled, color="label")
    assert (among.neighbors, among.chance) == (alone.neighbors, alone.chance) == (1.0, pytest.approx(1 / 3))
    assert among.groups == {"no output": 4, "x": 2, "y": 2}
    none = map_of(silent, color="label")
    assert none.neighbors is None and none.chance is None and "nearest" not in describe(none)
