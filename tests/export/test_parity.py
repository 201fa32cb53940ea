from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from export_models import save_llama, train_sentencepiece  # type: ignore[import-not-found]
from typer.testing import CliRunner

from personaplug_export import cli
from personaplug_export.bundle_export import BundleOptions, export_bundle
from personaplug_export.checks import Check
from personaplug_export.gguf_export import export_gguf
from personaplug_export.hf_llama import write_tokenizer
from personaplug_export.onnx_encoder import EncoderOptions, export_encoder
from personaplug_export.parity import ParityOptions, check_bundle, check_llm, plug_rows
from personaplug_export.parity_embedder import check_graphs
from personaplug_export.parity_llm import probe_prompts
from personaplug_export.reference import Plug, mean_token_norm

FEW = ParityOptions(prompts=40, tokens=12, logit_prompts=6, pooling="mean")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory, llm_folder: Path, llama_cpp: Path) -> Path:
    return export_gguf(llm_folder, tmp_path_factory.mktemp("gguf") / "f32.gguf", kind="f32", llama_cpp=llama_cpp).path


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
    encoder_folder: Path,
    gguf: Path,
    llm_folder: Path,
    llama_cpp: Path,
    make_plug: Callable[..., Plug],
) -> dict[str, Path]:
    """A plug and its bundle, with a q8_0 LLM and an encoder with int8 weights."""
    root = tmp_path_factory.mktemp("parity")
    make_plug().save(root / "plug")
    small = export_gguf(llm_folder, root / "q8.gguf", kind="q8_0", llama_cpp=llama_cpp).path
    encoder = export_encoder(encoder_folder, root / "onnx", EncoderOptions(pooling="mean", precision="int8")).folder
    export_bundle(root / "plug", encoder, small, root / "bundle", BundleOptions(name="test", license="MIT"))
    return {"plug": root / "plug", "bundle": root / "bundle"}


def test_everything_agrees(exported: dict[str, Path], llm_folder: Path, encoder_folder: Path, gguf: Path) -> None:
    checks = check_bundle(exported["bundle"], llm_folder, exported["plug"], encoder_folder, FEW, gguf=gguf)
    figures = {check.name: check for check in checks}
    assert [check.name for check in checks if not check.passed] == []
    for kind in ("tokens", "rows", "rows, tokens", "tokens, rows, tokens", "tokens, rows"):
        assert figures[f"logits, {kind}"].figure <= 1e-3
    assert figures["greedy tokens equal"].figure == 1.0
    for name in ("projector", "aggregator, persona", "input head", "encoder, float32 export"):
        assert figures[name].limit == 1e-4 and figures[name].figure <= 1e-4
    assert figures["encoder, as bundled (int8)"].figure >= 0.99
    assert figures["logits, as bundled"].figure > 1e-3  # quantised: reported, not judged
    assert figures["logits, as bundled"].limit is None


