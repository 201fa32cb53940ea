"""A bundle for timing: the encoder of the shipped ``tiny``, a random plug of as many tokens as its own, and a random
LLM of any shape."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from random_llama import model_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from models.onnx_models import write_aggregator, write_projector  # noqa: E402

KEPT = ("encoder.onnx", "encoder_tokenizer.json", "input_head.onnx", "MODEL_CARD.md")


def bundle_folder(name: str, folder: Path) -> Path:
    """The bundle around the random LLM ``name`` of random_llama.SHAPES, made in ``folder`` where it is missing."""
    from personaplug_edge.bundle import Bundle

    shipped = Bundle.load("tiny")
    kind = f"{shipped.encoder_key[:8]}-{shipped.manifest.persona.tokens}"  # another encoder, another bundle
    target = folder / f"random-bundle-{name}-{kind}"
    if not (target / "bundle.json").exists():
        part = folder / f"random-bundle-{name}.{os.getpid()}.part"
        part.mkdir(parents=True)
        _fill(shipped, part, model_file(name, folder))
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    return target


def _fill(source: object, target: Path, llm: Path) -> None:
    from personaplug_edge._native import core
    from personaplug_edge.bundle import Bundle, LLMPart, tokenizer_digest
    from personaplug_edge.bundle.files import files_of

    assert isinstance(source, Bundle)
    for name in KEPT:
        shutil.copyfile(source.path(name), target / name)
    try:
        os.link(llm, target / "llm.gguf")
    except OSError:
        shutil.copyfile(llm, target / "llm.gguf")
    model = core.Model(str(llm))
    width, norm = model.embedding_width, _token_norm(model)
    shape = {"width": source.manifest.behavior_encoder.width, "width_llm": width}
    tokens = source.manifest.persona.tokens
    write_projector(target / "projector.onnx", tokens=tokens, **shape)
    write_aggregator(target / "aggregator.onnx", tokens=tokens, **shape)
    rows = np.random.default_rng(0).standard_normal((1 + tokens, width)).astype(np.float32)
    rows *= norm / np.linalg.norm(rows, axis=1, keepdims=True)
    np.savez(target / "rows.npz", instruction=rows[:1], cold_start=rows[1:])
    manifest = dataclasses.replace(
        source.manifest,
        name=target.name.partition(".")[0],
        files=files_of(target, [*KEPT, "llm.gguf", "projector.onnx", "aggregator.onnx", "rows.npz"]),
        llm=LLMPart(
            file="llm.gguf",
            architecture=model.architecture,
            embedding_width=width,
            vocabulary_size=model.vocabulary_size,
            tokenizer_sha256=tokenizer_digest(model),
            context=min(2048, model.train_context),
        ),
        persona=dataclasses.replace(source.manifest.persona, tokens=tokens, token_norm=norm),
        measured={},
    )
    (target / "bundle.json").write_text(manifest.to_json(), encoding="utf-8")


def _token_norm(model: object) -> float:
    """Mean length of some rows of the token table."""
    rows = model.embedding_rows(list(range(3, model.vocabulary_size, model.vocabulary_size // 256)))  # type: ignore[attr-defined]
    return float(np.linalg.norm(rows, axis=1).mean())
