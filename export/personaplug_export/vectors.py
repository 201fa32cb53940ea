"""Sentence vectors of a frozen Hugging Face encoder, for training: every text is encoded once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """How a text becomes a vector; the same facts stand in the bundle's manifest."""

    pooling: str = "cls"
    """"cls" (BGE) or "mean" (MiniLM)"""
    max_tokens: int = 128
    """longer texts are cut"""
    prefix: str = ""
    """put in front of the text"""


class FrozenEncoder:
    """A BERT-like encoder with pooling and unit length, on one device."""

    def __init__(self, folder: Path, options: EncoderOptions, device: str = "cpu") -> None:
        self.options, self.device = options, device
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder).eval().to(device)
        self.width = int(self.model.config.hidden_size)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (texts, width); gradients flow if the caller allows them."""
        batch = self.tokenizer(
            [self.options.prefix + text for text in texts],
            truncation=True,
            max_length=self.options.max_tokens,
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        hidden = self.model(**batch).last_hidden_state
        if self.options.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            weights = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Unit vectors (texts, width) on the CPU, batched by length."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = torch.zeros(len(texts), self.width)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            vectors[chosen] = self.forward([texts[i] for i in chosen]).float().cpu()
        return vectors


def cached_vectors(encoder: FrozenEncoder, texts: Sequence[str], cache: Path) -> dict[str, Tensor]:
    """Vectors by text, encoded once; ``cache`` is a file that belongs to these texts and this encoder alone."""
    weights = next(encoder.model.parameters()).detach().float().cpu().numpy().tobytes()
    unique = sorted(set(texts))
    key = hashlib.sha256(weights + repr(encoder.options).encode() + "\0".join(unique).encode()).hexdigest()
    if cache.exists():
        saved = torch.load(cache, weights_only=True)
        if saved["key"] == key:
            return dict(zip(unique, saved["vectors"], strict=True))
    vectors = encoder.encode(unique)
    cache.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"key": key, "vectors": vectors}, cache)
    return dict(zip(unique, vectors, strict=True))
