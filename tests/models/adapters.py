"""A folder of adapters with random content, as ``personaplug-export lora`` would write it for a tiny bundle."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import gguf_llama, gguf_lora
from personaplug_edge.adapters import AdapterBase, AdapterEntry, AdapterWriter, Kind, file_name
from personaplug_edge.bundle import Bundle


def make_adapters(
    out: Path, bundle: Path, *, lora: Sequence[str] = ("anna", "ben"), prompt: Sequence[str] = ("anna",), seed: int = 0
) -> Path:
    """LoRAs of some users and rows of prompt tuning of some in the folder ``out``; returns it."""
    manifest = Bundle.load(bundle).manifest
    base = AdapterBase(
        weights="0" * 64, gguf=manifest.files[manifest.llm.file].sha256, architecture="llama", width=64
    )  # fmt: skip
    writer = AdapterWriter(out, base)
    for number, user in enumerate(lora):
        path = gguf_lora.write_lora(out / "made", gguf_lora.random_lora(gguf_llama.Shape(), seed=seed + number))
        _add(writer, user, "lora", path.read_bytes())
        path.unlink()
    for number, user in enumerate(prompt):
        file = io.BytesIO()
        rows = np.random.default_rng(seed + number).standard_normal((3, 64))
        np.save(file, rows.astype(np.float32))
        _add(writer, user, "prompt", file.getvalue())
    return out


def _add(writer: AdapterWriter, user: str, kind: Kind, content: bytes) -> None:
    entry = AdapterEntry(
        user=user,
        kind=kind,
        file=file_name(user, kind),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        rank=4,
        training_seconds=2.5,
        items=3,
        loss=1.0,
    )
    writer.add(entry, content)
