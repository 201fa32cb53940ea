"""Requests with different LoRA adapters in one engine: what each gives alone, turns, kept prefixes, memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from engine_steps import drain, greedy, persona, words  # type: ignore[import-not-found]

from models import gguf_llama, gguf_lora
from personaplug_edge._native import core
from personaplug_edge.beams import Beams
from personaplug_edge.engine import LLM
from personaplug_edge.errors import AdapterError
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions

if TYPE_CHECKING:
    from personaplug_edge import _core


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model and three adapters; "" stands for none."""
    folder = tmp_path_factory.mktemp("adapters")
    tiny = gguf_llama.write(folder / "model.gguf")
    found = {"model": tiny.path}
    for seed, name in enumerate("abc"):
        found[name] = gguf_lora.write_lora(folder / f"{name}.gguf", gguf_lora.random_lora(tiny.shape, seed=seed))
    return found


def engine(files: dict[str, Path], **more: object) -> _core.Engine:
    options = {"context": 96, "threads": 1, "sequences": 4, "cache_type": "f32", "flash_attention": "off", **more}
    made = core.Engine(core.Model(str(files["model"])), **options)
    for name in "abc":
        made.add_adapter(name, str(files[name]))
    return made


def prompt(seed: int, count: int = 9) -> Prompt:
    return Prompt.tokens([1]) + persona(seed) + words(seed, count)


def alone(files: dict[str, Path], name: str, asked: Prompt, tokens: int) -> list[int]:
    one = engine(files, sequences=1)
    number = one.submit(asked, greedy(tokens), RequestOptions(adapter=name))
    found: list[int] = drain(one)[number].tokens
    return found


def test_logits_are_those_of_the_weights_with_the_adapter_added(files: dict[str, Path], tmp_path: Path) -> None:
    tiny = gguf_llama.write(tmp_path / "plain.gguf")
    lora = gguf_lora.random_lora(tiny.shape, seed=0)
    weights = {name: weight.copy() for name, weight in tiny.weights.items()}
    for name in weights:
        if f"{name}.lora_a" in lora:
            weights[name] += 8.0 / 4 * lora[f"{name}.lora_b"] @ lora[f"{name}.lora_a"]
    merged = gguf_llama.write(tmp_path / "merged.gguf", weights=weights)
    wanted = engine({**files, "model": merged.path}).logits(prompt(0))
    found = engine(files)
    assert np.abs(found.logits(prompt(0), RequestOptions(adapter="a")) - wanted).max() < 1e-3
    assert np.abs(found.logits(prompt(0)) - wanted).max() > 0.5
    continuations = [[300, 301, 302], [270]]
    merged_scores = engine({**files, "model": merged.path}).score(prompt(0), continuations)
    for left, right in zip(
        found.score(prompt(0), continuations, RequestOptions(adapter=str(files["a"]))), merged_scores, strict=True
    ):
        assert left == pytest.approx(right, abs=1e-3)


@pytest.mark.parametrize("cells", [0, 400])
def test_each_answer_is_that_of_the_request_alone(files: dict[str, Path], cells: int) -> None:
    asked = [(name, prompt(seed)) for seed, name in enumerate(["a", "", "b", "a", "c", "", "b", "c"])]
    together = engine(files, cells=cells)
    numbers = [together.submit(text, greedy(40), RequestOptions(adapter=name)) for name, text in asked]
    answers = drain(together)
    wanted = [alone(files, name, text, 40) for name, text in asked]
    assert [answers[number].tokens for number in numbers] == wanted
    assert alone(files, "a", asked[1][1], 40) != wanted[1] != alone(files, "b", asked[1][1], 40)


def test_nobody_starves(files: dict[str, Path]) -> None:
    """While requests with one adapter keep coming, those with another and with none go on."""
    one = engine(files)
    others = [one.submit(prompt(i), greedy(10), RequestOptions(adapter=name)) for i, name in enumerate(("b", ""))]
    answers: dict[int, object] = {}
    for round_ in range(12):
        one.submit(prompt(round_), greedy(12), RequestOptions(adapter="a", owner="greedy"))
        drain(one, answers, steps=12)
    for number in others:
        assert len(answers[number].tokens) == 10  # type: ignore[attr-defined]
    drain(one, answers)


