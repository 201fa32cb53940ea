"""A SentencePiece BPE tokenizer: the kind that llama.cpp's converter takes from a model it has never met."""

from __future__ import annotations

from pathlib import Path

import sentencepiece

VOCABULARY = 8192
TRAINING_DOCUMENTS = 60_000


def train_tokenizer(documents: list[str], target: Path) -> Path:
    """Trains on the first documents and writes ``target/tokenizer.model``; identity normalisation and byte fallback,
    because llama.cpp's tokenizer knows no others."""
    path = target / "tokenizer.model"
    if path.exists():
        return path
    target.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(documents[:TRAINING_DOCUMENTS]),
        model_prefix=str(target / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        add_dummy_prefix=True,
        character_coverage=0.9999,
        max_sentence_length=4000,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=2,
        minloglevel=2,
    )
    return path


def load_tokenizer(path: Path) -> sentencepiece.SentencePieceProcessor:
    """The tokenizer of a file written by :func:`train_tokenizer`."""
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
