"""Tiny GGUF language models: random weights, shapes of Llama, Qwen2, Gemma; a SentencePiece vocabulary with bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]

BYTES = 256
FIRST_BYTE = 3
"""Ids: 0 unknown, 1 begin, 2 end, then the 256 bytes, then pieces of text."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a tiny model."""

    architecture: str = "llama"
    vocabulary: int = 512
    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 96
    context: int = 256
    window: int | None = None  # of gemma3's sliding attention; None: the context
    rope_base: float = 10_000.0
    epsilon: float = 1e-5
    seed: int = 0

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class TinyModel:
    """A model file and what is needed to compute the same in numpy."""

    path: Path
    shape: Shape
    weights: Weights = field(repr=False)


def vocabulary(size: int) -> tuple[list[bytes], list[float], list[int]]:
    """Tokens, scores and types: letters, a few words, and merges of them, all reachable by SentencePiece's merging."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(BYTES)]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * BYTES
    letters = ["▁"] + [chr(c) for c in range(ord("a"), ord("z") + 1)] + [chr(c) for c in range(ord("A"), ord("Z") + 1)]
    letters += list("0123456789.,:;!?'-")
    pairs = ["▁" + a for a in letters[1:27]]
    pairs += [a + b for a in "aeiou" for b in letters[1:27]] + [a + b for a in "tnrs" for b in "aeiouh"]
    text = list(dict.fromkeys(letters + pairs))[: size - len(tokens)]
    text += [f"▁w{i}" for i in range(size - len(tokens) - len(text))]
    tokens += text
    types += [gguf.TokenType.NORMAL] * len(text)
    scores = [0.0] * (3 + BYTES) + [-float(i) for i in range(len(text))]
    return [token.encode() for token in tokens], scores, [int(kind) for kind in types]


def random_weights(shape: Shape) -> Weights:
    """Weights under their GGUF names, numpy order (outputs, inputs); scaled so that logits spread over a few units."""
    random = np.random.default_rng(shape.seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)

    def norm(size: int) -> NDArray[np.float32]:
        return (1 + 0.1 * random.standard_normal(size)).astype(np.float32)

    head = shape.head_width
    weights: Weights = {
        "token_embd.weight": matrix(shape.vocabulary, shape.width, 1.0 if shape.architecture == "gemma3" else 4.0),
        "output_norm.weight": norm(shape.width),
        "output.weight": matrix(shape.vocabulary, shape.width, 2.0),
    }
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        weights |= {
            prefix + "attn_norm.weight": norm(shape.width),
            prefix + "attn_q.weight": matrix(shape.heads * head, shape.width),
            prefix + "attn_k.weight": matrix(shape.kv_heads * head, shape.width),
            prefix + "attn_v.weight": matrix(shape.kv_heads * head, shape.width),
            prefix + "attn_output.weight": matrix(shape.width, shape.heads * head),
            prefix + "ffn_norm.weight": norm(shape.width),
            prefix + "ffn_gate.weight": matrix(shape.ffn, shape.width),
            prefix + "ffn_up.weight": matrix(shape.ffn, shape.width),
            prefix + "ffn_down.weight": matrix(shape.width, shape.ffn),
        }
        if shape.architecture.startswith("qwen2"):
            weights |= {
                prefix + "attn_q.bias": norm(shape.heads * head) - 1,
                prefix + "attn_k.bias": norm(shape.kv_heads * head) - 1,
                prefix + "attn_v.bias": norm(shape.kv_heads * head) - 1,
            }
        if shape.architecture == "gemma3":
            weights |= {prefix + name: norm(head) for name in ("attn_q_norm.weight", "attn_k_norm.weight")}
            names = ("post_attention_norm.weight", "post_ffw_norm.weight")
            weights |= {prefix + name: norm(shape.width) for name in names}
    if shape.architecture == "gemma3":
        del weights["output.weight"]  # Gemma's output is its token table
    return weights


def write(
    path: Path,
    shape: Shape | None = None,
    *,
    quantize: gguf.GGMLQuantizationType | None = None,
    weights: Weights | None = None,
) -> TinyModel:
    """Writes a model. ``quantize``: the type of all matrices, else float32. ``weights``: else random ones."""
    shape = shape or Shape()
    weights = weights or random_weights(shape)
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_vocab_size(shape.vocabulary)
    if shape.architecture == "gemma3":
        writer.add_sliding_window(shape.window or shape.context)
        writer.add_key_length(shape.head_width)
        writer.add_value_length(shape.head_width)
    if shape.architecture == "qwen2vl":
        quarter = shape.head_width // 8
        writer.add_rope_dimension_sections([quarter, quarter, quarter, quarter])
    add_tokenizer(writer, shape.vocabulary)
    for name, weight in weights.items():
        if quantize is not None and weight.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(weight, quantize), raw_dtype=quantize)
        else:
            writer.add_tensor(name, weight)
    finish(writer)
    return TinyModel(path, shape, weights)


def add_tokenizer(writer: gguf.GGUFWriter, size: int) -> None:
    """The vocabulary of ``vocabulary`` as a SentencePiece tokenizer that adds the begin token."""
    tokens, scores, types = vocabulary(size)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def finish(writer: gguf.GGUFWriter) -> None:
    """Writes all that the writer holds, and closes it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
