"""The methods "lora" and "prompt-tuning" with the real engine, on a tiny random bundle and random adapters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models.adapters import make_adapters
from models.onnx_models import make_bundle
from personaplug_edge import NewItem, PersonaPlug, Sampling
from personaplug_edge.adapters import INDEX, AdapterFolder, file_name
from personaplug_edge.errors import AdapterError, MethodError
from personaplug_edge.evaluate.data import Example, PastItem, Task
from personaplug_edge.evaluate.runner import run_task
from personaplug_edge.personalize import registry
from personaplug_edge.personalize.method import Contribution

REQUEST = "hello there"
SHORT = Sampling(max_tokens=12, ignore_end=True, temperature=0.0)
ITEMS = [NewItem("a goal in extra time", "sports"), NewItem("the vote was late", "politics")]


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random", tokens=2)


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRAs of anna and ben, rows of anna."""
    return make_adapters(tmp_path_factory.mktemp("adapters"), folder)


@pytest.fixture
def plug(folder: Path, adapters: Path) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(folder, threads=1, adapters=adapters, sequences=2) as plug:
        yield plug


def answer(plug: PersonaPlug, user: str, method: str) -> str:
    return plug.generate(REQUEST, user=user, method=method, history=ITEMS, sampling=SHORT).text


def test_each_user_has_an_adapter_and_who_has_none_is_told(plug: PersonaPlug) -> None:
    texts = {user: answer(plug, user, "lora") for user in ("anna", "ben", "nobody")}
    assert len(set(texts.values())) == 3
    assert texts["nobody"] == answer(plug, "nobody", "none")
    assert plug.generate(REQUEST, user="nobody", method="lora", sampling=SHORT).untrained
    assert not plug.generate(REQUEST, user="anna", method="lora", sampling=SHORT).untrained
    assert plug.generate(REQUEST, method="lora", sampling=SHORT).untrained
    assert answer(plug, "anna", "none") == texts["nobody"]


def test_an_adapter_stands_beside_a_persona(plug: PersonaPlug) -> None:
    both = plug.personalize(REQUEST, user="anna", method="lora+pplug", history=ITEMS)
    alone = plug.personalize(REQUEST, user="anna", method="pplug", history=ITEMS)
    assert both.adapter and both.options.adapter == both.adapter and alone.adapter is None
    np.testing.assert_array_equal(both.persona, alone.persona)
    texts = {method: answer(plug, "anna", method) for method in ("lora+pplug", "pplug", "lora")}
    assert len(set(texts.values())) == 3


def test_score_choice_beams_and_chat_run_with_the_adapter(plug: PersonaPlug) -> None:
    for run in (
        lambda method: plug.score(REQUEST, "sports", user="anna", method=method).logprob,
        lambda method: plug.choose(REQUEST, ["sports", "politics"], user="anna", method=method).logprobs,
        lambda method: plug.beam_search(REQUEST, user="anna", method=method)[0].logprob,
    ):
        assert run("lora") != run("none")
    with plug.chat(user="anna", method="lora", sampling=SHORT) as one, plug.chat(user="anna", method="none") as other:
        assert one.say(REQUEST).answer == answer(plug, "anna", "lora")
        assert other.say(REQUEST, sampling=SHORT).answer == answer(plug, "anna", "none")


def test_a_method_of_ones_own_names_an_adapter_or_its_path(
    plug: PersonaPlug, adapters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(adapters / file_name("anna", "lora"))
    named: list[str] = []
    entry = SimpleNamespace(value="tests:mine", load=lambda: lambda user, request: Contribution(adapter=named[-1]))
    monkeypatch.setattr(registry, "_found", lambda: {"mine": entry})
    registry._parse.cache_clear()
    plug.llm.add_adapter("annas own", path)
    for name in ("annas own", path):
        named.append(name)
        made = plug.personalize(REQUEST, method="mine", history=ITEMS)
        assert made.adapter == made.options.adapter == name
        assert answer(plug, "nobody", "mine") == answer(plug, "anna", "lora")
    for wrong in ("bens own", str(adapters / INDEX)):
        named.append(wrong)
        with pytest.raises(MethodError, match="method 'mine': adapter: "):
            plug.personalize(REQUEST, method="mine")
    registry._parse.cache_clear()


def test_rows_of_prompt_tuning_stand_where_a_persona_does(plug: PersonaPlug, adapters: Path) -> None:
    made = plug.personalize(REQUEST, user="anna", method="prompt-tuning", history=ITEMS)
    start, rows, request = made.prompt.spans
    assert start == [plug.llm.model.bos] and np.array_equal(rows, np.load(adapters / file_name("anna", "prompt")))
    assert plug.personalize(REQUEST, user="ben", method="prompt-tuning", history=ITEMS).untrained


def test_eval_reports_bytes_and_training_time(plug: PersonaPlug, adapters: Path) -> None:
    past = tuple(PastItem(item.text, item.output) for item in ITEMS)
    example = Example(id="q", user_id="anna", input=REQUEST, gold="sports", history=past)
    task = Task(
        name="news", kind="label", labels=("sports", "politics"), examples=(example,), users={"anna": past},
        prior="sports",
    )  # fmt: skip
    run = run_task(plug, task, ["none", "lora", "prompt-tuning", "lora+pplug"])
    found = {name: predictions[0] for name, predictions in run.predictions.items()}
    assert found["lora"].bytes_per_user == (adapters / file_name("anna", "lora")).stat().st_size
    assert found["lora"].training_seconds == 2.5 and found["none"].training_seconds is None
    assert found["lora+pplug"].bytes_per_user > found["lora"].bytes_per_user  # type: ignore[operator]
    assert found["lora"].logprob != found["none"].logprob


def test_what_does_not_fit_is_refused(folder: Path, adapters: Path, tmp_path: Path) -> None:
    with PersonaPlug.load(folder, threads=1) as plain, pytest.raises(MethodError, match="adapters="):
        plain.generate(REQUEST, user="anna", method="lora")
    with pytest.raises(AdapterError, match="expected index.jsonl"):
        PersonaPlug.load(folder, threads=1, adapters=tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    for old, new, message in (('"gguf": "', '"gguf": "0', "GGUF file 0"), ('"width": 64', '"width": 32', "width 32")):
        (other / INDEX).write_text((adapters / INDEX).read_text().replace(old, new, 1))
        with pytest.raises(AdapterError, match=message):
            PersonaPlug.load(folder, threads=1, adapters=other)
    (other / INDEX).write_text((adapters / INDEX).read_text())
    for name in [entry.file for entry in AdapterFolder(adapters).entries()]:
        (other / name).write_bytes(b"x" * (adapters / name).stat().st_size)
    with PersonaPlug.load(folder, threads=1, adapters=other) as plug:
        for method in ("lora", "prompt-tuning"):
            with pytest.raises(AdapterError):
                plug.generate(REQUEST, user="anna", method=method)
        assert plug.generate(REQUEST, user="anna", method="none", sampling=SHORT).tokens
