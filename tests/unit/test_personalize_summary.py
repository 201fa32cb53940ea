"""Summaries: made in chunks that fit, kept, made anew when the history has grown, dropped with what they tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.gguf_llama import TinyModel
from models.onnx_models import make_bundle
from personaplug_edge import NewItem, PersonaPlug, cli
from personaplug_edge.errors import PromptError, StoreError
from personaplug_edge.personalize.summarize import MAP, REDUCE, Summarizer, is_fresh, stored_summary, summarized
from personaplug_edge.prompt import Prompt
from personaplug_edge.store import HistoryStore

REQUEST = "tag of: film"


@pytest.fixture(scope="module")
def folder(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("b") / "b", llm_file=tiny.path)


class Recorder:
    """Stands before the LLM: what it was asked, answered by a count."""

    def __init__(self, plug: PersonaPlug) -> None:
        self._llm, self.asked, self.longest = plug.llm, [], 0
        self._before = len(plug.llm.tokenize(MAP.partition("{")[0])) - 2

    def generate_all(self, prompts: Sequence[Prompt], sampling: Any) -> list[Any]:
        for prompt in prompts:
            self.longest = max(self.longest, len(prompt) + sampling.max_tokens)
            self.asked.append(self._llm.detokenize(prompt.spans[0]))  # type: ignore[arg-type]
        return [SimpleNamespace(text=f" likes film {len(self.asked)}\n") for _ in prompts]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)


@pytest.fixture
def plug(folder: Path) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(folder, threads=1) as loaded:
        yield loaded


@pytest.fixture
def llm(plug: PersonaPlug) -> Recorder:
    recorder = Recorder(plug)
    plug.personalizer.services.request.llm = recorder  # type: ignore[assignment]
    return recorder


def test_a_long_history_is_summarized_in_chunks_that_fit(plug: PersonaPlug, llm: Recorder) -> None:
    services = plug.personalizer.services
    items, read = [NewItem(f"the story {n} " + "was long " * (n % 7), "film") for n in range(120)], []
    summary = Summarizer(services)(iter(items), read.append)
    assert summary.startswith("likes film") and llm.longest <= plug.llm.context
    mapped = [asked for asked in llm.asked if MAP[:20] in asked]
    assert len(mapped) > 5 and len(llm.asked) > len(mapped)
    seen = " ".join(mapped)
    assert all(f"the story {n} " in seen for n in range(120))  # every item, once
    assert sum(asked.count("=> film") for asked in mapped) == 120
    assert read[-1] == 120 and read == sorted(read)
    assert REDUCE[:20] in llm.asked[-1]


def test_an_item_longer_than_the_context_is_cut(plug: PersonaPlug, llm: Recorder) -> None:
    assert Summarizer(plug.personalizer.services)([NewItem("word " * 3000)])
    assert llm.longest <= plug.llm.context
    assert Summarizer(plug.personalizer.services)([]) == ""


def test_a_small_context_is_refused(folder: Path) -> None:
    with PersonaPlug.load(folder, threads=1, context=64) as small, pytest.raises(PromptError, match="larger context"):
        Summarizer(small.personalizer.services)


def test_kept_until_the_history_has_grown_by_a_fifth(plug: PersonaPlug, llm: Recorder) -> None:
    anna = plug.user("anna")
    anna.remember_all([NewItem(f"film {n}") for n in range(10)])
    first = plug.summarize(anna)
    assert (first.text, first.items) == ("likes film 1", 10)
    anna.remember_all([NewItem("film 10"), NewItem("film 11")])
    assert plug.summarize("anna") == first and len(llm.asked) == 1
    made = plug.personalize(REQUEST, user="anna", method="summary+recency:1")
    text = plug.llm.detokenize(made.prompt.spans[-1])  # type: ignore[arg-type]
    assert "About the user: likes film 1\n" in text and text.index("About") < text.index("film 11")
    assert made.kept and made.kept.bytes() == len("likes film 1") + sum(len(i.text) for i in anna.history())
    anna.remember("film 12")
    assert is_fresh(10, 12) and not is_fresh(10, 13) and not is_fresh(10, 9)
    assert plug.summarize(anna).items == 13 and len(llm.asked) == 2
    assert plug.summarize(anna, share=0).items == 13 and len(llm.asked) == 2
    anna.remember("film 13")
    assert plug.summarize(anna, share=0).items == 14 and len(llm.asked) == 3


def test_dropped_with_an_item_that_it_may_tell_of(plug: PersonaPlug, llm: Recorder) -> None:
    anna = plug.user("anna")
    anna.remember_all([NewItem(f"film {n}") for n in range(10)])
    plug.summarize(anna)
    anna.forget(anna.history()[0].id)
    assert plug.store.summary("anna", plug.bundle.bundle_key) is None
    plug.personalize(REQUEST, user="anna", method="summary")
    assert "film 0" not in llm.asked[-1] and len(llm.asked) == 2


def test_an_item_forgotten_while_it_is_summarized(
    plug: PersonaPlug, llm: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = plug.user("anna")
    anna.remember_all([NewItem("film 0"), NewItem("film 1")])
    answer = llm.generate_all

    def forgetting(prompts: Any, sampling: Any) -> Any:
        anna.forget(anna.history()[0].id)
        return answer(prompts, sampling)

    monkeypatch.setattr(llm, "generate_all", forgetting)
    plug.summarize(anna)
    assert plug.store.summary("anna", plug.bundle.bundle_key) is None


def test_a_given_history_grows_without_being_summarized_each_time(plug: PersonaPlug, llm: Recorder) -> None:
    items = [NewItem(f"film {n}") for n in range(30)]
    for count in (10, 11, 12, 13, 12):
        plug.personalize(REQUEST, user="anna", method="summary", history=items[:count])
    assert len(llm.asked) == 2  # of 9 items, and of 11
    plug.personalize(REQUEST, user="anna", method="summary", history=[NewItem("other"), *items[:11]])
    assert len(llm.asked) == 3
    assert plug.store.users() == []


def test_what_a_given_history_is_summarized_from_depends_on_it_alone() -> None:
    made = [summarized(count) for count in range(60)]
    assert all(is_fresh(earlier, count) for count, earlier in enumerate(made))
    assert made[:14] == [0, 1, 2, 3, 4, 5, 5, 7, 7, 9, 9, 11, 11, 11]
    assert all(earlier in (made[count - 1], count) for count, earlier in enumerate(made) if count)


def test_a_store_for_reading_alone(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with PersonaPlug.load(folder, threads=1, store=path) as plug:
        plug.user("anna").remember("film")
    with PersonaPlug.load(folder, threads=1, store=HistoryStore(path, read_only=True)) as plug:
        Recorder(plug)
        assert stored_summary(plug.personalizer.services, "anna").items == 1
        assert plug.store.summary("anna", plug.bundle.bundle_key) is None
        with pytest.raises(StoreError):
            plug.user("anna").remember("more")


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["--bundle", str(folder), "--store", str(tmp_path / "h.db"), "--threads", "1"]
    with PersonaPlug.load(folder, threads=1, store=tmp_path / "h.db") as plug:
        for user in ("anna", "ben"):
            plug.user(user).remember_all([NewItem(f"{user} likes film"), NewItem("music")])
    assert cli.main([*shared, "summarize", "--user", "ben"]) == 0
    assert "ben" in (shown := capsys.readouterr().out) and "now" in shown
    assert cli.main([*shared, "summarize", "--all"]) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:] if line.strip()]
    assert ["anna", "2", "now"] in rows and ["ben", "2", "before"] in rows  # what was made before stays
    assert cli.main([*shared, "summarize", "--user", "nobody"]) != 0
    assert cli.main([*shared, "summarize"]) != 0
    assert "--all" in capsys.readouterr().err
