"""What is computed once is kept: who may use it, what it gives, when it goes, and what damaged bytes do."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import saved_prefix
from engine_steps import IDS, Answer, drain, greedy, persona, words

from models import gguf_llama
from models.gguf_llama import Shape, TinyModel
from personaplug_edge._native import core
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions

EXACT = {"threads": 1, "cache_type": "f32", "flash_attention": "off"}
SYSTEM = Prompt.tokens(IDS)
PERSONA = SYSTEM + persona(7)


def make(model: TinyModel, **options: object) -> core.Engine:
    return core.Engine(core.Model(str(model.path)), **(EXACT | {"sequences": 2} | options))  # type: ignore[arg-type]


@pytest.fixture
def engine(tiny: TinyModel) -> core.Engine:
    return make(tiny)


def ask(engine: core.Engine, prompt: Prompt, **options: object) -> tuple[Answer, int]:
    """The answer alone, and how many positions were reused."""
    sequence = engine.submit(prompt, greedy(8, logprobs=1), RequestOptions(**options))  # type: ignore[arg-type]
    return drain(engine)[sequence], engine.timings(sequence)["reused_tokens"]


def test_a_kept_prefix_gives_the_same_answer(engine: core.Engine) -> None:
    prompts = [PERSONA + words(i, 9) for i in range(3)]
    cold = [ask(engine, prompt) for prompt in prompts]
    assert engine.prefix_stats()["count"] == 0
    first, reused = ask(engine, prompts[0], owner="a", keep=(8,))
    assert (reused, engine.prefix_stats()["count"]) == (0, 1)
    warm = [ask(engine, prompt, owner="a", keep=(8,)) for prompt in prompts]
    assert engine.prefix_stats()["count"] == 1
    for (expected, _), (found, reused) in zip(cold, warm, strict=True):
        assert reused == 8
        assert found.tokens == expected.tokens
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert warm[0][0].logprobs == first.logprobs, "restored bytes are the same bytes, prefilled in the same pieces"
    assert engine.prefix_stats()["hits"] == 3


@pytest.mark.parametrize(
    "options",
    [
        {"cache_type": "f16"},
        {"cache_type": "f16", "flash_attention": "on"},
        {"sequences": 1},
        {"cells": 512},
    ],
)
def test_every_kind_of_cache_restores_bit_for_bit(tiny: TinyModel, options: dict[str, object]) -> None:
    restores(make(tiny, **options))


def test_a_quantized_cache_restores_bit_for_bit(model_folder: Path) -> None:
    wide = gguf_llama.write(model_folder / "wide-heads.gguf", Shape(heads=2, kv_heads=1, seed=8))
    restores(make(wide, cache_type="q8_0", flash_attention="on"))


def restores(engine: core.Engine) -> None:
    prompt = PERSONA + words(0, 9)
    first, _ = ask(engine, prompt, owner="a", keep=(8,))
    second, reused = ask(engine, prompt, owner="a", keep=(8,))
    assert (reused, second.tokens, second.logprobs) == (8, first.tokens, first.logprobs)


@pytest.mark.parametrize("name", ["tiny_gemma", "tiny_mrope", "tiny_qwen2"])
def test_other_architectures(name: str, request: pytest.FixtureRequest) -> None:
    engine = make(request.getfixturevalue(name))
    prompt = PERSONA + words(0, 9)
    first, _ = ask(engine, prompt, owner="a", keep=(8,))
    second, reused = ask(engine, prompt, owner="a", keep=(8,))
    assert (reused, second.tokens) == (8, first.tokens)
    assert second.logprobs == pytest.approx(first.logprobs, abs=1e-4)


def test_owners_do_not_share_and_all_share_what_is_common(engine: core.Engine) -> None:
    prompt = PERSONA + words(0, 9)
    ask(engine, prompt, owner="a", keep=(6, 8), common=6)
    assert engine.prefix_stats()["count"] == 2
    assert ask(engine, prompt, owner="b")[1] == 6
    assert ask(engine, prompt)[1] == 6
    assert ask(engine, prompt, owner="a")[1] == 8
    assert ask(engine, SYSTEM + persona(8) + words(0, 9), owner="a")[1] == 6, "another persona"
    assert ask(engine, words(5, 9), owner="a")[1] == 0
    assert ask(engine, PERSONA, owner="a")[1] == 6, "the whole prompt leaves nothing to decode"


def test_spans_may_be_cut_otherwise(engine: core.Engine) -> None:
    ask(engine, PERSONA + words(0, 9), owner="a", keep=(8,))
    pieces = Prompt.tokens(IDS[:2]) + Prompt.tokens(IDS[2:]) + persona(7) + words(1, 4)
    assert ask(engine, pieces, owner="a")[1] == 8
    tokens_for_rows = Prompt.tokens([*IDS, 300, 301]) + words(1, 4)
    assert ask(engine, tokens_for_rows, owner="a")[1] == 0


def test_forgetting(engine: core.Engine) -> None:
    prompt = PERSONA + words(0, 9)
    ask(engine, prompt, owner="a", keep=(6, 8), common=6)
    ask(engine, prompt, owner="b", keep=(8,))
    engine.forget_prefixes("a")
    assert [ask(engine, prompt, owner=owner)[1] for owner in ("a", "b")] == [6, 8]
    engine.forget_prefixes("")
    assert [ask(engine, prompt, owner=owner)[1] for owner in ("a", "b")] == [0, 8]
    engine.forget_prefixes("b")
    stats = engine.prefix_stats()
    assert (stats["count"], stats["bytes"]) == (0, 0)


def test_what_runs_while_it_is_forgotten_is_not_put_back(tiny: TinyModel) -> None:
    engine = make(tiny, batch=4)
    options = RequestOptions(owner="a", keep=(8,), keep_answer=True)
    running = engine.submit(PERSONA + words(0, 9), greedy(5), options)
    engine.step()
    queued = [engine.submit(PERSONA + words(i, 9), greedy(5), options) for i in range(3)]
    engine.forget_prefixes("a")
    assert set(drain(engine)) == {running, *queued}
    assert engine.prefix_stats()["count"] == 0
    ask(engine, PERSONA + words(0, 9), owner="a", keep=(8,))
    assert engine.prefix_stats()["count"] == 1


def test_requests_wait_for_a_prefix_that_is_being_computed(tiny: TinyModel) -> None:
    """Sixteen people with one system prompt at once: it is computed once."""
    engine = make(tiny, sequences=8)
    system = words(3, 60)
    ids = [
        engine.submit(system + persona(i) + words(i, 5), greedy(3), RequestOptions(owner=str(i), keep=(60,), common=60))
        for i in range(16)
    ]
    drain(engine)
    assert [engine.timings(i)["reused_tokens"] for i in ids] == [0] + [60] * 15
    assert engine.prefix_stats()["count"] == 1


def test_a_chat_keeps_its_turns(engine: core.Engine) -> None:
    prompt, sizes = PERSONA + words(0, 5), []
    for turn in range(4):
        answer, reused = ask(engine, prompt, owner="a", keep_answer=True)
        assert reused == (0 if turn == 0 else sizes[-1])
        prompt = prompt + Prompt.tokens(answer.tokens)
        sizes.append(sum(len(span) for span in prompt.spans) - 1)  # the last token was not decoded
        prompt = prompt + words(turn, 3)
        assert engine.prefix_stats()["count"] == 1, "a turn takes the place of the one it continues"
    cold = make_like(engine, prompt)
    assert ask(engine, prompt, owner="a")[0].tokens == cold


def make_like(engine: core.Engine, prompt: Prompt) -> list[int]:
    """The answer to a prompt of an owner of whom nothing is kept."""
    answer, reused = ask(engine, prompt, owner="nobody")
    assert reused == 0
    return answer.tokens


def test_two_chats_of_one_owner(engine: core.Engine) -> None:
    for seed in range(2):
        ask(engine, PERSONA + words(seed, 5), owner="a", keep_answer=True)
    assert engine.prefix_stats()["count"] == 2


def test_the_least_recently_used_go_first(tiny: TinyModel) -> None:
    probe = make(tiny)
    ask(probe, PERSONA + words(0, 9), owner="0", keep=(8,))
    entry = probe.prefix_stats()["bytes"]
    engine = make(tiny, prefix_bytes=3 * entry + 100)
    for owner in "0120":
        ask(engine, PERSONA + words(0, 9), owner=owner, keep=(8,))
    ask(engine, PERSONA + words(0, 9), owner="3", keep=(8,))
    assert [ask(engine, PERSONA + words(0, 9), owner=owner)[1] for owner in "0123"] == [8, 0, 8, 8]
    assert engine.prefix_stats()["bytes"] <= 3 * entry + 100


@pytest.mark.parametrize("prefix_bytes", [0, 100])
def test_a_cache_of_nothing(tiny: TinyModel, prefix_bytes: int) -> None:
    engine = make(tiny, prefix_bytes=prefix_bytes)
    ids = [
        engine.submit(PERSONA + words(i, 9), greedy(3), RequestOptions(owner="a", keep=(8,), keep_answer=True))
        for i in range(5)
    ]
    assert all(len(answer.tokens) == 3 for answer in drain(engine).values())
    assert len(ids) == 5
    assert engine.prefix_stats()["count"] == 0


@pytest.fixture
def exported(engine: core.Engine) -> Iterator[bytes]:
    ask(engine, PERSONA + words(0, 9), owner="a", keep=(6, 8))
    yield engine.export_prefix("a")


def test_export_and_import(tiny: TinyModel, engine: core.Engine, exported: bytes) -> None:
    assert engine.export_prefix("b") == b""
    other = make(tiny)
    assert other.import_prefix("a", exported)
    expected, _ = ask(engine, PERSONA + words(2, 9), owner="a")
    found, reused = ask(other, PERSONA + words(2, 9), owner="a")
    assert (reused, found.tokens, found.logprobs) == (8, expected.tokens, expected.logprobs)
    assert ask(other, PERSONA + words(2, 9), owner="b")[1] == 0
    assert other.export_prefix("a") == exported


def test_damaged_bytes_are_refused(tiny: TinyModel, exported: bytes) -> None:
    engine = make(tiny)
    for place in range(0, len(exported), 97):
        damaged = bytearray(exported)
        damaged[place] ^= 1 << place % 8
        assert not engine.import_prefix("a", bytes(damaged))
    for end in (0, 1, 3, 4, 19, 20, 100, len(exported) - 1):
        assert not engine.import_prefix("a", exported[:end])
    assert not engine.import_prefix("a", exported + b"\0")
    assert not engine.import_prefix("a", b"\0" * 1000)
    assert engine.prefix_stats()["count"] == 0


def test_foreign_bytes_are_refused(tiny: TinyModel, model_folder: Path, exported: bytes) -> None:
    sibling = gguf_llama.write(model_folder / "sibling.gguf", Shape(seed=99))
    assert not make(sibling).import_prefix("a", exported)
    assert not make(tiny, cache_type="f16").import_prefix("a", exported)
    assert not make(tiny, sequences=3).import_prefix("a", exported)
    assert not make(tiny, prefix_bytes=200).import_prefix("a", exported)


def test_a_model_file_that_was_replaced_exports_nothing(model_folder: Path) -> None:
    path = model_folder / "replaced.gguf"
    engine = make(gguf_llama.write(path, Shape(seed=5)))
    ask(engine, PERSONA + words(0, 9), owner="a", keep=(8,))
    path.unlink()
    gguf_llama.write(path, Shape(seed=6))
    assert engine.export_prefix("a") == b""


PLACES = {
    "negative": lambda k: -1 - k,
    "huge": lambda k: 2**31 - 1 - k,
    "twice the same": lambda k: 7,
    "one too many": lambda k: k + 1,
}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("cells", [0, 512])
def test_states_of_other_positions_are_not_imported(tiny: TinyModel, cells: int, places: Callable[[int], int]) -> None:
    """The digest has no key: whoever can write the bytes can write it, too."""
    engine = make(tiny, sequences=2, cells=cells)
    prompt = PERSONA + words(0, 9)
    expected, _ = ask(engine, prompt, owner="a", keep=(8,))
    blob = saved_prefix.read(engine.export_prefix("a"))
    first = blob.entries[0].state.find(struct.pack("<iIi", 0, 1, 0))
    state = bytearray(blob.entries[0].state)
    for k in range(8):
        struct.pack_into("<i", state, first + 12 * k, places(k))
    blob.entries[0].state = bytes(state)
    engine.forget_prefixes("a")
    assert not engine.import_prefix("a", saved_prefix.write(blob))
    found, reused = ask(engine, prompt, owner="a")
    assert (reused, found.tokens, found.logprobs) == (0, expected.tokens, expected.logprobs)


@pytest.mark.parametrize("length", [0, -1, 6, 7, 9, 10**6])
def test_states_of_another_length_are_not_imported(engine: core.Engine, exported: bytes, length: int) -> None:
    blob = saved_prefix.read(exported)
    blob.entries[-1].length = length
    engine.forget_prefixes("a")
    assert not engine.import_prefix("a", saved_prefix.write(blob))
    assert engine.prefix_stats()["count"] == 0


@pytest.mark.parametrize("name", ["tiny", "tiny_gemma", "tiny_mrope", "tiny_qwen2", "tiny_window", "tiny_mamba"])
@pytest.mark.parametrize("options", [{}, {"sequences": 3}, {"cells": 512}, {"flash_attention": "on"}])
def test_every_layout_is_imported(name: str, options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    engine = make(model, **options)
    prompt = PERSONA + words(0, 60)
    expected, _ = ask(engine, prompt, owner="a", keep=(8, 50))
    other = make(model, **options)
    assert other.import_prefix("a", engine.export_prefix("a"))
    found, reused = ask(other, prompt, owner="a")
    assert (reused, found.tokens) == (50, expected.tokens)


def test_what_does_not_fit_is_not_imported_in_part(tiny: TinyModel, exported: bytes) -> None:
    other = make(tiny, prefix_bytes=len(exported) - 200)
    assert not other.import_prefix("a", exported)
    assert other.prefix_stats()["count"] == 0
