"""The benchmarks run and compare like with like. Nothing here looks at a time."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("random")


def test_contenders_take_turns(benchmarks: Any) -> None:
    common, order = benchmarks("common"), []
    contenders = {name: lambda name=name: order.append(name) or len(order) for name in "ab"}
    figures = common.interleaved(contenders, 3)
    assert "".join(order) == "baabbaab"
    assert figures == {"a": [3, 6, 7], "b": [4, 5, 8]}  # the first round warms up
    assert common.ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])["median"] == 2


def test_decode_makes_the_tokens_of_its_peer(benchmarks: Any, folder: Path) -> None:
    decode, random_llama = benchmarks("decode"), benchmarks("random_llama")
    path = random_llama.model_file("tiny", folder)
    assert random_llama.model_file("tiny", folder) == path  # kept
    job = decode.Job(model=path, vocabulary=8192, threads=1, prompt=8, tokens=6)
    result = decode.measure(job, 1, None)
    assert result["same_tokens"]
    assert set(result["tokens_per_second"]) == {decode.OURS, decode.PEER, decode.COMPLETION}
    assert len(result["ratio"]) == 2


def test_first_token_with_rows(benchmarks: Any, folder: Path) -> None:
    from personaplug_edge.engine import LLM

    first, random_llama = benchmarks("time_to_first_token"), benchmarks("random_llama")
    with LLM.load(random_llama.model_file("tiny", folder), threads=1, context=128) as llm:
        assert llm.engine.single_pass
        result = first.measure_rows(llm, [2], range(6, 9), 2)
    assert result["milliseconds"]["2"]["rounds"] == 6
    assert len(result["ratio"]["2"]["rounds"]) == 6
