"""A tiny GGUF Mamba with random weights, its metadata as llama.cpp's converter writes it: no heads, no feed-forward."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from models.gguf_llama import Shape, TinyModel, Weights, add_tokenizer, finish

CONVOLUTION, STATES, RANK = 4, 8, 4


def write(path: Path, shape: Shape | None = None) -> TinyModel:
    """Of the shape count width, layers, vocabulary, context and seed."""
    shape = shape or Shape(architecture="mamba", context=1 << 20, heads=0, kv_heads=0, ffn=0, seed=6)
    random = np.random.default_rng(shape.seed)
    width, inner = shape.width, 2 * shape.width

    def matrix(rows: int, columns: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)

    weights: Weights = {
        "token_embd.weight": matrix(shape.vocabulary, width, 4.0),
        "output_norm.weight": np.ones(width, np.float32),
        "output.weight": matrix(shape.vocabulary, width, 2.0),
    }
    for layer in range(shape.layers):
        prefix = f"blk.{layer}."
        weights |= {
            prefix + "attn_norm.weight": np.ones(width, np.float32),
            prefix + "ssm_in.weight": matrix(2 * inner, width),
            prefix + "ssm_conv1d.weight": matrix(inner, CONVOLUTION),
            prefix + "ssm_conv1d.bias": np.zeros(inner, np.float32),
            prefix + "ssm_x.weight": matrix(RANK + 2 * STATES, inner),
            prefix + "ssm_dt.weight": matrix(inner, RANK),
            prefix + "ssm_dt.bias": np.zeros(inner, np.float32),
            prefix + "ssm_a": -np.ones((inner, STATES), np.float32),
            prefix + "ssm_d": np.ones(inner, np.float32),
            prefix + "ssm_out.weight": matrix(width, inner),
        }
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(shape.layers)
    writer.add_ssm_conv_kernel(CONVOLUTION)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(STATES)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    add_tokenizer(writer, shape.vocabulary)
    for name, weight in weights.items():
        writer.add_tensor(name, weight)
    finish(writer)
    return TinyModel(path, shape, weights)
