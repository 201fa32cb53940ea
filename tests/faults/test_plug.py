"""PersonaPlug given what it cannot use: a typed error, nothing stored, and the next request works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.onnx_models import make_bundle
from personaplug_edge import NewItem, PersonaPlug, Sampling
from personaplug_edge.errors import PromptError, TextError

SHORT = Sampling(max_tokens=4, ignore_end=True)
REQUEST = "hello there"


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("faults") / "random", llm_file=tiny_gguf, name="random")


@pytest.fixture
def plug(folder: Path) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(folder, threads=1) as plug:
        yield plug
        assert len(plug.generate(REQUEST, user="anna", sampling=SHORT).tokens) == 4  # whatever came before


@pytest.mark.parametrize("items", ["a film", {"text": "a film"}, NewItem("a film")])
def test_one_item_in_place_of_a_list(plug: PersonaPlug, items: Any) -> None:
    with pytest.raises(TextError, match="put it into a list"):
        plug.user("anna").remember_all(items)
    assert len(plug.user("anna")) == 0


@pytest.mark.parametrize("item", [5, None, {"text": "a film"}, ("a", "b", "c"), ()])
def test_what_is_no_item_is_not_stored(plug: PersonaPlug, item: Any) -> None:
    with pytest.raises(TextError, match="NewItem"):
        plug.user("anna").remember_all(["a film", item])
    assert len(plug.user("anna")) == 0


@pytest.mark.parametrize("persona", ["query", "static"])
@pytest.mark.parametrize("history", ["abc", ["a film"], [("a film", "art")], [5]])
def test_what_is_no_inline_history(plug: PersonaPlug, history: Any, persona: Any) -> None:
    with pytest.raises(TextError, match="NewItem"):
        plug.generate(REQUEST, history=history, persona=persona, sampling=SHORT)


@pytest.mark.parametrize("labels", ["politics", ["art", "art "], [], {}])
def test_what_is_no_list_of_labels(plug: PersonaPlug, labels: Any) -> None:
    with pytest.raises(PromptError, match="labels"):
        plug.choose(REQUEST, labels)


@pytest.mark.parametrize("label", ["", "\n", 5, ["art"], "\ud800", "a\0b"])
def test_labels_that_are_no_text(plug: PersonaPlug, label: Any) -> None:
    with pytest.raises(TextError, match="label"):
        plug.choose(REQUEST, ["news", label])


def test_labels_that_begin_alike_are_scored_with_their_end(plug: PersonaPlug) -> None:
    choice = plug.choose(REQUEST, ["art", "arts", "arts and"])
    assert len(set(choice.logprobs)) == 3
    for label, logprob in zip(choice.labels, choice.logprobs, strict=True):
        score = plug.score(REQUEST, label)
        assert score.tokens[-1] == plug.llm.model.eos
        assert logprob == pytest.approx(score.logprob, abs=1e-3)
