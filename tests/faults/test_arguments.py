"""Arguments of another kind than the one asked for: a typed error that says which, at once, and nothing is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.onnx_models import make_bundle
from personaplug_edge import PersonaPlug, Sampling
from personaplug_edge.errors import MethodError, PersonaPlugError, PromptError, SamplingError, TextError

NAN = float("nan")


@pytest.fixture(scope="module")
def plug(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    folder = make_bundle(tmp_path_factory.mktemp("arguments") / "random", llm_file=tiny_gguf, name="random")
    with PersonaPlug.load(folder, threads=1) as plug:
        plug.user("anna").remember_all(["a film", "the news"])
        yield plug
        assert len(plug.generate("hello", user="anna", sampling=Sampling(max_tokens=4, ignore_end=True)).tokens) == 4


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda p, x: p.generate(x), TextError, "request"),
        (lambda p, x: p.generate("a", user=x), TextError, "user id"),
        (lambda p, x: p.generate("a", persona=x), PromptError, "persona"),
        (lambda p, x: p.generate("a", method=x), MethodError, "method"),
        (lambda p, x: p.generate("a", history=x), TextError, "NewItem"),
        (lambda p, x: p.generate("a", sampling=x), SamplingError, "Sampling"),
        (lambda p, x: p.generate("a", deadline=x), PromptError, "deadline"),
        (lambda p, x: p.samples("a", x), SamplingError, "samples"),
        (lambda p, x: p.beam_search("a", x), SamplingError, "Beams"),
        (lambda p, x: p.chat(user=x), TextError, "user id"),
        (lambda p, x: p.chat(persona=x), PromptError, "persona"),
        (lambda p, x: p.chat(method=x), MethodError, "method"),
        (lambda p, x: p.chat(sampling=x).say("a"), SamplingError, "Sampling"),
        (lambda p, x: p.score("a", x), TextError, "answer"),
        (lambda p, x: p.choose("a", x), PromptError, "labels"),
        (lambda p, x: p.summarize("anna", share=x), MethodError, "share"),
        (lambda p, x: p.summarize("anna", latest=x), MethodError, "latest"),
        (lambda p, x: p.user(x), TextError, "user id"),
        (lambda p, x: p.user("anna").remember(x), TextError, "history item"),
        (lambda p, x: p.user("anna").remember_all(x), TextError, "list"),
        (lambda p, x: p.user("anna").forget(x), PersonaPlugError, "no history item"),
        (lambda p, x: p.user("anna").search(x), TextError, "str"),
    ],
)
@pytest.mark.parametrize("value", [{}, {"a": 1}, NAN], ids=["empty", "dict", "nan"])
def test_an_argument_of_another_kind(
    plug: PersonaPlug, call: Callable[[PersonaPlug, Any], Any], error: type[Exception], says: str, value: Any
) -> None:
    with pytest.raises(error, match=says):
        call(plug, value)
    assert len(plug.user("anna")) == 2


def test_bytes_are_no_list(plug: PersonaPlug) -> None:
    bytes_of_a_file: Any = b"sports"
    with pytest.raises(TextError, match="history item; got 115"):
        plug.user("anna").remember_all(bytes_of_a_file)
    with pytest.raises(TextError, match="label must be a str"):
        plug.choose("a", bytes_of_a_file)
