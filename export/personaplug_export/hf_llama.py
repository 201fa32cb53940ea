"""The files that the GGUF converter and AutoTokenizer expect beside a SentencePiece tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from personaplug_export.errors import ExportError

CONTEXT_UNKNOWN = 1_000_000


def write_tokenizer(folder: Path, tokenizer_model: Path) -> None:
    """Puts ``tokenizer.model`` and its ``tokenizer_config.json`` beside a ``config.json``.

    Raises ExportError when the tokenizer has more pieces than the model has embeddings, or normalises its text in a way
    that llama.cpp does not (it knows the identity alone).
    """
    config = read_config(folder)
    processor = load_sentencepiece(tokenizer_model)
    if processor.vocab_size() > config["vocab_size"]:
        raise ExportError(
            f"{tokenizer_model} has {processor.vocab_size()} pieces, {folder} only {config['vocab_size']} embeddings"
        )
    normalizer = _normalizer(tokenizer_model)
    if normalizer["name"] != "identity":
        raise ExportError(
            f"{tokenizer_model} normalises by {normalizer['name']!r}, which llama.cpp does not; train it with "
            "normalization_rule_name='identity'"
        )
    if tokenizer_model.resolve() != (folder / "tokenizer.model").resolve():
        shutil.copyfile(tokenizer_model, folder / "tokenizer.model")
    names = {"bos_token": processor.bos_id(), "eos_token": processor.eos_id(), "unk_token": processor.unk_id()}
    written = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "add_prefix_space": normalizer["add_dummy_prefix"],
        "clean_up_tokenization_spaces": False,
        "legacy": True,  # the newer mode leaves the dummy prefix out where a text starts with a space
        "model_max_length": config.get("max_position_embeddings", CONTEXT_UNKNOWN),
        **{name: processor.id_to_piece(index) for name, index in names.items() if index >= 0},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a Hugging Face folder; raises ExportError where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise ExportError(f"no config.json in {folder}: expected the folder of a Hugging Face model")
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def load_sentencepiece(path: Path) -> Any:
    """The SentencePiece processor of a ``tokenizer.model``."""
    from sentencepiece import SentencePieceProcessor

    if not path.is_file():
        raise ExportError(f"no SentencePiece model at {path}")
    return SentencePieceProcessor(model_file=str(path))


def _normalizer(tokenizer_model: Path) -> dict[str, Any]:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(tokenizer_model.read_bytes())
    spec = proto.normalizer_spec
    return {"name": spec.name, "add_dummy_prefix": spec.add_dummy_prefix}
