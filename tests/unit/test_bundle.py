"""Bundles that are in order: read, written, named, compared to an LLM."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from models.onnx_models import FakeLLM, edit_manifest, make_bundle
from personaplug_edge.bundle import (
    Bundle,
    HeadPart,
    HistoryPart,
    Manifest,
    fill,
    folder,
    known_bundles,
    tokenizer_digest,
)
from personaplug_edge.errors import BundleError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "made", tokens=2)


def test_load_reads_every_part(made: Path) -> None:
    bundle = Bundle.load(made)
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.format) == ("test", "1", 1)
    assert manifest.llm.embedding_width == 64
    assert manifest.persona.tokens == 2
    assert manifest.prompt.layout == ("bos", "instruction", "persona", "prompt")
    assert bundle.llm_path == made.resolve() / "llm.gguf"
    assert bundle.sampling_options == {"max_tokens": 8, "stop": ("\n",)}


def test_a_string_path_and_the_manifest_itself_name_the_folder(made: Path) -> None:
    assert Bundle.load(str(made)).folder == Bundle.load(made / "bundle.json").folder == made.resolve()


def test_json_round_trip_gives_an_equal_manifest(tmp_path: Path) -> None:
    for head in (False, True):
        text = (
            make_bundle(tmp_path / f"head{head}", head=head, measured={"accuracy": 0.5}) / "bundle.json"
        ).read_text()
        manifest = Manifest.from_json(text)
        assert isinstance(manifest.input_encoder, HeadPart) is head
        assert manifest.measured == {"accuracy": 0.5}
        assert Manifest.from_json(manifest.to_json()) == manifest
        assert manifest.to_json() == text
        assert next(iter(json.loads(text))) == "format"


def test_optional_keys_have_defaults(made: Path) -> None:
    edit_manifest(made, {"history": ..., "prompt": ..., "sampling": ..., "measured": ..., "llm.context": ...})
    manifest = Bundle.load(made).manifest
    assert manifest.history == HistoryPart()
    assert manifest.prompt.template == "{input}"
    assert manifest.sampling == {} and manifest.llm.context == 0


def test_a_whole_number_is_a_number(made: Path) -> None:
    edit_manifest(made, {"persona.token_norm": 2})
    norm = Bundle.load(made).manifest.persona.token_norm
    assert norm == 2.0 and isinstance(norm, float)


def test_rows_have_the_shapes_of_the_manifest(tmp_path: Path) -> None:
    rows = Bundle.load(make_bundle(tmp_path / "b", tokens=3, instruction_rows=2, scale=0.5)).rows()
    assert rows.instruction.shape == (2, 64) and rows.cold_start.shape == (3, 64)
    assert rows.instruction.dtype == rows.cold_start.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows.cold_start, axis=1), 0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        rows.cold_start[0, 0] = 1.0


def test_a_name_means_a_bundle_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "bundles_folder", lambda: tmp_path / "bundles")
    make_bundle(tmp_path / "bundles" / "tiny", name="packaged")
    make_bundle(tmp_path / "tiny", name="local")
    monkeypatch.chdir(tmp_path)
    assert known_bundles() == ["tiny"]
    assert Bundle.load("tiny").manifest.name == "packaged"
    assert Bundle.load("./tiny").manifest.name == Bundle.load(Path("tiny")).manifest.name == "local"
    with pytest.raises(BundleError, match=r"no bundle 'tinny'.*known by name are: tiny"):
        Bundle.load("tinny")


def test_the_right_llm_is_accepted_and_any_other_refused(made: Path) -> None:
    bundle = Bundle.load(made)
    bundle.check_llm(FakeLLM())
    gemma = FakeLLM()
    gemma.architecture = "gemma3"
    others = {
        "expected architecture llama, got gemma3": gemma,
        "expected embedding width 64, got 65": FakeLLM(width=65),
        "expected vocabulary size 32, got 33": FakeLLM(vocabulary=33),
        "expected tokenizer [0-9a-f]{64}, got [0-9a-f]{64}": FakeLLM(mark="other"),
    }
    for message, model in others.items():
        with pytest.raises(BundleError, match=f"trained for another LLM: {message}; use llm.gguf"):
            bundle.check_llm(model)


def test_tokenizer_digest_is_over_every_piece_and_a_newline() -> None:
    assert tokenizer_digest(FakeLLM(vocabulary=2)) == hashlib.sha256(b"token0\ntoken1\n").hexdigest()


def _with(bundle: Bundle, **parts: object) -> Bundle:
    return Bundle(bundle.folder, dataclasses.replace(bundle.manifest, **parts))


def test_keys_change_with_what_vectors_and_projections_depend_on(made: Path) -> None:
    bundle = Bundle.load(made)
    manifest = bundle.manifest
    encoder = manifest.behavior_encoder
    files = dict(manifest.files)
    other_projector = files | {"projector.onnx": dataclasses.replace(files["projector.onnx"], sha256="0" * 64)}
    other_tokenizer = files | {"encoder_tokenizer.json": files["encoder.onnx"]}
    cases = {
        "prefix": _with(bundle, behavior_encoder=dataclasses.replace(encoder, prefix="query: ")),
        "pooling": _with(bundle, behavior_encoder=dataclasses.replace(encoder, pooling="cls")),
        "length": _with(bundle, behavior_encoder=dataclasses.replace(encoder, max_tokens=9)),
        "template": _with(bundle, history=HistoryPart(template="{text} = {output}")),
        "tokenizer": _with(bundle, files=other_tokenizer),
    }
    keys = {bundle.encoder_key, *(case.encoder_key for case in cases.values())}
    assert len(keys) == 1 + len(cases)
    projected = _with(bundle, files=other_projector)
    assert projected.encoder_key == bundle.encoder_key and projected.bundle_key != bundle.bundle_key
    assert len({bundle.bundle_key, *(case.bundle_key for case in cases.values())}) == 1 + len(cases)


def test_keys_do_not_change_with_names_of_files_or_the_prompt(made: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(made)
    same = _with(bundle, name="renamed", version="2", measured={"x": 1}, sampling={})
    assert (same.encoder_key, same.bundle_key) == (bundle.encoder_key, bundle.bundle_key)
    files = dict(bundle.manifest.files)
    files["e.onnx"] = files.pop("encoder.onnx")
    renamed = _with(
        bundle, files=files, behavior_encoder=dataclasses.replace(bundle.manifest.behavior_encoder, file="e.onnx")
    )
    assert renamed.encoder_key == bundle.encoder_key


def test_fill_goes_over_the_template_once() -> None:
    assert (
        fill("{output}: {text}", text="{output} {text.__class__}", output="{text}")
        == "{text}: {output} {text.__class__}"
    )
    assert fill("{input}\nanswer:", input="a {b} c") == "a {b} c\nanswer:"