@pytest.mark.parametrize(
    ("name", "changed", "limit"),
    [
        ("Qwen2", {}, 1e-3),
        ("Gemma", {"head_dim": 32}, 1e-2),  # scales rows of the token table by the root of their width
        ("Gemma3", {"head_dim": 32, "query_pre_attn_scalar": 32, "attn_implementation": "eager"}, 1e-2),  # not rows
    ],
)
def test_architectures_that_treat_rows_in_their_own_way(
    name: str, changed: dict[str, object], limit: float, llama_cpp: Path, make_plug: Callable[..., Plug], tmp_path: Path
) -> None:
    config = getattr(transformers, "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config")(
        vocab_size=480, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        initializer_range=0.1, **changed,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    model.save_pretrained(tmp_path / "llm")
    write_tokenizer(tmp_path / "llm", train_sentencepiece(tmp_path, add_dummy_prefix=name == "Qwen2"))
    made = export_gguf(tmp_path / "llm", tmp_path / "llm.gguf", kind="f32", llama_cpp=llama_cpp)
    norm = mean_token_norm(model.get_input_embeddings()(torch.arange(480)))
    few = ParityOptions(prompts=8, tokens=8, logit_prompts=3)
    checks = check_llm(tmp_path / "llm", made.path, plug_rows(make_plug(token_norm=norm)), few)
    assert [check.name for check in checks if not check.passed] == []
    assert made.architecture == name.lower() and checks[0].limit == limit


def test_other_weights_are_noticed(
    llm_folder: Path, tokenizer_model: Path, gguf: Path, make_plug: Callable[..., Plug], tmp_path: Path
) -> None:
    other = save_llama(tmp_path / "other", tokenizer_model, seed=5)
    checks = check_llm(other, gguf, plug_rows(make_plug()), ParityOptions(prompts=3, tokens=4, logit_prompts=2))
    assert not any(check.passed for check in checks)


def test_another_plug_is_noticed(exported: dict[str, Path], make_plug: Callable[..., Plug]) -> None:
    from personaplug_edge.bundle import Bundle

    plug = make_plug()
    plug.projector.outer.weight.data *= 1.001
    with torch.no_grad():
        plug.aggregator.log_temperature += 0.01
    failed = {check.name for check in check_graphs(Bundle.load(exported["bundle"]), plug) if not check.passed}
    assert failed == {"projector", "aggregator, persona", "aggregator, weights"}


def test_the_command_writes_its_figures_and_its_status(
    exported: dict[str, Path], llm_folder: Path, encoder_folder: Path, gguf: Path, tmp_path: Path
) -> None:
    arguments = ["parity", str(exported["bundle"]), "--llm", str(llm_folder), "--encoder", str(encoder_folder)]
    arguments += ["--gguf", str(gguf), "--pooling", "mean", "--prompts", "3", "--tokens", "3"]
    result = CliRunner().invoke(cli.app, [*arguments, "--plug", str(exported["plug"]), "--json", str(tmp_path / "a")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "a").read_text())
    assert written["passed"] is True and len(written["checks"]) == 16
    plug = Plug.load(exported["plug"])
    plug.projector.mean += 0.1
    plug.save(tmp_path / "changed")
    result = CliRunner().invoke(
        cli.app, [*arguments, "--plug", str(tmp_path / "changed"), "--json", str(tmp_path / "b")]
    )
    assert result.exit_code == 1 and "FAIL" in result.output
    assert json.loads((tmp_path / "b").read_text())["passed"] is False


def test_a_figure_that_is_no_number_fails() -> None:
    assert not Check(name="a", figure=float("nan"), limit=1.0).passed
    assert not Check(name="a", figure=float("nan"), limit=1.0, at_least=True).passed
    assert Check(name="a", figure=1.0, limit=1.0).passed and Check(name="a", figure=9.0, limit=None).passed


def test_prompts_are_different_and_always_the_same() -> None:
    assert len(set(probe_prompts(392))) == 392
    assert probe_prompts(5) == probe_prompts(9)[:5]


def test_rows_of_a_plug_have_the_length_of_token_rows(make_plug: Callable[..., Plug]) -> None:
    plug = make_plug()
    assert np.allclose(np.linalg.norm(plug_rows(plug), axis=1), plug.config.token_norm, rtol=1e-4)


def test_a_trained_input_encoder_is_compared_too(
    exported: dict[str, Path],
    make_plug: Callable[..., Plug],
    encoder_folder: Path,
    llm_folder: Path,
    gguf: Path,
    tmp_path: Path,
) -> None:
    plug = make_plug(input_encoder="full", instruction_rows=0)
    plug.save(tmp_path / "plug")
    shutil.copytree(encoder_folder, tmp_path / "plug" / "input_encoder")
    encoder = export_encoder(encoder_folder, tmp_path / "onnx", EncoderOptions(pooling="mean")).folder
    options = BundleOptions(name="test", license="MIT")
    export_bundle(tmp_path / "plug", encoder, gguf, tmp_path / "bundle", options, input_encoder_folder=encoder)
    few = ParityOptions(prompts=2, tokens=2, logit_prompts=1, pooling="mean")
    checks = check_bundle(tmp_path / "bundle", llm_folder, tmp_path / "plug", encoder_folder, few, gguf=gguf)
    figures = {check.name: check.figure for check in checks}
    assert all(check.passed for check in checks)
    assert 0 < figures["input encoder"] <= 1e-4 and figures["instruction rows"] == 0
    assert figures["logits, as bundled"] <= 1e-3
