"""What is wrong with a contribution is a MethodError that names the method and the field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.gguf_llama import TinyModel
from models.onnx_models import make_bundle
from personaplug_edge import PersonaPlug, Sampling
from personaplug_edge.bundle import PromptPart
from personaplug_edge.errors import MethodError, SamplingError
from personaplug_edge.personalize import registry
from personaplug_edge.personalize.hint_check import _RANGES, hint_fault
from personaplug_edge.personalize.method import Contribution
from personaplug_edge.prompt import Prompt

REQUEST = "tag of: the long sport film"


@pytest.fixture(scope="module")
def plug(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    prompt = PromptPart(template="{input}\nanswer:", max_input_tokens=128, max_prompt_tokens=200)
    folder = make_bundle(tmp_path_factory.mktemp("b") / "b", llm_file=tiny.path, tokens=2, prompt=prompt)
    with PersonaPlug.load(folder, threads=1) as loaded:
        yield loaded


Bring = Callable[[Any], None]


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bring]:
    """Makes "mine" a method of another package that returns what is given."""

    def make(what: Any) -> None:
        method = what if callable(what) else lambda user, request: what
        entry = SimpleNamespace(name="mine", value="my_package:mine", load=lambda: method)
        monkeypatch.setattr(registry, "_found", lambda: {"mine": entry})
        registry._parse.cache_clear()

    yield make
    registry._parse.cache_clear()


def rows(width: int, fill: float = 0.5) -> Any:
    return np.full((2, width), fill, np.float32)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("persona", rows(7), r"expected float32 rows \(k, \d+\), got float32 \(2, 7\)"),
        ("persona", rows(7)[0], r"got float32 \(7,\)"),
        ("persona", [[1.0]], r"got \[\[1.0\]\]"),
        ("front", "a\0b", "holds a NUL character at position 1"),
        ("front", 5, "must be a str, not int"),
        ("front", "the film " * 200, r"expected at most \d+ more tokens .* got \d+; .*request.room"),
        ("text", "", "is empty"),
        ("text", "the film " * 200, r"expected at most \d+ more tokens"),
        ("prompt", Prompt(), "expected a Prompt of one or more positions"),
        ("prompt", Prompt.tokens([1, 10**6]), r"expected token ids from 0 to \d+, got 1000000"),
        ("prompt", Prompt.rows(rows(7)), r"got float32 \(2, 7\)"),
        ("adapter", "/no/such.gguf", "no such file: /no/such.gguf"),
        ("adapter", 5, "expected a path, or a name"),
        ("sampling", {"heat": 1}, r"expected fields of Sampling \(max_tokens, .*\), got 'heat'"),
        ("sampling", {"temperature": -5}, "temperature: expected a finite number, 0 or more, got -5"),
        ("sampling", 5, "expected fields of Sampling with their values, got 5"),
        ("votes", {"x": "y"}, "expected a finite number, 0 or more, as the weight of 'x', got 'y'"),
        ("votes", {"x": float("nan")}, "got nan"),
        ("votes", {"x": -1.0}, "got -1.0"),
        ("votes", {1: 1.0}, "expected a str as a label, got 1"),
        ("votes", ["x"], "expected labels with their weights"),
        ("keeps", frozenset({"nonsense"}), "expected some of vectors, projections, .*, got 'nonsense'"),
        ("keeps", "texts", "expected a frozenset of vectors"),
        ("bytes_kept", "many", "expected a finite number, 0 or more, got 'many'"),
        ("training_seconds", float("nan"), "got nan"),
    ],
)
def test_method_and_field_are_named(plug: PersonaPlug, bring: Bring, field: str, value: Any, message: str) -> None:
    bring(Contribution(**{field: value}))
    for spec in ("mine", "query+mine"):
        with pytest.raises(MethodError, match=f"^method 'mine': {field}: .*{message}"):
            plug.personalize(REQUEST, method=spec)


def test_rows_that_are_not_finite_or_not_contiguous(plug: PersonaPlug, bring: Bring) -> None:
    width = plug.llm.model.embedding_width
    bad = rows(width)
    bad[1, 3] = np.nan
    for value, message in (
        (bad, "NaN or infinity in row 1"),
        (rows(2 * width)[:, ::2], "contiguous"),
        (rows(width).astype(np.float64), "got float64"),
    ):
        bring(Contribution(persona=value))
        with pytest.raises(MethodError, match=f"^method 'mine': persona: .*{message}"):
            plug.personalize(REQUEST, method="mine")


def test_what_is_right_runs(plug: PersonaPlug, bring: Bring) -> None:
    width = plug.llm.model.embedding_width
    bring(
        Contribution(
            persona=rows(width),
            front="in short: ",
            text=REQUEST,
            sampling={"max_tokens": np.int64(2), "temperature": np.float32(0.5), "seed": 3, "stop": ("film",)},
            keeps=frozenset({"texts"}),
            bytes_kept=3,
            training_seconds=0.5,
        )
    )
    assert plug.personalize(REQUEST, method="mine").front == "in short: "
    assert len(plug.generate(REQUEST, method="query+mine").tokens) <= 2
    bring(Prompt.tokens(np.array([1, 2])) + Prompt.rows(rows(width)) + Prompt.tokens([3]))
    assert len(plug.personalize(REQUEST, method="mine").prompt) == 5
    bring(Contribution(votes={"a": 1, "b": np.float32(3)}))
    assert plug.choose(REQUEST, ["a", "b"], method="mine").label == "b"


def test_who_stays_within_the_room_is_not_refused(plug: PersonaPlug, bring: Bring) -> None:
    def full(user: Any, request: Any) -> Contribution:
        text = ""
        while request.length(text + "film ") <= request.room:
            text += "film "
        return Contribution(front=text)

    bring(full)
    limit = plug.bundle.manifest.prompt.max_prompt_tokens
    assert limit - 10 < len(plug.personalize(REQUEST, method="mine").prompt)
    assert plug.personalize("tag of: " + "the film " * 100, method="mine").front == ""


def test_votes_are_not_dropped_beside_another_method(plug: PersonaPlug, bring: Bring) -> None:
    bring(Contribution(votes={"a": 1.0}))
    for spec in ("query+mine", "mine+query"):
        with pytest.raises(MethodError, match="method 'mine' votes for labels and cannot be combined; name it alone"):
            plug.choose(REQUEST, ["a", "b"], method=spec)


BAD: tuple[dict[str, Any], ...] = (
    {"max_tokens": 0},
    {"max_tokens": 2**40},
    {"temperature": float("inf")},
    {"temperature": "hot"},
    {"top_k": -1},
    {"top_k": 1.5},
    {"top_p": 0},
    {"top_p": float("nan")},
    {"min_p": 1},
    {"repetition_penalty": 0},
    {"repetition_penalty": 5e-7},
    {"repetition_penalty": 2e6},
    {"presence_penalty": -2e6},
    {"frequency_penalty": 2e6},
    {"logit_bias": {1: 2e6}},
    {"presence_penalty": float("nan")},
    {"frequency_penalty": float("inf")},
    {"penalty_window": -2},
    {"logprobs": -1},
    {"seed": -1},
    {"seed": 2**32 - 1},
    {"logit_bias": {-1: 1.0}},
    {"logit_bias": {1: float("nan")}},
    {"stop": "end"},
    {"stop": ("",)},
    {"grammar": 5},
)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_hints_are_held_to_what_the_engine_takes(plug: PersonaPlug, bad: dict[str, Any]) -> None:
    (hint,) = bad.items()
    assert hint_fault(*hint).startswith(f"{hint[0]}: expected ")
    with pytest.raises(SamplingError):
        plug.generate(REQUEST, sampling=Sampling(**bad))


@pytest.mark.parametrize(
    "good",
    [
        {"repetition_penalty": 9e5},
        {"presence_penalty": -9e5},
        {"frequency_penalty": 9e5},
        {"logit_bias": {1: -float("inf"), 2: 9e5}},
        {"top_p": 1, "temperature": 1.0},
        {"min_p": 0, "temperature": 1.0},
        {"penalty_window": 1 << 20},
        {"seed": 2**32 - 2},
    ],
    ids=str,
)
def test_what_the_engine_takes_may_be_hinted_at(plug: PersonaPlug, good: dict[str, Any]) -> None:
    assert [hint_fault(*hint) for hint in good.items()] == [""] * len(good)
    plug.generate(REQUEST, sampling=Sampling(max_tokens=1, **good))


def test_every_option_can_be_hinted_at() -> None:
    assert set(_RANGES) == {field.name for field in fields(Sampling)}
    assert all(not hint_fault(name, value) for name, value in vars(Sampling()).items())
