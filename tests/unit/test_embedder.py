"""The user embedder against numpy, on graphs whose tables the test knows."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import erf
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.onnx_models import (
    WORDS,
    make_bundle,
    write_aggregator,
    write_encoder,
    write_head,
    write_projector,
    write_tokenizer,
)
from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import Aggregator, Encoder, Projector, QueryHead, UserEmbedder
from personaplug_edge.embedder.texts import CHARACTERS_PER_TOKEN
from personaplug_edge.embedder.tokenize import TextTokenizer

Array = NDArray[np.float32]
TEXTS = [
    "the film was good",
    "sport",
    "i like this very long story and love the end of it",
    "music music",
    "unheard of",
]
OUTPUTS = ["good", "", "love", "", "bad"]
IDS = {word: 4 + index for index, word in enumerate(WORDS)}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def ids_of(text: str) -> list[int]:
    return [2, *(IDS.get(word, 1) for word in text.split()), 3]


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def expected_vectors(table: Array, texts: list[str], pooling: str) -> Array:
    """What the graph of write_encoder and the pooling give, text by text, without any padding."""
    pooled = []
    for text in texts:
        tokens = table[ids_of(text)]
        states = tokens + 0.1 * tokens.sum(axis=0)
        pooled.append({"none": tokens.mean(axis=0), "cls": states[0], "mean": states.mean(axis=0)}[pooling])
    return np.array(pooled)


def encoder(folder: Path, pooling: str = "mean", **options: object) -> tuple[Encoder, Array]:
    table = write_encoder(folder / f"{pooling}.onnx", pooled=pooling == "none")
    made = Encoder(folder / f"{pooling}.onnx", write_tokenizer(folder / "t.json"), pooling=pooling, **options)
    return made, table


@pytest.mark.parametrize("pooling", ["mean", "cls", "none"])
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_equal_numpy_in_any_batch_size(tmp_path: Path, pooling: str, normalize: bool) -> None:
    made, table = encoder(tmp_path, pooling, normalize=normalize)
    expected = expected_vectors(table, TEXTS, pooling)
    expected = unit(expected) if normalize else expected
    assert made.width == 16
    for batch_size in (1, 2, 3, 8):
        vectors = made.encode(TEXTS, batch_size=batch_size)
        assert vectors.dtype == np.float32 and vectors.flags.c_contiguous
        np.testing.assert_allclose(vectors, expected, **CLOSE)


def test_order_is_that_of_the_input_over_several_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from personaplug_edge.embedder import encoder as module

    made, table = encoder(tmp_path)
    monkeypatch.setattr(module, "_SORTED_TOGETHER", 7)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 20))) for _ in range(40)]
    np.testing.assert_allclose(made.encode(texts, batch_size=3), unit(expected_vectors(table, texts, "mean")), **CLOSE)


def test_a_graph_without_token_types_and_another_rank_of_output(tmp_path: Path) -> None:
    table = write_encoder(tmp_path / "e.onnx", types=False)
    made = Encoder(tmp_path / "e.onnx", write_tokenizer(tmp_path / "t.json"), pooling="cls")
    np.testing.assert_allclose(made.encode(["sport"]), unit(expected_vectors(table, ["sport"], "cls")), **CLOSE)


def test_no_texts_give_no_rows(tmp_path: Path) -> None:
    assert encoder(tmp_path)[0].encode([]).shape == (0, 16)


def test_progress_counts_up_to_all(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    encoder(tmp_path)[0].encode(TEXTS, batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_prefix_is_read_and_can_be_replaced(tmp_path: Path) -> None:
    made, table = encoder(tmp_path, prefix="science ")
    expected = unit(expected_vectors(table, ["science fiction", "love fiction", "fiction"], "mean"))
    got = np.concatenate([made.encode(["fiction"], prefix=prefix) for prefix in (None, "love ", "")])
    np.testing.assert_allclose(got, expected, **CLOSE)


def test_a_long_text_is_cut_at_max_tokens(tmp_path: Path) -> None:
    made, _ = encoder(tmp_path, max_tokens=6)
    cut = made.encode(["the film was good bad", "the film was good", "the film was good " * 60_000])
    np.testing.assert_array_equal(cut[0], cut[1])
    np.testing.assert_array_equal(cut[2], cut[1])


def test_the_tokenizer_sees_a_bounded_part_of_a_megabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = encoder(tmp_path, max_tokens=6)
    lengths: list[int] = []
    real = TextTokenizer.__call__
    monkeypatch.setattr(
        TextTokenizer, "__call__", lambda self, texts: lengths.extend(map(len, texts)) or real(self, texts)
    )
    made.encode(["film " * 200_000])
    assert lengths == [6 * CHARACTERS_PER_TOKEN]


def test_pad_token_of_the_tokenizer_is_used(tmp_path: Path) -> None:
    made, _ = encoder(tmp_path)
    assert made._tokenizer.pad_id == 0
    path = tmp_path / "padded.json"
    path.write_text(
        (tmp_path / "t.json").read_text().replace('"[PAD]":0', '"[PAD]":99').replace('"[PAD]": 0', '"[PAD]": 99')
    )
    assert Encoder(tmp_path / "mean.onnx", path, pooling="mean")._tokenizer.pad_id == 99


def test_projector_equals_numpy_and_keeps_items_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from personaplug_edge.embedder import projector as module

    monkeypatch.setattr(module, "_ITEMS_TOGETHER", 4)
    inner, outer = write_projector(tmp_path / "p.onnx", tokens=3, width_llm=32)
    projector = Projector(tmp_path / "p.onnx")
    vectors = np.random.default_rng(0).standard_normal((9, 16)).astype(np.float32)
    x = vectors @ inner
    expected = ((0.5 * x * (1 + np.vectorize(erf)(x / 2**0.5))) @ outer).reshape(9, 3, 32)
    assert projector.shape == (3, 32)
    np.testing.assert_allclose(projector.project(vectors), expected, **CLOSE)
    np.testing.assert_allclose(projector.project(vectors[5:6])[0], expected[5], **CLOSE)
    assert projector.project(vectors[:0]).shape == (0, 3, 32)


def test_head_is_a_graph_on_vectors(tmp_path: Path) -> None:
    matrix = write_head(tmp_path / "h.onnx")
    vectors = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    np.testing.assert_allclose(QueryHead(tmp_path / "h.onnx", width=16).queries(vectors), vectors @ matrix, **CLOSE)


def history(n: int, tokens: int = 2, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    query, vectors = unit(rng.standard_normal(16)), unit(rng.standard_normal((n, 16)))
    projections = rng.standard_normal((n, tokens, 64))
    return query.astype(np.float32), vectors.astype(np.float32), projections.astype(np.float32)


def expected_persona(query: Array, vectors: Array, projections: Array, temperature: float) -> tuple[Array, Array]:
    """PPlug, arXiv 2409.11901, eqs. 4 and 5, in float64."""
    scores = temperature * (vectors.astype(np.float64) @ query.astype(np.float64))
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    return np.einsum("n,nkh->kh", weights, projections.astype(np.float64)), weights


@pytest.mark.parametrize("temperature", [1.0, 10.0, 500.0])
@pytest.mark.parametrize("n", [1, 2, 17, 1000])
def test_aggregator_equals_the_formula(tmp_path: Path, n: int, temperature: float) -> None:
    aggregator = Aggregator(write_aggregator(tmp_path / "a.onnx", tokens=2, temperature=temperature))
    arrays = history(n)
    persona, weights = expected_persona(*arrays, temperature)
    found = aggregator.aggregate(*arrays)
    assert found.persona.dtype == found.weights.dtype == np.float32
    np.testing.assert_allclose(found.persona, persona, rtol=1e-4 if temperature == 500 else 1e-5, atol=1e-5)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-6)
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-5)


def test_aggregator_takes_views_and_float64(tmp_path: Path) -> None:
    aggregator = Aggregator(write_aggregator(tmp_path / "a.onnx", tokens=2))
    query, vectors, projections = history(10)
    wanted = aggregator.aggregate(query, vectors[::2].copy(), projections[::2].copy()).persona
    np.testing.assert_array_equal(aggregator.aggregate(query, vectors[::2], projections[::2]).persona, wanted)
    wide = [array.astype(np.float64) for array in (query, vectors[::2], projections[::2])]
    np.testing.assert_array_equal(aggregator.aggregate(*wide).persona, wanted)


def test_users_do_not_leak_into_each_other(tmp_path: Path) -> None:
    """Two users with histories of one length, asked in turns from several threads: each gets what they get alone."""
    users = [history(50, seed=seed) for seed in range(4)]
    alone = [Aggregator(write_aggregator(tmp_path / f"{i}.onnx", tokens=2)).aggregate(*u) for i, u in enumerate(users)]
    shared = Aggregator(write_aggregator(tmp_path / "a.onnx", tokens=2))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda turn: shared.aggregate(*users[turn % 4]), range(200)))
    for turn, result in enumerate(found):
        np.testing.assert_array_equal(result.persona, alone[turn % 4].persona)
        np.testing.assert_array_equal(result.weights, alone[turn % 4].weights)
    kept = found[0].persona.copy()
    users[0][2][:] = 0.0  # erased by its owner
    np.testing.assert_array_equal(found[0].persona, kept)
    assert not shared.aggregate(*users[0]).persona.any()


@pytest.mark.parametrize("head", [True, False])
def test_user_embedder_from_text_to_persona(tmp_path: Path, head: bool) -> None:
    bundle = Bundle.load(make_bundle(tmp_path / "b", tokens=2, head=head))
    embedder = UserEmbedder.from_bundle(bundle, threads=1)
    texts = [embedder.item_text(*pair) for pair in zip(TEXTS, OUTPUTS, strict=True)]
    assert texts[:2] == ["good: the film was good", "sport"]
    vectors = embedder.behavior(texts)
    projections = embedder.project(vectors)
    query = embedder.query("science fiction")
    table = write_encoder(tmp_path / "same.onnx")
    expected_query = unit(expected_vectors(table, ["science fiction"], "mean"))[0]
    if head:
        expected_query = expected_query @ write_head(tmp_path / "h.onnx")
    np.testing.assert_allclose(query, expected_query, **CLOSE)
    persona, weights = expected_persona(query, vectors, projections, 10.0)
    found = embedder.aggregate(query, vectors, projections)
    np.testing.assert_allclose(found.persona, persona, **CLOSE)
    np.testing.assert_allclose(found.weights, weights, **CLOSE)
    assert embedder.instruction.shape == (1, 64)


def test_no_history_is_the_cold_start(tmp_path: Path) -> None:
    embedder = UserEmbedder.from_bundle(Bundle.load(make_bundle(tmp_path / "b")))
    nothing = embedder.behavior([])
    found = embedder.aggregate(embedder.query("sport"), nothing, embedder.project(nothing))
    np.testing.assert_array_equal(found.persona, embedder.cold_start)
    assert found.weights.shape == (0,) and np.isfinite(found.persona).all()


def test_equal_encoders_are_loaded_once(tmp_path: Path) -> None:
    embedder = UserEmbedder.from_bundle(Bundle.load(make_bundle(tmp_path / "b")))
    assert embedder.input_encoder is embedder.behavior_encoder


def test_importing_loads_no_onnxruntime() -> None:
    code = "import sys, personaplug_edge.embedder; print('onnxruntime' in sys.modules, 'tokenizers' in sys.modules)"
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=paths, check=True)
    assert done.stdout.split() == ["False", "False"]
