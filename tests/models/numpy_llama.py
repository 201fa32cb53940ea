"""An independent forward pass in numpy: what llama.cpp's logits are compared with. Llama and Qwen2 shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.gguf_llama import Shape, TinyModel

Array = NDArray[np.float64]


def rows(model: TinyModel, ids: list[int]) -> NDArray[np.float32]:
    """Token embeddings, (ids, width)."""
    return model.weights["token_embd.weight"][ids]


def logits(model: TinyModel, inputs: NDArray[np.float32]) -> Array:
    """Logits after every position, (positions, vocabulary), of embedding rows (positions, width); float64 inside."""
    shape, weights = model.shape, model.weights
    hidden = inputs.astype(np.float64)
    positions = len(hidden)
    mask = np.triu(np.full((positions, positions), -np.inf), 1)
    for layer in range(shape.layers):

        def linear(name: str, x: Array, layer: int = layer) -> Array:
            bias = weights.get(f"blk.{layer}.{name}.bias")
            y: Array = x @ weights[f"blk.{layer}.{name}.weight"].T.astype(np.float64)
            return y if bias is None else y + bias

        x = _norm(hidden, weights[f"blk.{layer}.attn_norm.weight"], shape.epsilon)
        q = _rotate(linear("attn_q", x).reshape(positions, shape.heads, -1), shape)
        k = _rotate(linear("attn_k", x).reshape(positions, shape.kv_heads, -1), shape)
        v = linear("attn_v", x).reshape(positions, shape.kv_heads, -1)
        share = shape.heads // shape.kv_heads
        k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(shape.head_width) + mask
        attention = np.einsum("hqk,khd->qhd", softmax(scores), v).reshape(positions, -1)
        hidden = hidden + linear("attn_output", attention)
        x = _norm(hidden, weights[f"blk.{layer}.ffn_norm.weight"], shape.epsilon)
        gate = linear("ffn_gate", x)
        hidden = hidden + linear("ffn_down", gate / (1 + np.exp(-gate)) * linear("ffn_up", x))
    x = _norm(hidden, weights["output_norm.weight"], shape.epsilon)
    result: Array = x @ weights["output.weight"].T.astype(np.float64)
    return result


def greedy(model: TinyModel, inputs: NDArray[np.float32], count: int) -> list[int]:
    """The likeliest tokens after the inputs, one after the other; end tokens are not looked at."""
    found: list[int] = []
    for _ in range(count):
        found.append(int(logits(model, inputs)[-1].argmax()))
        inputs = np.concatenate([inputs, rows(model, found[-1:])])
    return found


def softmax(x: Array) -> Array:
    """Over the last axis."""
    y = np.exp(x - x.max(-1, keepdims=True))
    result: Array = y / y.sum(-1, keepdims=True)
    return result


def log_softmax(x: Array) -> Array:
    """Over the last axis."""
    y = x - x.max(-1, keepdims=True)
    result: Array = y - np.log(np.exp(y).sum(-1, keepdims=True))
    return result


def _norm(x: Array, weight: NDArray[np.float32], epsilon: float) -> Array:
    result: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight
    return result


def _rotate(x: Array, shape: Shape) -> Array:
    """Rotary positions: neighboring pairs in Llama's GGUF layout, halves in Qwen2's (llama_model_rope_type)."""
    half = shape.head_width // 2
    angles = np.arange(len(x))[:, None] * shape.rope_base ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None, :], np.sin(angles)[:, None, :]
    if shape.architecture == "llama":
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
