from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from personaplug_edge.bundle import Bundle, EncoderPart, HeadPart
from personaplug_edge.embedder import UserEmbedder
from personaplug_export import bundle_export
from personaplug_export.bundle_export import BundleOptions, export_bundle
from personaplug_export.carry_over import fold
from personaplug_export.errors import ExportError
from personaplug_export.gguf_export import export_gguf
from personaplug_export.model_card import ModelCard
from personaplug_export.onnx_encoder import EncoderOptions, export_encoder
from personaplug_export.reference import Plug

OPTIONS = BundleOptions(
    name="test",
    license="MIT",
    sampling={"max_tokens": 5, "stop": ["\n"]},
    measured={"accuracy": {"news": 0.625}},
    card=ModelCard(data="Sentences of the tests.", limits="It knows | nothing."),
)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory, llm_folder: Path, llama_cpp: Path) -> Path:
    return export_gguf(llm_folder, tmp_path_factory.mktemp("gguf") / "f32.gguf", kind="f32", llama_cpp=llama_cpp).path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> Path:
    options = EncoderOptions(pooling="mean", max_tokens=32, prefix="text: ")
    return export_encoder(encoder_folder, tmp_path_factory.mktemp("onnx"), options).folder


@pytest.fixture
def plug_folder(tmp_path: Path, make_plug: Callable[..., Plug]) -> Path:
    make_plug().save(tmp_path / "plug")
    (tmp_path / "plug" / "train.json").write_text(
        json.dumps({"template": "{input}\nanswer:", "max_input_tokens": 99, "max_items": 512})
    )
    return tmp_path / "plug"


def test_the_bundle_says_and_does_what_the_plug_does(
    plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path
) -> None:
    bundle = export_bundle(plug_folder, encoder, gguf, tmp_path / "out" / "test", OPTIONS)
    assert bundle.folder == tmp_path / "out" / "test"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test"]
    manifest = Bundle.load(bundle.folder, verify="full").manifest
    on_disk = {path.name for path in bundle.folder.iterdir()}
    assert on_disk == {*manifest.files, "bundle.json"} and len(on_disk) == 9
    assert (manifest.llm.architecture, manifest.llm.embedding_width, manifest.llm.vocabulary_size) == ("llama", 64, 480)
    assert manifest.input_encoder == HeadPart(head="input_head.onnx", prefix="text: ")
    assert (manifest.prompt.template, manifest.prompt.max_input_tokens) == ("{input}\nanswer:", 99)
    assert (manifest.history.max_items, manifest.persona.tokens) == (512, 2)
    assert bundle.sampling_options == {"max_tokens": 5, "stop": ("\n",)}
    plug = Plug.load(plug_folder)
    rows = bundle.rows()
    assert np.array_equal(rows.instruction, plug.instruction.detach().numpy())
    assert np.array_equal(rows.cold_start, plug.cold_start.detach().numpy())
    check_persona(bundle, plug)


def test_a_plug_adapted_from_an_llm_of_another_width_is_bundled_as_any_other(
    plug_folder: Path, make_plug: Callable[..., Plug], encoder: Path, gguf: Path, tmp_path: Path
) -> None:
    adapted = fold(make_plug(embedding_width=40), torch.randn(40, 64), make_plug().config.token_norm)
    adapted.save(plug_folder)
    check_persona(export_bundle(plug_folder, encoder, gguf, tmp_path / "bundle", OPTIONS), adapted)


def check_persona(bundle: Bundle, plug: Plug) -> None:
    """The persona of the runtime is the one of PyTorch."""
    embedder = UserEmbedder.from_bundle(bundle, threads=1, providers=["cpu"])
    vectors = embedder.behavior(["rain in the mountains", "tickets"])
    query = embedder.query("rain")
    with torch.inference_mode():
        wanted = plug.persona(torch.from_numpy(query), torch.from_numpy(vectors)).numpy()
    found = embedder.aggregate(query, vectors, embedder.project(vectors)).persona
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_the_llm_is_known_by_its_tokenizer(plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path) -> None:
    from personaplug_edge._native import core

    bundle = export_bundle(plug_folder, encoder, gguf, tmp_path / "test", OPTIONS)
    bundle.check_llm(core.Model(str(bundle.llm_path)))


