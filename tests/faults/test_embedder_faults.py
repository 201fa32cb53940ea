"""Encoders, tokenizers and graphs that are damaged or of the wrong kind, and texts and arrays that cannot be used."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from tokenizers import Regex, Tokenizer, models, normalizers

from models.onnx_models import (
    FLOAT,
    INT,
    edit_manifest,
    make_bundle,
    write_aggregator,
    write_encoder,
    write_graph,
    write_head,
    write_projector,
    write_tokenizer,
)
from personaplug_edge.bundle import Bundle
from personaplug_edge.embedder import Aggregator, Encoder, Projector, QueryHead, UserEmbedder
from personaplug_edge.errors import DimensionError, EncoderError, MissingExtraError, TextError


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    write_encoder(tmp_path / "encoder.onnx")
    write_tokenizer(tmp_path / "tokenizer.json")
    write_projector(tmp_path / "projector.onnx")
    write_aggregator(tmp_path / "aggregator.onnx")
    write_head(tmp_path / "head.onnx")
    return tmp_path


def encoder(parts: Path, **options: Any) -> Encoder:
    return Encoder(parts / "encoder.onnx", parts / "tokenizer.json", **({"pooling": "mean"} | options))


def break_file(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "garbage": b"\x00\xff" * 500, "cut": content[: len(content) * 2 // 3]}[how])


@pytest.mark.parametrize("how", ["missing", "folder", "garbage", "cut", "empty"])
def test_a_broken_file_is_an_error_with_its_path(parts: Path, how: str) -> None:
    loads = {
        "encoder.onnx": lambda: encoder(parts),
        "projector.onnx": lambda: Projector(parts / "projector.onnx"),
        "aggregator.onnx": lambda: Aggregator(parts / "aggregator.onnx"),
        "head.onnx": lambda: QueryHead(parts / "head.onnx", width=16),
        "tokenizer.json": lambda: encoder(parts),
    }
    for name, load in loads.items():
        kept = parts / f"{name}.kept"
        shutil.copy(parts / name, kept)
        break_file(parts / name, how)
        with pytest.raises(EncoderError, match=name):
            load()
        if how == "folder":
            (parts / name).rmdir()
        shutil.move(kept, parts / name)


def test_the_wrong_graph_in_the_place_of_another(parts: Path) -> None:
    with pytest.raises(EncoderError, match="expected inputs vectors and outputs rows; got query, vectors, projections"):
        Projector(parts / "aggregator.onnx")
    with pytest.raises(EncoderError, match="aggregator|expected inputs query, vectors, projections"):
        Aggregator(parts / "projector.onnx")
    with pytest.raises(EncoderError, match="expected one input and one output"):
        QueryHead(parts / "aggregator.onnx", width=16)
    with pytest.raises(EncoderError, match="expected integer inputs input_ids"):
        Encoder(parts / "projector.onnx", parts / "tokenizer.json", pooling="mean")


def test_pooling_that_does_not_fit_the_outputs(parts: Path) -> None:
    with pytest.raises(EncoderError, match="pooling 'none' needs an output of 2 dimensions .* got last_hidden_state"):
        encoder(parts, pooling="none")
    with pytest.raises(EncoderError, match="expected 'cls', 'mean' or 'none', got 'max'"):
        encoder(parts, pooling="max")
    write_encoder(parts / "pooled.onnx", pooled=True)
    with pytest.raises(EncoderError, match="needs an output of 3 dimensions"):
        Encoder(parts / "pooled.onnx", parts / "tokenizer.json", pooling="cls")


def test_a_width_that_is_not_the_manifests(parts: Path) -> None:
    with pytest.raises(EncoderError, match="expected vectors of width 17, the graph gives 16"):
        encoder(parts, width=17)
    with pytest.raises(EncoderError, match=r"expected rows \(n, 2, 64\)"):
        Projector(parts / "projector.onnx", shape=(2, 64))
    with pytest.raises(EncoderError, match=r"expected vectors \(n, 17\)"):
        QueryHead(parts / "head.onnx", width=17)


def test_token_ids_outside_of_the_table(parts: Path) -> None:
    write_tokenizer(parts / "tokenizer.json", [f"word{index}" for index in range(100)])
    with pytest.raises(EncoderError, match=r"encoder.onnx failed on input_ids int64 \(1, 3\)"):
        encoder(parts).encode(["word99"])


def test_vectors_that_are_not_finite(parts: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=FLOAT),
        helper.make_node("Unsqueeze", ["x", "axis"], ["x3"]),
        helper.make_node("Div", ["x3", "zero"], ["last_hidden_state"]),
    ]
    constants = {"axis": np.array([2]), "zero": np.zeros((), dtype=np.float32)}
    path, shape = parts / "encoder.onnx", ["batch", "tokens"]
    write_graph(path, nodes, {"input_ids": (INT, shape)}, {"last_hidden_state": (FLOAT, [*shape, 1])}, constants)
    with pytest.raises(EncoderError, match="a vector is not finite"), np.errstate(invalid="ignore"):
        encoder(parts).encode(["sport"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text 1 is empty"),
        (" \n\t ", "text 1 is empty"),
        ("a\0b", "text 1 holds a NUL character at position 1"),
        ("ab\ud800", "text 1 is not valid Unicode: a lone surrogate at position 2"),
        (None, "text 1 must be a str, not NoneType"),
        (b"bytes", "text 1 must be a str, not bytes"),
    ],
)
def test_a_text_that_cannot_be_used_is_named_before_any_is_encoded(parts: Path, text: Any, message: str) -> None:
    made, calls = encoder(parts), []
    with pytest.raises(TextError, match=message):
        made.encode(["fine", text], batch_size=1, progress=lambda *state: calls.append(state))
    assert calls == []


def test_a_bare_string_and_a_batch_of_none(parts: Path) -> None:
    with pytest.raises(TextError, match="put it into a list"):
        encoder(parts).encode("sport")
    with pytest.raises(DimensionError, match="batch_size: expected 1 or more, got 0"):
        encoder(parts).encode(["sport"], batch_size=0)


def test_a_text_without_a_token(parts: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "sport": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace(Regex("[0-9]"), "")
    tokenizer.save(str(parts / "tokenizer.json"))
    with pytest.raises(TextError, match="text 1 has no token that the encoder knows"):
        encoder(parts).encode(["sport", "123", "sport"])


def test_a_vocabulary_without_its_unknown_token(parts: Path) -> None:
    Tokenizer(models.WordLevel({"[PAD]": 0, "sport": 2}, unk_token="none such")).save(str(parts / "tokenizer.json"))
    with pytest.raises(EncoderError, match="tokenizer.json"):
        encoder(parts).encode(["unknown"])


def aggregator_arrays(n: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"query": (16,), "vectors": (n, 16), "projections": (n, 1, 64)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", ["query", "vectors", "projections"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_blamed_on_its_array(parts: Path, name: str, value: float) -> None:
    arrays = aggregator_arrays()
    arrays[name].flat[0] = value
    with pytest.raises(DimensionError, match=f"{name}: expected finite values"):
        Aggregator(parts / "aggregator.onnx").aggregate(**arrays)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("query", (1, 16), "expected query .d,., vectors"),
        ("query", (15,), "expected query .d,., vectors"),
        ("vectors", (5, 16), "expected query .d,., vectors"),
        ("projections", (4, 64), "expected query .d,., vectors"),
        ("projections", (4, 2, 64), r"projections: the graph takes .*got \(4, 2, 64\)"),
        ("projections", (4, 1, 65), r"projections: the graph takes .*got \(4, 1, 65\)"),
    ],
)
def test_shapes_that_do_not_fit(parts: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    arrays = aggregator_arrays() | {name: np.ones(shape, dtype=np.float32)}
    with pytest.raises(DimensionError, match=message):
        Aggregator(parts / "aggregator.onnx").aggregate(**arrays)


def test_both_of_another_width(parts: Path) -> None:
    arrays = aggregator_arrays() | {"query": np.ones(8, np.float32), "vectors": np.ones((4, 8), np.float32)}
    with pytest.raises(DimensionError, match="query: the graph takes .16., got .8,."):
        Aggregator(parts / "aggregator.onnx").aggregate(**arrays)


def test_no_items_do_not_reach_the_graph(parts: Path) -> None:
    with pytest.raises(DimensionError, match="cold-start rows"):
        Aggregator(parts / "aggregator.onnx").aggregate(**aggregator_arrays(0))


def test_projector_and_head_refuse_other_widths_and_blame_their_input(parts: Path) -> None:
    projector, head = Projector(parts / "projector.onnx"), QueryHead(parts / "head.onnx", width=16)
    for run in (projector.project, head.queries):
        for shape in ((3, 15), (16,), (0, 15)):
            with pytest.raises(DimensionError, match=r"vectors: expected \(n, 16\)"):
                run(np.ones(shape, dtype=np.float32))
        with pytest.raises(DimensionError, match="vectors: expected finite values"):
            run(np.full((1, 16), np.nan, dtype=np.float32))


def test_user_embedder_refuses_projections_of_another_bundle(tmp_path: Path) -> None:
    embedder = UserEmbedder.from_bundle(Bundle.load(make_bundle(tmp_path / "b")))
    vectors = embedder.behavior(["sport", "music"])
    with pytest.raises(DimensionError, match=r"projections: expected \(n, 1, 64\), got \(2, 1, 32\)"):
        embedder.aggregate(vectors[0], vectors, np.ones((2, 1, 32), dtype=np.float32))
    with pytest.raises(DimensionError):
        embedder.aggregate(vectors[0], vectors, embedder.project(vectors)[:0])
    with pytest.raises(TextError, match="input is empty"):
        embedder.query(" ")
    for text, output, message in (("", "x", "text of the history item is empty"), ("x", " ", "output of the history")):
        with pytest.raises(TextError, match=message):
            embedder.item_text(text, output)


def test_a_bundle_whose_graphs_do_not_fit_its_manifest(tmp_path: Path) -> None:
    """Hashes are in order, and still a graph has another width than the manifest says: an export that went wrong."""
    cases = {
        "behavior_encoder.width": (17, "encoder.onnx: expected vectors of width 17, the graph gives 16"),
        "llm.embedding_width": (32, "projector.onnx: expected rows"),
        "persona.tokens": (2, "projector.onnx: expected rows"),
    }
    for key, (value, message) in cases.items():
        made = make_bundle(tmp_path / key)
        edit_manifest(made, {key: value})
        with pytest.raises(EncoderError, match=message):
            UserEmbedder.from_bundle(Bundle.load(made))


@pytest.mark.parametrize(("module", "extra"), [("onnxruntime", r"\[cpu\].*\[cuda\]"), ("tokenizers", r"\[cpu\]")])
def test_a_missing_library_names_the_extra(
    parts: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=f"{module} cannot be imported.*personaplug-edge{extra}"):
        encoder(parts)