def test_kept_prefixes_belong_to_their_adapter(files: dict[str, Path]) -> None:
    asked = prompt(5, 30)
    one = engine(files)
    for name in ("", "a", "b"):
        wanted = alone(files, name, asked, 8)
        for expected in (0, 20):
            for owner in ("u",):
                options = RequestOptions(owner=owner, keep=(20,), common=20, adapter=name)
                number = one.submit(asked, greedy(8), options)
                assert drain(one)[number].tokens == wanted
                assert one.timings(number)["reused_tokens"] == expected, name
    assert one.prefix_stats()["count"] == 3
    # A turn of a chat that was held with an adapter is not continued without it.
    kept = RequestOptions(owner="chat", keep_answer=True, adapter="c")
    number = one.submit(prompt(7), greedy(6), kept)
    answer = drain(one)[number].tokens
    longer = prompt(7) + Prompt.tokens([*answer, 300])
    for name, reused in (("a", 0), ("", 0), ("c", len(prompt(7)) + 5)):
        number = one.submit(longer, greedy(4), RequestOptions(owner="chat", adapter=name))
        drain(one)
        assert one.timings(number)["reused_tokens"] == reused, name


def test_samples_and_beams_run_with_the_adapter(files: dict[str, Path]) -> None:
    one = engine(files)
    numbers = one.submit_samples(prompt(1), greedy(6), 3, RequestOptions(adapter="b"))
    answers = drain(one)
    assert [answers[number].tokens for number in numbers] == [alone(files, "b", prompt(1), 6)] * 3

    def best(target: _core.Engine, name: str) -> int:
        return target.submit_beams(prompt(2), Beams(beams=3, max_tokens=6), RequestOptions(adapter=name))

    def results(target: _core.Engine) -> dict[int, list[int]]:
        found = {}
        while target.live:
            found |= {event.sequence: event.hypotheses[0].tokens for event in target.step()}
        return found

    together = [best(one, name) for name in ("a", "", "c", "a")]
    found = results(one)
    for number, name in zip(together, ("a", "", "c", "a"), strict=True):
        single = engine(files)
        wanted = best(single, name)
        assert found[number] == results(single)[wanted], name


def test_the_least_recently_used_adapters_are_let_go(files: dict[str, Path]) -> None:
    size = files["a"].stat().st_size
    one = engine(files, adapter_bytes=2 * size + 100, sequences=3)
    wanted = {name: alone(files, name, prompt(3), 5) for name in "abc"}
    for name in "abcabcb":
        number = one.submit(prompt(3), greedy(5), RequestOptions(adapter=name))
        assert drain(one)[number].tokens == wanted[name]
    stats = one.adapter_stats()
    assert stats["count"] == 2 and stats["bytes"] == 2 * size and stats["loads"] == 6 and stats["evictions"] == 4
    numbers = {name: one.submit(prompt(3), greedy(30), RequestOptions(adapter=name)) for name in "abc"}
    answers = drain(one)  # all three are in use: none is taken away from a request
    assert {name: answers[numbers[name]].tokens[:5] for name in "abc"} == wanted


def test_a_file_that_was_replaced_is_another_adapter(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "user.gguf"
    path.write_bytes(files["a"].read_bytes())
    one = engine(files)
    options = RequestOptions(adapter=str(path), keep=(5,), common=5)
    first = one.submit(prompt(4), greedy(6), options)
    assert drain(one)[first].tokens == alone(files, "a", prompt(4), 6)
    later = tmp_path / "new.gguf"
    later.write_bytes(files["b"].read_bytes() + b"\0" * 32)  # another size: times of writing can be equal
    later.replace(path)
    second = one.submit(prompt(4), greedy(6), options)
    assert drain(one)[second].tokens == alone(files, "b", prompt(4), 6)
    assert one.timings(second)["reused_tokens"] == 0


def test_a_file_that_goes_before_its_turn_ends_that_request_alone(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "user.gguf"
    path.write_bytes(files["a"].read_bytes())
    with LLM.load(files["model"], context=96, threads=1) as llm:
        long = llm.submit(prompt(0), greedy(60))
        gone = llm.submit(prompt(1), greedy(5), RequestOptions(adapter=str(path)))
        path.unlink()
        with pytest.raises(AdapterError, match="changed or removed"):
            gone.result(timeout=60)
        assert len(long.result(timeout=60).tokens) == 60
        assert len(llm.generate(prompt(1), greedy(5)).tokens) == 5


def test_a_file_that_is_gone_keeps_nobody_waiting(files: dict[str, Path], tmp_path: Path) -> None:
    """The step that finds it is a step for the others as well."""
    path = tmp_path / "user.gguf"
    path.write_bytes(files["a"].read_bytes())
    one = engine(files)
    one.submit_samples(prompt(1), greedy(5), 2, RequestOptions(adapter=str(path)))
    other = one.submit(prompt(0), greedy(5))
    path.unlink()
    with pytest.raises(AdapterError, match="changed or removed"):
        one.step()
    assert one.timings(other)["generated_tokens"] == 1
    assert len(drain(one)[other].tokens) == 5
    assert one.live == 0
