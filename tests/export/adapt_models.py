"""Models for adapting a plug: word-level Llamas of two widths and several vocabularies, an encoder, and users."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "</s>"]
TASK_WORDS = ["question", "answer", ":", "red", "blue", "sky", "sea", "fox"]
OLD_WIDTH, NEW_WIDTH = 32, 48


def words(*fillers: str) -> list[str]:
    """The words of the task, and 90 others for each name in ``fillers``."""
    return [*SPECIAL, *TASK_WORDS, *(f"{name}{n}" for name in fillers for n in range(90))]


def save_tokenizer(folder: Path, vocabulary: Sequence[str], *, bert: bool = False) -> None:
    """A tokenizer whose tokens are whole words."""
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if bert:
        ends = [(name, ids[name]) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def random_llama(folder: Path, vocabulary: Sequence[str], width: int, seed: int) -> Path:
    """A random Llama with opinions: at the usual spread of weights every answer is as likely as any other."""
    torch.manual_seed(seed)
    LlamaForCausalLM(_shape(len(vocabulary), width)).save_pretrained(folder)
    save_tokenizer(folder, vocabulary)
    return folder


def same_llama_in_another_space(folder: Path, old: Path, width: int) -> Path:
    """The Llama ``old`` with hidden states x M for orthonormal rows M, and with its tokens in another order.

    Without weights of their own the norms commute with M, but for the mean over more dimensions, so that logits are the
    same.
    """
    before = LlamaForCausalLM.from_pretrained(old)
    narrow, tokens = before.config.hidden_size, before.config.vocab_size
    torch.manual_seed(5)
    m = torch.linalg.qr(torch.randn(width, width)).Q[:narrow]
    order = torch.randperm(tokens)
    config = _shape(tokens, width)
    config.rms_norm_eps = before.config.rms_norm_eps * narrow / width
    after = LlamaForCausalLM(config)
    after.load_state_dict({name: _moved(name, value, m, order) for name, value in before.state_dict().items()})
    after.save_pretrained(folder)
    vocabulary = PreTrainedTokenizerFast.from_pretrained(old).get_vocab()
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    save_tokenizer(folder, [by_id[i] for i in order.tolist()])
    return folder


def _moved(name: str, value: Tensor, m: Tensor, order: Tensor) -> Tensor:
    if "norm" in name:
        return torch.full((m.shape[1],), (m.shape[0] / m.shape[1]) ** 0.5)
    if "embed_tokens" in name or "lm_head" in name:
        return value[order] @ m
    return m.T @ value if "o_proj" in name or "down_proj" in name else value @ m


def _shape(tokens: int, width: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tokens, hidden_size=width, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        head_dim=16, max_position_embeddings=64, initializer_range=0.4,
    )  # fmt: skip


def save_encoder(folder: Path, width: int = 16) -> Path:
    """A random BERT."""
    vocabulary = words()
    torch.manual_seed(1)
    shape = {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(vocabulary), initializer_range=0.4, **shape)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    save_tokenizer(folder, vocabulary, bert=True)
    return folder


def write_colors(folder: Path) -> Path:
    """24 users of whom half always answer red, half always blue; the last eight have the dev questions."""
    folder.mkdir()
    users, questions = [], []
    for number in range(24):
        color, things = ("red", "blue")[number % 2], ("sky", "sea", "fox")
        history = [{"id": str(i), "text": thing, "category": color} for i, thing in enumerate(things)]
        users.append({"user_id": f"u{number}", "history": history})
        for n, thing in enumerate(things):
            facts = {"id": f"q{number}-{n}", "user_id": f"u{number}", "split": "dev" if number >= 16 else "train"}
            question = {"n_history": 3, "input": thing, "short_input": f"question {thing}", "output": color}
            questions.append({**facts, **question})
    for name, rows in (("users", users), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "labels.json").write_text(json.dumps(["red", "blue"]))
    return folder
