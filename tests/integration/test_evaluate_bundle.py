"""The evaluation over the runtime itself, on a tiny random bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.gguf_llama import TinyModel
from models.onnx_models import make_bundle
from personaplug_edge import PersonaPlug
from personaplug_edge.bundle import PromptPart
from personaplug_edge.errors import PersonaPlugError
from personaplug_edge.evaluate.data import Example, PastItem, Task
from personaplug_edge.evaluate.methods import LLM_METHODS, METHODS
from personaplug_edge.evaluate.report import report_of
from personaplug_edge.evaluate.runner import run_task
from personaplug_edge.store import NewItem

LABELS = ("news", "music", "science fiction")
WORDS = ("a long film", "the news", "sport is good", "like this music", "bad story", "the end")


@pytest.fixture(scope="module")
def plug(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    prompt = PromptPart(template="{input}\nanswer:", max_input_tokens=96)
    folder = make_bundle(tmp_path_factory.mktemp("b") / "b", llm_file=tiny.path, tokens=2, scale=8.0, prompt=prompt)
    with PersonaPlug.load(folder, threads=1) as loaded:
        yield loaded


@pytest.fixture
def task() -> Task:
    users = {
        user: tuple(PastItem(f"{text} {user} {n}", LABELS[(n * step) % 3]) for n, text in enumerate(WORDS))
        for step, user in enumerate(("very", "love", "it"))
    }
    examples = tuple(
        Example(id=f"{u}{n}", user_id=u, input=f"tag of: {WORDS[n]}", gold=LABELS[n % 3], history=users[u][:n])
        for u in users
        for n in (0, 3, 5)
    )
    return Task(name="t", kind="label", labels=LABELS, examples=examples, users=users, prior="news", marker="of:")


def test_predictions_are_those_of_the_runtime(plug: PersonaPlug, task: Task, tmp_path: Path) -> None:
    result = run_task(plug, task, predictions=tmp_path)
    assert tuple(result.predictions) == METHODS
    example = task.examples[-1]
    history = [NewItem(item.text, item.output) for item in example.history]
    for method in ("query", "static"):
        last = result.predictions[method][-1]
        score = plug.score(example.input, example.gold, history=history, persona=method)
        assert last.logprob == pytest.approx(score.logprob, abs=1e-4)
        assert last.tokens == len(score.tokens)
        assert last.text == plug.choose(example.input, LABELS, history=history, persona=method).label
    logprobs = {method: result.predictions[method][-1].logprob for method in LLM_METHODS}
    assert len({round(value or 0, 3) for value in logprobs.values()}) == len(
        LLM_METHODS
    )  # every method is another prompt
    again = run_task(plug, task, predictions=tmp_path)
    assert again.predictions == result.predictions
    assert plug.store.users() == []


def test_a_rating_is_the_median_or_the_likeliest(plug: PersonaPlug, task: Task, tmp_path: Path) -> None:
    scale = ("1", "2", "3", "4", "5")
    stars = {label: star for label, star in zip(LABELS, ("5", "1", "3"), strict=True)}
    rated = tuple(replace(each, gold=stars[each.gold]) for each in task.examples)
    # Labels in any order: the scale is in their numbers.
    task = replace(task, kind="rating", labels=("3", "5", "1", "4", "2"), examples=rated, prior="5")
    found = {way: run_task(plug, task, ["none"], ratings=way).predictions["none"] for way in ("median", "likeliest")}
    for number, example in enumerate(task.examples):
        shares = plug.choose(example.input, scale, method="none").probabilities
        half = next(place for place in range(5) if sum(shares[: place + 1]) >= 0.5)
        assert found["median"][number].text == scale[half]
        assert found["likeliest"][number].text == scale[int(np.argmax(shares))]
    run_task(plug, task, ["none"], predictions=tmp_path)
    with pytest.raises(PersonaPlugError, match="made with another ratings"):
        run_task(plug, task, ["none"], ratings="likeliest", predictions=tmp_path)


def test_each_text_is_encoded_once(plug: PersonaPlug, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: Counter[str] = Counter()
    real = plug.embedder.behavior

    def counting(texts: Sequence[str], **options: Any) -> Any:
        encoded.update(texts)
        return real(texts, **options)

    monkeypatch.setattr(plug.embedder, "behavior", counting)
    run_task(plug, task, ["static", "query", "wrong_user", "vote"])
    items = {f"{item.output}: {item.text}" for user in task.users.values() for item in user[:5]}
    assert items <= set(encoded)
    assert {encoded[text] for text in items} == {1}


def test_free_text_and_long_inputs(plug: PersonaPlug, task: Task) -> None:
    long = tuple(replace(example, input="tag of: " + "a long film " * 60) for example in task.examples[:2])
    free = replace(task, kind="text", labels=(), examples=task.examples[3:5] + long, prior="")
    result = run_task(plug, free)
    assert tuple(result.predictions) == LLM_METHODS
    report = report_of(result, resamples=100)
    likelihood = report.figure("query", "nll_per_token")
    assert likelihood and 0 < likelihood.low <= likelihood.value <= likelihood.high < 20
