"""Attribution over time: order, axis and cumulative weight; and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from personaplug_edge.look.draw_timeline import save_timeline
from personaplug_edge.look.timeline import timeline_of
from personaplug_edge.results import Attribution
from personaplug_edge.store import NewItem


def weighed(*pairs: tuple[float | None, float]) -> list[Attribution]:
    return [
        Attribution(NewItem(f"$text {n} of\nseveral words", "ab"[n % 2], time), w) for n, (time, w) in enumerate(pairs)
    ]


def test_items_are_in_order_of_time_where_all_have_one() -> None:
    made = timeline_of(weighed((300.0, 0.5), (-100.0, 0.2), (200.0, 0.3)))
    assert made.dated and made.where.tolist() == [-100, 200, 300]
    assert [each.item.text[6] for each in made.attribution] == ["1", "2", "0"]
    assert made.weight.tolist() == [0.2, 0.3, 0.5]
    assert made.newer.tolist() == pytest.approx([1, 0.8, 0.5])  # what is as new or newer
    assert made.heaviest(2) == [2, 1]
    assert made.half() == 1 and made.even == pytest.approx(1 / 3)


@pytest.mark.parametrize("odd", [None, 1e300, 1.0])
def test_else_in_order_of_the_history(odd: float | None) -> None:
    # No date; a date beyond the calendar; one date for all, which is no axis.
    made = timeline_of(weighed((1.0, 0.25), (odd, 0.25), (1.0, 0.5)))
    assert not made.dated and made.where.tolist() == [1, 2, 3]
    assert made.weight.tolist() == [0.25, 0.25, 0.5] and made.half() == 1


def test_half_of_the_weight_counts_from_the_newest() -> None:
    assert timeline_of(weighed(*[(None, 0.25)] * 4)).half() == 2
    assert timeline_of(weighed((None, 0.9), (None, 0.1))).half() == 2
    assert timeline_of([]).half() == 0


@pytest.mark.parametrize("dated", [True, False])
def test_the_picture(tmp_path: Path, dated: bool) -> None:
    made = timeline_of(weighed(*[(86_400.0 * n * n - 1e9 if dated else None, 0.05) for n in range(20)]))
    assert made.dated == dated
    save_timeline(made, tmp_path / "t.png", title="a request of 5 $")
    picture = (tmp_path / "t.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
