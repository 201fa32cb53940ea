"""Metrics on cases small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from personaplug_edge.evaluate.bootstrap import UserBootstrap
from personaplug_edge.evaluate.metrics import (
    Prediction,
    accuracy,
    macro_f1,
    mae,
    metrics_of,
    nll,
    nll_per_token,
    rating,
    rmse,
    rouge,
)

STARS = ["1", "2", "3", "4", "5"]


def answers(*pairs: tuple[str, str], users: str = "") -> list[Prediction]:
    return [
        Prediction(id=str(n), user_id=users[n] if users else "u", text=text, gold=gold)
        for n, (text, gold) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("text", "gold", "hit"),
    [
        ("sports", "sports", 1),
        (" sports\n", "sports", 1),
        ("Sports", "sports", 0),
        ("", "sports", 0),
        ("sports!", "sports", 0),
        ("4.", "4", 0),
    ],
)
def test_accuracy_compares_as_lamp_does(text: str, gold: str, hit: int) -> None:
    assert accuracy(answers((text, gold))) == hit


@pytest.mark.parametrize(
    ("text", "gold", "read"),
    [
        ("4", 5, 4),
        ("4.", 5, 4),
        (" 4.5 ", 5, 4.5),
        ("four", 5, 1),  # LaMP: not a number counts as the further end of the scale
        ("four", 2, 5),
        ("four", 3, 5),  # equally far: LaMP's comparison is strict
        ("", 4, 1),
        ("4 stars", 1, 5),
        ("nan", 4, 1),
        ("inf", 1, 5),
        ("7", 5, 7),  # a number outside of the scale is taken as it is
    ],
)
def test_rating_follows_lamps_rule(text: str, gold: float, read: float) -> None:
    assert rating(text, gold, 1, 5) == read


def test_mae_and_rmse() -> None:
    given = answers(("5", "5"), ("4.", "5"), ("no idea", "1"), ("", "3"))  # errors 0, 1, 4, 2
    assert mae(STARS)(given) == pytest.approx(7 / 4)
    assert rmse(STARS)(given) == pytest.approx(math.sqrt(21 / 4))


def test_macro_f1_counts_every_label() -> None:
    given = answers(("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), ("B", "b"), ("", "a"))
    f_a = 2 * 2 / (2 * 2 + 1 + 1)  # two hits, one b taken for a, one a missed by the empty answer
    f_b = 2 * 1 / (2 * 1 + 0 + 2)  # one hit; "a" and "B" miss it
    assert macro_f1(["a", "b"])(given) == pytest.approx((f_a + f_b) / 2)
    assert macro_f1(["a", "b", "c"])(given) == pytest.approx((f_a + f_b) / 3)


def test_rouge_on_hand_made_overlaps() -> None:
    given = answers(("the cat sat", "the cat sat down"), ("", "anything"), ("down sat", "sat down"))
    one, subsequence = rouge("rouge1"), rouge("rougeL")
    first = 2 * 1 * (3 / 4) / (1 + 3 / 4)
    assert one(given) == pytest.approx((first + 0 + 1) / 3)
    assert subsequence(given) == pytest.approx((first + 0 + 0.5) / 3)


def test_likelihood_per_answer_and_per_token() -> None:
    given = [
        Prediction(id="1", user_id="u", gold="x", text="", logprob=-3.0, tokens=1),
        Prediction(id="2", user_id="u", gold="y", text="", logprob=-5.0, tokens=3),
    ]
    assert nll(given) == pytest.approx(4)
    assert nll_per_token(given) == pytest.approx(2)


def test_nothing_to_measure_is_nan() -> None:
    assert math.isnan(accuracy([]))


def test_each_kind_has_its_metrics() -> None:
    assert [m.name for m in metrics_of("label", ["a"])] == ["accuracy", "macro_f1", "nll_per_token", "nll"]
    assert [m.name for m in metrics_of("rating", STARS)][:2] == ["mae", "rmse"]
    assert [m.name for m in metrics_of("text", [])][:2] == ["rougeL", "rouge1"]


@pytest.mark.parametrize("metric", [accuracy, macro_f1(["1", "5"]), mae(STARS), rmse(STARS)], ids=lambda m: m.name)
def test_bootstrap_equals_a_loop_over_resamples(metric) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    given = answers(*((rng.choice(STARS), rng.choice(["1", "5"])) for _ in range(40)), users="abcdefgh" * 5)
    bootstrap = UserBootstrap([p.user_id for p in given], resamples=200, seed=3)
    draws = np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), size=200)
    values = []
    for draw in draws:
        times = dict(zip("abcdefgh", draw, strict=True))
        values.append(metric([p for p in given for _ in range(times[p.user_id])]))
    estimate = bootstrap.estimate(metric, given)
    assert estimate.value == pytest.approx(metric(given))
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(2)
    golds = [str(rng.choice(STARS)) for _ in range(60)]
    worse = answers(*((str(rng.choice(STARS)), gold) for gold in golds), users="abcdefghij" * 6)
    better = [  # one answer more of each user is right, whatever the user
        Prediction(id=p.id, user_id=p.user_id, gold=p.gold, text=p.gold if n < 10 else p.text)
        for n, p in enumerate(worse)
    ]
    bootstrap = UserBootstrap([p.user_id for p in worse], resamples=500)
    difference = bootstrap.difference(accuracy, better, worse)
    assert difference.value == pytest.approx(accuracy(better) - accuracy(worse))
    wide = bootstrap.estimate(accuracy, worse)
    assert difference.high - difference.low < wide.high - wide.low
    same = bootstrap.difference(accuracy, worse, worse)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_bootstrap_refuses_another_number_of_predictions() -> None:
    with pytest.raises(ValueError, match="expected 2 predictions, got 1"):
        UserBootstrap(["a", "b"]).estimate(accuracy, answers(("x", "x")))
