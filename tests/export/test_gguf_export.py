from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from export_models import train_sentencepiece  # type: ignore[import-not-found]
from transformers import AutoTokenizer, LlamaForCausalLM

from personaplug_export.errors import ExportError
from personaplug_export.gguf_export import compare_tokenizers, export_gguf, tokenize_all
from personaplug_export.hf_llama import load_sentencepiece, write_tokenizer


@pytest.fixture(scope="module")
def f32(tmp_path_factory: pytest.TempPathFactory, llm_folder: Path, llama_cpp: Path) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "f32.gguf"
    summary = export_gguf(llm_folder, path, kind="f32", llama_cpp=llama_cpp)
    assert (summary.path, summary.architecture) == (path, "llama")
    assert (summary.embedding_width, summary.vocabulary_size, summary.context) == (64, 480, 256)
    assert summary.size_bytes == path.stat().st_size
    return path


def test_weights_are_the_checkpoints_own(f32: Path, llm_folder: Path) -> None:
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(f32).tensors}
    table = LlamaForCausalLM.from_pretrained(llm_folder).get_input_embeddings().weight.detach().numpy()
    assert np.array_equal(tensors["token_embd.weight"].data, table)


def test_llama_cpp_tokenises_as_sentencepiece(f32: Path, tokenizer_model: Path, awkward_texts: list[str]) -> None:
    processor = load_sentencepiece(tokenizer_model)
    found = tokenize_all(f32, awkward_texts)
    assert found == [processor.encode(text) for text in awkward_texts]
    assert len(found) == 500


def test_transformers_tokenises_alike_what_holds_no_special_token(llm_folder: Path, awkward_texts: list[str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    processor = load_sentencepiece(llm_folder / "tokenizer.model")
    plain = [text for text in awkward_texts if "<" not in text and "▁" not in text]
    assert len(plain) > 150
    for text in plain:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == processor.encode(text), text
    assert tokenizer("rain")["input_ids"] == [1, *processor.encode("rain")]


def test_quantised_is_smaller_and_loads(f32: Path, llm_folder: Path, llama_cpp: Path, tmp_path: Path) -> None:
    summary = export_gguf(llm_folder, tmp_path / "q8.gguf", kind="Q8_0", llama_cpp=llama_cpp)
    assert (summary.kind, summary.architecture, summary.embedding_width) == ("q8_0", "llama", 64)
    assert summary.size_bytes < 0.5 * f32.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["q8.gguf"]


def test_another_tokenizer_is_noticed(f32: Path, tmp_path: Path) -> None:
    other = train_sentencepiece(tmp_path, vocab_size=400)
    with pytest.raises(ExportError, match="tokenises '.*' as"):
        compare_tokenizers(f32, other, ["rain in the mountains"])


def test_an_unknown_quantisation_is_named(llm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'q9_9' is no quantisation.*q8_0"):
        export_gguf(llm_folder, tmp_path / "llm.gguf", kind="q9_9")


def test_what_the_converter_said_is_shown_and_nothing_is_left(
    llm_folder: Path, llama_cpp: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(llm_folder, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "architectures": ["NoSuchForCausalLM"]}))
    with pytest.raises(ExportError, match="(?s)exit status 1.*NoSuchForCausalLM is not supported"):
        export_gguf(broken, tmp_path / "out" / "llm.gguf", llama_cpp=llama_cpp)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no config.json"):
        export_gguf(tmp_path, tmp_path / "llm.gguf")


def test_tokenizers_that_llama_cpp_would_read_otherwise_are_refused(llm_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(llm_folder, folder)
    normalising = train_sentencepiece(tmp_path, normalization_rule_name="nmt_nfkc")
    with pytest.raises(ExportError, match="normalises by 'nmt_nfkc'"):
        write_tokenizer(folder, normalising)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(ExportError, match="480 pieces.*only 100 embeddings"):
        write_tokenizer(folder, llm_folder / "tokenizer.model")
