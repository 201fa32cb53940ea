"""Every method through PersonaPlug, on a tiny random bundle: stored and given histories, changes, budget, bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.gguf_llama import TinyModel
from models.onnx_models import make_bundle
from personaplug_edge import NewItem, PersonaPlug, Sampling
from personaplug_edge.bundle import PromptPart
from personaplug_edge.errors import ContextFullError, MethodError, PromptError
from personaplug_edge.personalize import registry
from personaplug_edge.personalize.method import Contribution
from personaplug_edge.results import Personalized

ITEMS = [
    NewItem("a long film about sport", "sport"),
    NewItem("the news was bad", "news"),
    NewItem("music that i like", "music"),
    NewItem("a very good story", "fiction"),
    NewItem("sport in the news", "sport"),
]
REQUEST = "tag of: the long sport film"
LLM_METHODS = (
    "none",
    "instruction",
    "pplug",
    "pplug-static",
    "recency:2",
    "random:2",
    "bm25:2",
    "dense:2",
    "dense+query",
)


@pytest.fixture(scope="module")
def folder(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompt = PromptPart(template="{input}\nanswer:", max_input_tokens=128, max_prompt_tokens=200)
    return make_bundle(tmp_path_factory.mktemp("b") / "b", llm_file=tiny.path, tokens=2, prompt=prompt)


@pytest.fixture
def plug(folder: Path) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(folder, threads=1) as loaded:
        yield loaded


@pytest.fixture
def anna(plug: PersonaPlug) -> str:
    plug.user("ben").remember_all([NewItem("the end of a bad story", "fiction")])
    plug.user("anna").remember_all(ITEMS)
    return "anna"


def texts(plug: PersonaPlug, made: Personalized) -> str:
    return plug.llm.detokenize(made.prompt.spans[-1]).strip()  # type: ignore[arg-type]


def same(one: Personalized, other: Personalized) -> None:
    assert len(one.prompt.spans) == len(other.prompt.spans)
    for a, b in zip(one.prompt.spans, other.prompt.spans, strict=True):
        if isinstance(a, list):
            assert a == b
        else:
            np.testing.assert_allclose(a, b, atol=2e-2)  # the store keeps float16


@pytest.mark.parametrize("method", LLM_METHODS)
def test_a_given_history_does_what_the_stored_one_does(plug: PersonaPlug, anna: str, method: str) -> None:
    stored = plug.personalize(REQUEST, user=anna, method=method)
    given = plug.personalize(REQUEST, user=anna, method=method, history=ITEMS)
    same(stored, given)
    assert [each.item.text for each in stored.attribution] == [each.item.text for each in given.attribution]
    assert stored.kept and given.kept and stored.kept.bytes() == given.kept.bytes()
    assert plug.generate(REQUEST, user=anna, method=method, sampling=Sampling(max_tokens=2)).persona == method
    if stored.attribution:
        assert sum(each.weight for each in stored.attribution) == pytest.approx(1, abs=1e-3)


def test_modes_are_short_for_methods(plug: PersonaPlug, anna: str) -> None:
    for mode, method in (("query", "pplug"), ("static", "pplug-static"), ("off", "instruction")):
        same(plug.personalize(REQUEST, user=anna, persona=mode), plug.personalize(REQUEST, user=anna, method=method))  # type: ignore[arg-type]
    same(plug.personalize(REQUEST, persona="off", instruction=False), plug.personalize(REQUEST, method="none"))


def test_who_has_no_history(plug: PersonaPlug) -> None:
    for user, history in ((None, None), ("nobody", None), ("anna", [])):
        for method in ("recency", "random", "bm25", "dense", "summary", "summary+dense:1"):
            same(
                plug.personalize(REQUEST, user=user, method=method, history=history),
                plug.personalize(REQUEST, method="none"),
            )
        for method in ("pplug", "pplug-static"):
            made = plug.personalize(REQUEST, user=user, method=method, history=history)
            assert made.cold_start and made.kept and made.kept.bytes() == 0
        assert plug.personalize(REQUEST, user=user, method="vote", history=history).votes == {}


def test_what_retrieval_finds(plug: PersonaPlug, anna: str) -> None:
    def found(method: str, request: str = REQUEST) -> list[str]:
        return [each.item.text for each in plug.personalize(request, user=anna, method=method).attribution]

    assert found("recency:2") == ["sport in the news", "a very good story"]
    assert found("bm25:1") == ["a long film about sport"]
    assert found("dense:1") == ["a long film about sport"]
    assert len(set(found("random:3"))) == 3 and found("random:3") == found("random:3")
    drawn = {tuple(found("random:2", f"tag of: {word}")) for word in ("film", "news", "music", "story")}
    assert len(drawn) > 1
    both = plug.personalize(REQUEST, user=anna, method="pplug+bm25:1")
    assert len(both.prompt.spans) == 4 and len(both.attribution) == 5  # start, I, P, text; shares of the persona
    assert texts(plug, both) == (f"tag of: a long film about sport\nanswer: sport\n{REQUEST}\nanswer:")


def test_changes_of_the_history_are_seen(plug: PersonaPlug, anna: str) -> None:
    def found() -> list[str]:
        return [each.item.text for each in plug.personalize(REQUEST, user=anna, method="bm25:1").attribution]

    assert found() == ["a long film about sport"]
    better = plug.user(anna).remember("the long sport film", output="sport")
    assert found() == ["the long sport film"]
    plug.user(anna).edit(better, text="nothing of the kind")
    assert found() == ["a long film about sport"]
    plug.store.delete_item(anna, plug.store.list(anna)[0].id)  # by another process: nobody tells the caches
    assert found() == ["sport in the news"]
    plug.user(anna).erase()
    assert found() == []


def test_an_item_deleted_while_a_request_reads_it(
    plug: PersonaPlug, anna: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, deleted = plug.store.items, []

    def deleting(user: str, ids: Any) -> Any:
        if not deleted:
            deleted.append(ids[0])
            plug.store.delete_item(user, ids[0])
        return read(user, ids)

    monkeypatch.setattr(plug.store, "items", deleting)
    made = plug.personalize(REQUEST, user=anna, method="pplug+bm25:1")
    assert len(made.attribution) == 4 and deleted[0] not in [each.item.id for each in made.attribution]


def test_retrieved_text_fits(plug: PersonaPlug) -> None:
    past = [NewItem("a film " * n, "news") for n in (120, 4, 3)]
    budget = plug.bundle.manifest.prompt.max_prompt_tokens

    def length(method: str, request: str = "tag of: film", **options: Any) -> int:
        prompt = plug.personalize(request, method=method, history=past, **options).prompt
        return len(prompt.spans[-1])

    bare = length("none")
    assert bare < length("recency:1") < length("recency:2") <= budget
    assert length("recency:3") == length("recency:2")  # the long one does not fit beside the others
    long = "tag of: " + "the film " * 200
    assert length("recency:3", long, cut=True) <= budget
    assert length("recency:3", long) == length("none", long) > budget  # not cut unless asked: then the engine refuses
    with pytest.raises(ContextFullError):
        plug.generate(long * 3, method="recency:3", history=past)


def test_lamp_items_are_cut_evenly(plug: PersonaPlug) -> None:
    past = [NewItem(f"{word} " + "film " * 120, "news") for word in ("good", "bad", "long")]
    largest = plug.bundle.manifest.prompt.max_prompt_tokens
    for about in ("sport", "the bad news story " * 5):
        request = f"Generate a headline for the following article: {about}".strip()
        made = plug.personalize(request, method="recency:3", history=past)
        text = texts(plug, made)
        assert text.count('"news" is the title for "') == 3 and request in text
        counts = [part.count("film") for part in text.split('is the title for "')[1:]]
        assert min(counts) > 0 and max(counts) - min(counts) <= 1
        assert largest - 30 < len(made.prompt) <= largest  # the room is used


def test_rows_count_too(plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms: list[int] = []

    def rows(user: Any, request: Any) -> Contribution:
        rooms.append(request.room)
        return Contribution(persona=np.ones((30, plug.llm.model.embedding_width), np.float32))

    entry = SimpleNamespace(value="my_package:rows", load=lambda: rows)
    monkeypatch.setattr(registry, "_found", lambda: {"rows": entry})
    registry._parse.cache_clear()
    past = [NewItem(f"{word} " + "film " * 120, "news") for word in ("good", "bad", "long")]
    largest = plug.bundle.manifest.prompt.max_prompt_tokens
    request = "Generate a headline for the following article: sport"
    texts = ("recency:3", "pplug+recency:3", "recency:3+pplug", "rows+recency:3", "recency:3+rows")
    for method in (*texts, "recency:2+pplug+rows+dense:1"):
        made = plug.personalize(request, method=method, history=past)
        assert largest - 20 < len(made.prompt) <= largest and "film" in made.front, method
    for method in ("none", "pplug", "instruction"):  # no room is taken by rows that are not there
        plug.personalize(request, method=f"rows+{method}", history=past)
        assert rooms[-1] == largest - len(plug.personalize(request, method=method, history=past).prompt)
    registry._parse.cache_clear()


def test_bytes_kept(plug: PersonaPlug, anna: str) -> None:
    width, row, count = plug.embedder.width, 2 * plug.llm.model.embedding_width, len(ITEMS)
    written = sum(len(item.text) + len(item.output) for item in ITEMS)
    expected = {
        "none": 0,
        "pplug": count * (width + row) * 2,
        "pplug-static": row * 8,
        "bm25": written,
        "dense": written + count * width * 2,
        "pplug+dense": written + count * (width + row) * 2,  # the vectors are the same
        "majority": sum(len(item.output) for item in ITEMS),
    }
    for method, wanted in expected.items():
        kept = plug.personalize(REQUEST, user=anna, method=method).kept
        assert kept and kept.bytes() == wanted, method


def test_where_no_item_fits_whole_the_best_is_cut(plug: PersonaPlug) -> None:
    past = [NewItem("the news " * 20, "news"), NewItem("a long film about sport " * 60, "sport")]
    made = plug.personalize(REQUEST, method="recency:2", history=past)
    shown = texts(plug, made)
    assert len(made.prompt) <= 200
    assert shown.count("a long film about sport") > 3 and "answer: sport" in shown and "answer: news" not in shown
    assert [each.item.output for each in made.attribution] == ["sport"]


def test_labels_without_an_llm(plug: PersonaPlug, anna: str) -> None:
    labels = ["news", " sport", "music"]
    for method in ("majority", "vote"):
        choice = plug.choose(REQUEST, labels, user=anna, method=method)
        assert choice.label.strip() == "sport" and sum(choice.probabilities) == pytest.approx(1)
        assert choice.probabilities[1] == max(choice.probabilities)
        for call in (lambda m=method: plug.generate("x", method=m), lambda m=method: plug.score("x", "y", method=m)):
            with pytest.raises(PromptError, match="call choose"):
                call()


def test_unknown_methods_are_refused(plug: PersonaPlug) -> None:
    for call in (
        lambda: plug.generate("x", method="nonne"),
        lambda: list(plug.stream("x", method="nonne")),
        lambda: plug.choose("x", ["a", "b"], method="nonne"),
    ):
        with pytest.raises(MethodError, match="known: none, instruction"):
            call()


def test_the_example_of_the_docs(plug: PersonaPlug, anna: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    (code,) = (block for block in page.split("```python\n") if block.startswith("from personaplug_edge.personalize"))
    example: dict[str, Any] = {}
    exec(code.partition("```")[0], example)
    entry = SimpleNamespace(name="longest", value="my_package:longest", load=lambda: example["longest"])
    monkeypatch.setattr(registry, "_found", lambda: {"longest": entry})
    made = plug.personalize(REQUEST, user=anna, method="pplug+longest")
    assert texts(plug, made) == f"a long film about sport\n{REQUEST}\nanswer:" and len(made.prompt.spans) == 4
    full = "tag of: " + "the film " * 30
    same(plug.personalize(full, user=anna, method="longest"), plug.personalize(full, method="none"))
    example["longest"] = lambda user, request: Contribution(adapter="anna")
    registry._parse.cache_clear()
    with pytest.raises(MethodError, match="method 'longest': adapter: .*no such file"):  # never left out
        plug.personalize(REQUEST, user=anna, method="longest")
    registry._parse.cache_clear()
    for name in registry.METHODS:
        assert f"`{name}" in page
