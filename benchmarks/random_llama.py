"""Random-weight Llama models in GGUF, Q8_0, for timing: what a token costs depends on shapes, not on what weights mean.

``python benchmarks/random_llama.py FOLDER tiny 135m 1.1b`` makes them; benchmarks call :func:`model_file`, which keeps
them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEFAULT_FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "personaplug-edge" / "benchmarks"
BLOCK = 32
"""Weights of a Q8_0 block: one float16 scale, then 32 int8."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama's sizes."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    tied: bool
    context: int = 2048

    @property
    def parameters(self) -> int:
        """Number of weights, norms left out."""
        attention = 2 * self.width * (self.width + self.kv_heads * self.width // self.heads)
        layer = attention + 3 * self.width * self.hidden
        return self.layers * layer + self.vocabulary * self.width * (1 if self.tied else 2)


SHAPES = {
    "tiny": Shape(width=256, layers=6, heads=4, kv_heads=4, hidden=768, vocabulary=8192, tied=True, context=512),
    "135m": Shape(width=576, layers=30, heads=9, kv_heads=3, hidden=1536, vocabulary=49152, tied=True),
    "1.1b": Shape(width=2048, layers=22, heads=32, kv_heads=4, hidden=5632, vocabulary=32000, tied=False),
}
"""The shapes of this project's own small LLM, SmolLM-135M and TinyLlama-1.1B (their config.json)."""

END = 2


def model_file(name: str, folder: Path = DEFAULT_FOLDER) -> Path:
    """The GGUF file of a shape in SHAPES, made in ``folder`` where it is missing; a kill leaves no half of one."""
    path = folder / f"random-llama-{name}-q8_0.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        write_model(part, SHAPES[name])
        part.rename(path)
    return path


def write_model(path: Path, shape: Shape, seed: int = 0) -> None:
    """Writes a GGUF file, tensor by tensor; the largest one is in memory at a time."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    _add_vocabulary(writer, shape.vocabulary, seed)
    tensors = list(_tensors(shape))
    for name, size in tensors:
        if len(size) == 1:
            writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * size[0])
        else:
            bytes_shape = (size[0], size[1] // BLOCK * (BLOCK + 2))
            raw = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor_info(name, bytes_shape, np.dtype(np.uint8), int(np.prod(bytes_shape)), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(seed)
    for name, size in tensors:
        writer.write_tensor_data(_weights(name, size, rng))
    writer.close()


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    kv_width = shape.width // shape.heads * shape.kv_heads
    yield "token_embd.weight", (shape.vocabulary, shape.width)
    for layer in range(shape.layers):
        at = f"blk.{layer}"
        yield f"{at}.attn_norm.weight", (shape.width,)
        yield f"{at}.attn_q.weight", (shape.width, shape.width)
        yield f"{at}.attn_k.weight", (kv_width, shape.width)
        yield f"{at}.attn_v.weight", (kv_width, shape.width)
        yield f"{at}.attn_output.weight", (shape.width, shape.width)
        yield f"{at}.ffn_norm.weight", (shape.width,)
        yield f"{at}.ffn_gate.weight", (shape.hidden, shape.width)
        yield f"{at}.ffn_up.weight", (shape.hidden, shape.width)
        yield f"{at}.ffn_down.weight", (shape.width, shape.hidden)
    yield "output_norm.weight", (shape.width,)
    if not shape.tied:
        yield "output.weight", (shape.vocabulary, shape.width)


def _weights(name: str, size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.generic]:
    if len(size) == 1:
        return np.ones(size, dtype=np.float32)
    # Uniform int8 have a standard deviation of 73.3; scaled to 1 / sqrt(inputs), as at the start of training.
    scale = np.float16(1 / (73.3 * np.sqrt(size[1])))
    blocks = np.empty((size[0], size[1] // BLOCK, BLOCK + 2), dtype=np.uint8)
    blocks[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
    blocks[..., 2:] = rng.integers(-127, 128, (size[0], size[1] // BLOCK, BLOCK), dtype=np.int8).view(np.uint8)
    if name in ("token_embd.weight", "output.weight"):
        blocks[END, :, 2:] = 0  # the end token's logit is 0: never the greatest, so no loop stops early
    return blocks.reshape(size[0], -1)


def _add_vocabulary(writer: object, size: int, seed: int) -> None:
    """A SentencePiece-style vocabulary: special tokens, 256 bytes, then distinct made-up words."""
    import gguf

    assert isinstance(writer, gguf.GGUFWriter)
    tokens = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    rng, known = np.random.default_rng(seed), set(tokens)
    while len(tokens) < size:
        letters = rng.integers(97, 123, int(rng.integers(2, 9)), dtype=np.uint8).tobytes()
        word = ("▁" if rng.random() < 0.5 else "").encode() + letters
        if word not in known:
            known.add(word)
            tokens.append(word)
            kinds.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(rank) for rank in range(size)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+", choices=list(SHAPES))
    given = parser.parse_args()
    for name in given.names:
        path = model_file(name, given.folder)
        print(f"{path}: {SHAPES[name].parameters / 1e6:.1f}M parameters, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
