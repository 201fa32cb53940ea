"""A bundle's encoders, projector, aggregator, head and fixed rows, by the runtime and by PyTorch."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from personaplug_export.checks import Check, relative, unit_vectors
from personaplug_export.parity_llm import probe_prompts

if TYPE_CHECKING:
    from personaplug_edge.bundle import Bundle, EncoderPart
    from personaplug_export.reference import Plug

RELATIVE = 1e-4
"""Largest difference of a vector or a row, relative to the largest value."""


def check_graphs(bundle: Bundle, plug: Plug) -> list[Check]:
    """Projector, aggregator and head of a bundle against the plug, on random unit vectors of 1, 7 and 300 items."""
    import torch

    from personaplug_edge.embedder import UserEmbedder

    embedder = UserEmbedder.from_bundle(bundle, threads=1, providers=["cpu"])
    worst: dict[str, float] = {}
    generator = np.random.default_rng(0)
    for items in (1, 7, 300):
        vectors, query = (
            unit_vectors(generator, items, plug.config.vector_width),
            unit_vectors(generator, 1, plug.config.vector_width)[0],
        )
        with torch.inference_mode():
            tensors = torch.from_numpy(vectors)
            projections = plug.projector(tensors)
            persona, weights = plug.aggregator(torch.from_numpy(query), tensors, projections)
            queries = plug.query(tensors).numpy()
        found = embedder.project(vectors)
        aggregation = embedder.aggregate(query, vectors, projections.numpy())
        pairs = {
            "projector": (projections.numpy(), found),
            "aggregator, persona": (persona.numpy(), aggregation.persona),
            "aggregator, weights": (weights.numpy(), aggregation.weights),
        }
        if embedder.head is not None:
            pairs["input head"] = (queries, embedder.head.queries(vectors))
        for name, (wanted, got) in pairs.items():
            worst[name] = max(worst.get(name, 0.0), relative(wanted, got))
    for name, wanted, got in (
        ("instruction rows", plug.instruction.detach().numpy(), embedder.instruction),
        ("cold-start rows", plug.cold_start.detach().numpy(), embedder.cold_start),
    ):
        worst[name] = relative(wanted, got)
    return [Check(name=name, figure=figure, limit=RELATIVE, note="relative") for name, figure in worst.items()]


def check_encoder(bundle: Bundle, part: EncoderPart, folder: Path, pooling: str, name: str = "encoder") -> list[Check]:
    """An encoder of a bundle against its Hugging Face folder; ``pooling`` "" as in the ONNX export.

    A graph with smaller weights is held to the cosine of its precision, and a float32 export made now to RELATIVE.
    """
    from personaplug_edge.embedder import Encoder
    from personaplug_export.onnx_encoder import (
        LEAST_COSINE,
        EncoderOptions,
        cosines,
        export_encoder,
        onnx_vectors,
        reference_vectors,
        stored_pooling,
        stored_precision,
    )

    pooling = pooling or stored_pooling(folder)
    texts = [part.prefix + text for text in [*probe_prompts(40), " ".join(probe_prompts(60))]]
    wanted = reference_vectors(folder, texts, pooling, normalize=part.normalize, max_tokens=part.max_tokens)
    found = Encoder(
        bundle.path(part.file),
        bundle.path(part.tokenizer),
        pooling=part.pooling,
        normalize=part.normalize,
        max_tokens=part.max_tokens,
        providers=["cpu"],
        threads=1,
    ).encode(texts)
    precision = stored_precision(bundle.path(part.file))
    if precision == "f32":
        return [Check(name=name, figure=relative(wanted, found), limit=RELATIVE, note="relative")]
    options = EncoderOptions(pooling=pooling, normalize=part.normalize, max_tokens=part.max_tokens)
    with tempfile.TemporaryDirectory() as workplace:
        plain = export_encoder(folder, Path(workplace), options).folder / "encoder.onnx"
        full = onnx_vectors(folder, plain, texts, max_tokens=part.max_tokens)
    return [
        Check(name=f"{name}, float32 export", figure=relative(wanted, full), limit=RELATIVE, note="relative"),
        Check(
            name=f"{name}, as bundled ({precision})",
            figure=float(cosines(wanted, found).min()),
            limit=LEAST_COSINE[precision],
            at_least=True,
            note="least cosine",
        ),
    ]