def test_the_card_holds_what_was_given(plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path) -> None:
    bundle = export_bundle(plug_folder, encoder, gguf, tmp_path / "test", OPTIONS)
    card = bundle.path("MODEL_CARD.md").read_text()
    assert card.startswith("# test 1\n") and "Sentences of the tests." in card
    assert "| accuracy: news | 0.625 |" in card and "It knows | nothing." in card
    assert f"| llm.gguf | {gguf.stat().st_size / 1e6:.2f} |" in card


def test_a_bundle_is_replaced_only_when_asked(plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundles" / "test"
    target.mkdir(parents=True)
    (target / "precious").touch()
    with pytest.raises(ExportError, match="--force"):
        export_bundle(plug_folder, encoder, gguf, target, OPTIONS)
    assert [path.name for path in target.iterdir()] == ["precious"]
    export_bundle(plug_folder, encoder, gguf, target, OPTIONS, force=True)
    assert not (target / "precious").exists() and (target / "bundle.json").exists()
    assert [path.name for path in target.parent.iterdir()] == ["test"]


def test_a_failure_leaves_what_was_there(
    plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundles" / "test"
    export_bundle(plug_folder, encoder, gguf, target, OPTIONS)
    before = (target / "bundle.json").read_bytes()

    def fail(bundle: Bundle) -> None:
        raise ExportError("no")

    monkeypatch.setattr(bundle_export, "_try", fail)
    with pytest.raises(ExportError, match="^no$"):
        export_bundle(plug_folder, encoder, gguf, target, OPTIONS, force=True)
    assert (target / "bundle.json").read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["test"]


@pytest.mark.parametrize(
    ("changed", "said"), [("vector_width", "vectors of width 33"), ("embedding_width", "width 65")]
)
def test_parts_that_do_not_fit_are_named(
    changed: str, said: str, make_plug: Callable[..., Plug], encoder: Path, gguf: Path, tmp_path: Path
) -> None:
    make_plug(**{changed: 33 if changed == "vector_width" else 65}).save(tmp_path / "plug")
    with pytest.raises(ExportError, match=said):
        export_bundle(tmp_path / "plug", encoder, gguf, tmp_path / "out" / "test", OPTIONS)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_trained_input_encoder_is_a_part_of_its_own(
    make_plug: Callable[..., Plug], encoder: Path, gguf: Path, tmp_path: Path
) -> None:
    make_plug(input_encoder="full").save(tmp_path / "plug")
    with pytest.raises(ExportError, match="--input-encoder"):
        export_bundle(tmp_path / "plug", encoder, gguf, tmp_path / "test", OPTIONS)
    bundle = export_bundle(tmp_path / "plug", encoder, gguf, tmp_path / "test", OPTIONS, input_encoder_folder=encoder)
    part = bundle.manifest.input_encoder
    assert isinstance(part, EncoderPart) and part.file == "input_encoder.onnx" and part.prefix == "text: "


def test_missing_parts_are_named(plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="encoder.json: expected the encoder"):
        export_bundle(plug_folder, tmp_path, gguf, tmp_path / "test", OPTIONS)
    with pytest.raises(ExportError, match="plug.json: expected the plug"):
        export_bundle(encoder, encoder, gguf, tmp_path / "test", OPTIONS)


def test_the_history_template_and_the_encoder_are_those_of_training(
    plug_folder: Path, encoder: Path, gguf: Path, tmp_path: Path
) -> None:
    facts = {"template": "{input}\nanswer:", "max_input_tokens": 99, "max_items": 512}
    as_trained = {"prefix": "text: ", "max_tokens": 32, "pooling": "mean"}
    train = plug_folder / "train.json"
    train.write_text(json.dumps({**facts, "history_template": "{text}", "encoder": as_trained}))
    bundle = export_bundle(plug_folder, encoder, gguf, tmp_path / "one", OPTIONS)
    assert UserEmbedder.from_bundle(bundle).item_text("a text", "an output") == "a text"
    train.write_text(json.dumps({**facts, "history_template": "{output}, {text}", "encoder": as_trained}))
    bundle = export_bundle(plug_folder, encoder, gguf, tmp_path / "two", OPTIONS)
    assert UserEmbedder.from_bundle(bundle).item_text("a text", "an output") == "an output, a text"
    train.write_text(json.dumps({**facts, "encoder": {**as_trained, "max_tokens": 64}}))
    with pytest.raises(ExportError, match="max_tokens 64"):
        export_bundle(plug_folder, encoder, gguf, tmp_path / "three", OPTIONS)
