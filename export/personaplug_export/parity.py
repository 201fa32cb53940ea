"""Parity: the runtime's numbers against PyTorch's, for one bundle. What is exported is only right if this passes."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from personaplug_export.checks import Check, Rows, unit_vectors
from personaplug_export.errors import ExportError, require
from personaplug_export.hf_llama import read_config
from personaplug_export.parity_embedder import check_encoder, check_graphs
from personaplug_export.parity_llm import (
    Reference,
    Runtime,
    compare_greedy,
    largest_difference,
    probe_prompts,
    prompts_of_kinds,
)

if TYPE_CHECKING:
    from personaplug_export.reference import Plug

LOGITS = 1e-3
"""Largest difference of a logit: float32 GGUF, float32 cache, flash attention off. Llama models stay near 1e-5."""
LOGITS_GELU = 1e-2
"""The same for an LLM with GELU: ggml reads it from a half-precision table, which alone costs some 1e-3."""


@dataclass(frozen=True, kw_only=True)
class ParityOptions:
    """How much is compared."""

    prompts: int = 200
    """prompts continued greedily"""
    tokens: int = 16
    """greedy tokens a prompt"""
    logit_prompts: int = 12
    """prompts whose logits are compared at every position, of each kind"""
    threads: int = 1
    """threads of the runtime"""
    pooling: str = ""
    """pooling of the encoder's folder; "" as in the ONNX export"""


def check_llm(llm: Path, gguf: Path, rows: Rows, options: ParityOptions, *, judge: bool = True) -> list[Check]:
    """Logits and greedy tokens of a GGUF file against the Hugging Face folder it was made from.

    ``rows``: embedding rows (n, H) to mix with tokens. ``judge`` False reports without limits, for a quantised file.
    """
    limit = logit_limit(llm) if judge else None
    reference, runtime = Reference(llm), Runtime(gguf, threads=options.threads)
    short = prompts_of_kinds(runtime, probe_prompts(options.logit_prompts), rows)
    checks = [
        Check(
            name=f"logits, {kind}",
            figure=largest_difference(reference, runtime, prompts),
            limit=limit,
            note="largest difference",
        )
        for kind, prompts in short.items()
    ]
    prompts = prompts_of_kinds(runtime, probe_prompts(options.prompts), rows)["rows, tokens"]
    greedy = compare_greedy(reference, runtime, prompts, options.tokens)
    note = f"{greedy.equal} of {greedy.prompts} prompts, {greedy.tokens} tokens"
    if greedy.equal < greedy.prompts:
        note += f"; PyTorch's choice won by {greedy.narrowest:.2g} to {greedy.widest:.2g} where they part"
    share = greedy.equal / greedy.prompts
    return [
        *checks,
        Check(name="greedy tokens equal", figure=share, limit=1.0 if judge else None, at_least=True, note=note),
    ]


def logit_limit(llm: Path) -> float:
    """LOGITS, or LOGITS_GELU for an LLM whose ``config.json`` names a GELU."""
    config = read_config(llm)
    config = config.get("text_config") or config
    keys = ("hidden_activation", "hidden_act", "activation_function", "dense_act_fn")
    return LOGITS_GELU if any("gelu" in str(config.get(key)) for key in keys) else LOGITS


def check_bundle(
    bundle_path: Path,
    llm: Path,
    plug_folder: Path,
    encoder: Path,
    options: ParityOptions | None = None,
    *,
    gguf: Path | None = None,
    llama_cpp: Path | None = None,
) -> list[Check]:
    """All checks of a bundle. ``gguf``: a float32 GGUF file of ``llm``; without one it is converted now, for this run.

    The bundle's own GGUF file is compared as well, without a limit, when it is quantised.
    """
    require("torch", "transformers", "llama_cpp")
    from personaplug_edge.bundle import Bundle, EncoderPart
    from personaplug_export.gguf_export import export_gguf
    from personaplug_export.reference import Plug

    options = options or ParityOptions()
    for path, name in ((llm, "config.json"), (plug_folder, "plug.json"), (encoder, "config.json")):
        if not (path / name).is_file():
            raise ExportError(f"no {name} in {path}")
    bundle, plug = Bundle.load(bundle_path), Plug.load(plug_folder)
    manifest = bundle.manifest
    checks = check_graphs(bundle, plug) + check_encoder(bundle, manifest.behavior_encoder, encoder, options.pooling)
    if isinstance(manifest.input_encoder, EncoderPart):
        trained = plug_folder / "input_encoder"
        checks += check_encoder(bundle, manifest.input_encoder, trained, options.pooling, "input encoder")
    rows = plug_rows(plug)
    with tempfile.TemporaryDirectory() as folder:
        if gguf is None:
            gguf = Path(folder) / "llm.gguf"
            export_gguf(llm, gguf, kind="f32", llama_cpp=llama_cpp)
        checks += check_llm(llm, gguf, rows, options)
    *logits, greedy = check_llm(llm, bundle.llm_path, rows, options, judge=False)
    widest = max(check.figure for check in logits)
    return [
        *checks,
        Check(
            name="logits, as bundled", figure=widest, limit=None, note="largest difference; a quantised LLM has some"
        ),
        Check(**{**asdict(greedy), "name": f"{greedy.name}, as bundled"}),
    ]


def plug_rows(plug: Plug, personas: int = 12) -> Rows:
    """Rows as the plug makes them: instruction, cold start, and personas of random histories; (n, H)."""
    import torch

    generator = np.random.default_rng(1)
    width = plug.config.vector_width
    rows = [plug.instruction, plug.cold_start]
    with torch.inference_mode():
        for _ in range(personas):
            vectors = torch.from_numpy(unit_vectors(generator, 5, width))
            rows.append(plug.aggregator(vectors[0], vectors, plug.projector(vectors))[0])
        return np.ascontiguousarray(torch.cat(rows).numpy(), dtype=np.float32)
