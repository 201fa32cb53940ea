"""Quality against cost: gains over several tasks, costs, families and numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from personaplug_edge.evaluate.bootstrap import Estimate
from personaplug_edge.evaluate.costs import Cost
from personaplug_edge.evaluate.families import family_of, numbered, telling
from personaplug_edge.evaluate.picture_costs import axis_of, short_number
from personaplug_edge.evaluate.report import Difference, Figure, TaskReport
from personaplug_edge.evaluate.tradeoff import cost_panels, gains


def make_report(metric: str, up: bool, half: float, *, costs: Any = (), **differences: float) -> TaskReport:
    """``none`` at 0.5 with an interval of 2 * half; the others so much away from it, plus and minus 0.1 (0.2 below)."""
    methods = ("none", *differences)
    values = {"none": 0.0, **differences}
    return TaskReport(
        task="t",
        questions=9,
        users=3,
        methods=methods,
        directions={metric: up},
        figures=tuple(
            Figure(method=m, metric=metric, estimate=Estimate(0.5 + v, 0.5 + v - half, 0.5 + v + half))
            for m, v in values.items()
        ),
        differences=tuple(
            Difference(method=m, baseline="none", metric=metric, estimate=Estimate(d, d - 0.2, d + 0.1))
            for m, d in differences.items()
        ),
        costs=dict(costs),
    )


def test_one_task_keeps_its_unit_and_better_is_up() -> None:
    found = gains([make_report("mae", False, 0.1, pplug=-0.3)])
    assert found["none"].value == 0
    gain = found["pplug"]
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.3, 0.2, 0.5))


def test_several_tasks_are_put_on_one_scale() -> None:
    one = make_report("accuracy", True, 0.1, pplug=0.2, vote=0.1)
    other = make_report("mae", False, 0.5, pplug=-0.5)
    found = gains([one, other])
    assert found["pplug"].value == pytest.approx((0.2 / 0.1 + 0.5 / 0.5) / 2)
    assert found["pplug"].low == pytest.approx(1.5 - math.hypot(0.2 / 0.1, 0.1 / 0.5) / 2)
    assert found["pplug"].high == pytest.approx(1.5 + math.hypot(0.1 / 0.1, 0.2 / 0.5) / 2)
    assert (found["vote"].value, found["vote"].tasks, found["pplug"].tasks) == (pytest.approx(1.0), 1, 2)
    assert gains([]) == {}


def test_a_panel_a_cost_that_was_measured() -> None:
    costs = {
        "none": Cost(first_token_ms=10, prompt_tokens=8, bytes_per_user=0),
        "pplug": Cost(first_token_ms=12, prompt_tokens=10, bytes_per_user=4000),
        "lora": Cost(first_token_ms=11, prompt_tokens=8, bytes_per_user=90_000, training_seconds=30),
    }
    one = make_report("accuracy", True, 0.1, costs=costs, pplug=0.2, lora=0.1)
    slower = make_report("accuracy", True, 0.1, costs={"pplug": Cost(first_token_ms=20)}, pplug=0.2, lora=0.1)
    panels = cost_panels([one, slower])
    assert list(panels) == ["first_token_ms", "prompt_tokens", "bytes_per_user", "training_seconds"]
    assert {p.method: p.cost for p in panels["first_token_ms"]} == {"none": 10, "pplug": 16, "lora": 11}
    assert [p.method for p in panels["training_seconds"]] == ["lora"]
    assert [p.cost for p in panels["bytes_per_user"]] == [0, 4000, 90_000]
    assert cost_panels([make_report("accuracy", True, 0.1, pplug=0.2)]) == {}


def test_methods_have_a_family_and_a_number() -> None:
    assert {name: family_of(name).name for name in ("none", "query", "pplug+bm25:1", "lora+pplug", "somebody-s")} == {
        "none": "no history",
        "query": "PPlug",
        "pplug+bm25:1": "PPlug with text",
        "lora+pplug": "trained for each user",
        "somebody-s": "other",
    }
    reports = [make_report("accuracy", True, 0.1, vote=0.0, bm25=0.0), make_report("mae", True, 0.1, query=0.0)]
    assert numbered(reports) == {"none": 1, "query": 2, "bm25": 3, "vote": 4}


def test_a_crowded_panel_names_the_best() -> None:
    report = make_report("mae", False, 0.1, bm25=0.1, query=0.3, wrong_user=0.4, dense=-0.2, vote=-0.1, random=-0.05)
    assert telling(report, "mae") == ["none", "query", "wrong_user", "dense", "vote"]


@pytest.mark.parametrize(("least", "most"), [(31.0, 33.0), (5.0, 5.0), (0.1, 900.0), (8.0, 430.0), (20.0, 50.0)])
def test_an_axis_has_ticks_and_room(least: float, most: float) -> None:
    low, high, ticks = axis_of(least, most)
    assert low < least <= most < high
    assert len(ticks) >= 2 and low <= min(ticks) and max(ticks) <= high


def test_numbers_of_an_axis_are_short() -> None:
    assert [short_number(value) for value in (0, 0.5, 20, 5000, 2e6, 1e9)] == ["0", "0.5", "20", "5k", "2M", "1G"]
