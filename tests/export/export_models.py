"""Tiny models that the export tests make themselves: an LLM, an encoder, a plug. Nothing is read from outside."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from personaplug_export.errors import ExportError
from personaplug_export.hf_llama import write_tokenizer
from personaplug_export.llama_sources import llama_cpp_sources
from personaplug_export.parity_llm import probe_prompts
from personaplug_export.reference import Plug, PlugConfig, mean_token_norm

ENCODER_WIDTH = 32
LLM_WIDTH = 64


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def llama_cpp() -> Path:
    """The converter of llama.cpp: from the cache, else fetched by pip."""
    try:
        return llama_cpp_sources()
    except ExportError as error:
        pytest.skip(f"the sdist of llama-cpp-python is neither cached nor can it be fetched: {str(error)[:200]}")


@pytest.fixture(scope="session")
def awkward_texts() -> list[str]:
    """Texts that tokenizers disagree about: newlines, runs of spaces, emoji, digits, scripts that need bytes."""
    parts = [
        "\n",
        "\n\n",
        " ",
        "  ",
        "\t",
        "\r\n",
        "😀",
        "👍🏽",
        "é",
        "中文",
        "0",
        "12345",
        "3.14",
        "a",
        "The",
        "▁",
        "—",
        "ﬁ",
    ]
    parts += ["\u200b", "ß", "<s>", "</s>", "<0x0A>", "rain", "Report", "!?", "\u0301", "Ω", "x\n y"]
    order = random.Random(0)
    return probe_prompts(100) + ["".join(order.choices(parts, k=order.randint(1, 30))) for _ in range(400)]


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of 480 pieces with byte fallback, as the tiny LLM's."""
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer"))


def train_sentencepiece(folder: Path, **changed: object) -> Path:
    """Trains a SentencePiece model of its own on the probe sentences."""
    options = {
        "vocab_size": 480, "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "split_digits": True, "add_dummy_prefix": True, "unk_id": 0, "bos_id": 1,
        "eos_id": 2, "pad_id": -1, "num_threads": 1, "minloglevel": 2,
    }  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(probe_prompts(392)), model_prefix=str(folder / "tokenizer"), **{**options, **changed}
    )
    return folder / "tokenizer.model"


def save_llama(folder: Path, tokenizer: Path, seed: int) -> Path:
    """A random Llama of width 64 with its tokenizer; weights large enough that its logits differ."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=480, hidden_size=LLM_WIDTH, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        initializer_range=0.15,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def llm_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_model: Path) -> Path:
    return save_llama(tmp_path_factory.mktemp("llm"), tokenizer_model, seed=0)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("encoder"), ENCODER_WIDTH)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("teacher"), 64)


def save_bert(folder: Path, width: int) -> Path:
    """A random BERT with a WordPiece tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(probe_prompts(392), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=128, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_plug(llm_folder: Path) -> Callable[..., Plug]:
    """A random plug for the tiny LLM and encoder; keyword arguments change its configuration."""
    norm = mean_token_norm(LlamaForCausalLM.from_pretrained(llm_folder).get_input_embeddings().weight)

    def make(**changed: object) -> Plug:
        torch.manual_seed(2)
        shape = {"vector_width": ENCODER_WIDTH, "embedding_width": LLM_WIDTH, "persona_tokens": 2, "token_norm": norm}
        plug = Plug(PlugConfig(**{**shape, **changed})).eval()  # type: ignore[arg-type]
        plug.projector.mean.normal_(std=0.1)
        plug.input_head.linear.weight.data += 0.1 * torch.randn_like(plug.input_head.linear.weight)
        return plug

    return make
