"""PersonaPlug given what it cannot use: a typed error, nothing stored, and the next request works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.onnx_models import make_bundle
from personaplug_edge import HistoryStore, NewItem, PersonaPlug, Sampling
from personaplug_edge.errors import PromptError, StoreError, TextError

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


@pytest.mark.parametrize("persona", ["query", "static"])
def test_a_store_opened_for_reading_serves_and_keeps(
    folder: Path, tiny_gguf: Path, tmp_path: Path, persona: Any
) -> None:
    path = tmp_path / "history.db"
    with PersonaPlug.load(folder, store=path, threads=1) as plug:
        plug.user("anna").remember_all([("a film", "art"), ("the news", "politics")])
        before = plug.generate(REQUEST, user="anna", persona=persona, sampling=SHORT).text
    with PersonaPlug.load(folder, store=HistoryStore(path, read_only=True), threads=1) as plug:
        assert plug.generate(REQUEST, user="anna", persona=persona, sampling=SHORT).text == before
        assert plug.personalize(REQUEST, user="stranger", persona=persona).cold_start
        assert plug.user("anna").remember("a film", output="art") == 1
        assert plug.reembed() == 0
        anna = plug.user("anna")
        for change in (
            lambda: anna.remember("new"),
            lambda: anna.edit(1, text="new"),
            lambda: anna.forget(1),
            anna.erase,
        ):
            with pytest.raises(StoreError, match="read_only"):
                change()
        assert len(anna) == 2
    other = make_bundle(tmp_path / "other", llm_file=tiny_gguf, name="other", width=8)
    with PersonaPlug.load(other, store=HistoryStore(path, read_only=True), threads=1) as plug:
        for embeds in (lambda: plug.generate(REQUEST, user="anna", persona=persona), plug.reembed):
            with pytest.raises(StoreError, match=r"'other'.*reembed\(\)"):
                embeds()
        assert plug.generate(REQUEST, user="anna", persona="off", sampling=SHORT).text


def test_nothing_of_an_erased_user_stays_in_memory_when_the_purge_fails(
    plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = plug.user("anna")
    anna.remember("a film")
    delete = plug.store.delete_user

    def fails(user: str) -> None:
        plug.explain(REQUEST, user)  # a request that runs beside
        delete(user, purge=False)
        raise StoreError("the disk is full")

    monkeypatch.setattr(plug.store, "delete_user", fails)
    with pytest.raises(StoreError, match="full"):
        anna.erase()
    assert "anna" not in plug._personalizer.cache._entries
    assert len(anna) == 0
