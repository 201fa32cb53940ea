"""Parity: the runtime's numbers against PyTorch's, for one bundle. What is exported is only right if this passes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from personaplug_export.errors import ExportError, require
from personaplug_export.parity_llm import (
    Reference,
    Runtime,
    compare_greedy,
    largest_difference,
    probe_prompts,
    prompts_of_kinds,
)

if TYPE_CHECKING:
    from personaplug_edge.bundle import Bundle
    from personaplug_export.reference import Plug

LOGITS = 1e-3
"""Largest difference of a logit: float32 GGUF, float32 cache, flash attention off. Llama models stay near 1e-5."""
RELATIVE = 1e-4
"""Largest difference of a vector or a row, relative to the largest value."""
Rows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure and what it must not exceed (or, with ``at_least``, fall below). Without a limit it informs."""

    name: str
    figure: float
    limit: float | None
    at_least: bool = False
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the figure is within its limit; NaN is not."""
        if self.limit is None:
            return True
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


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


def check_llm(
    llm: Path, gguf: Path, rows: Rows, options: ParityOptions, *, limit: float | None = LOGITS
) -> list[Check]:
    """Logits and greedy tokens of a GGUF file against the Hugging Face folder it was made from.

    ``rows``: embedding rows (n, H) to mix with tokens. ``limit`` None reports without judging, for a quantised file.
    """
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
        Check(name="greedy tokens equal", figure=share, limit=None if limit is None else 1.0, at_least=True, note=note),
    ]


def check_graphs(bundle: Bundle, plug: Plug) -> list[Check]:
    """Projector, aggregator and head of a bundle against the plug, on random unit vectors of 1, 7 and 300 items."""
    import torch

    from personaplug_edge.embedder import UserEmbedder

    embedder = UserEmbedder.from_bundle(bundle, threads=1, providers=["cpu"])
    worst: dict[str, float] = {}
    generator = np.random.default_rng(0)
    for items in (1, 7, 300):
        vectors, query = (
            _unit(generator, items, plug.config.vector_width),
            _unit(generator, 1, plug.config.vector_width)[0],
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


def check_encoder(bundle: Bundle, encoder: Path, options: ParityOptions) -> list[Check]:
    """The bundle's behavior encoder against its Hugging Face folder.

    A graph with smaller weights is held to the cosine of its precision, and a float32 export made now to RELATIVE.
    """
    from personaplug_edge.embedder import UserEmbedder
    from personaplug_export.onnx_encoder import (
        LEAST_COSINE,
        EncoderOptions,
        export_encoder,
        onnx_vectors,
        reference_vectors,
        stored_pooling,
        stored_precision,
    )

    part = bundle.manifest.behavior_encoder
    pooling = options.pooling or stored_pooling(encoder)
    texts = [part.prefix + text for text in [*probe_prompts(40), " ".join(probe_prompts(60))]]
    wanted = reference_vectors(encoder, texts, pooling, normalize=part.normalize, max_tokens=part.max_tokens)
    embedder = UserEmbedder.from_bundle(bundle, threads=1, providers=["cpu"])
    found = embedder.behavior_encoder.encode(texts, prefix="")
    precision = stored_precision(bundle.path(part.file))
    if precision == "f32":
        return [Check(name="encoder", figure=relative(wanted, found), limit=RELATIVE, note="relative")]
    with tempfile.TemporaryDirectory() as folder:
        plain = export_encoder(
            encoder, Path(folder), EncoderOptions(pooling=pooling, normalize=part.normalize, max_tokens=part.max_tokens)
        )
        full = onnx_vectors(encoder, plain.folder / "encoder.onnx", texts, max_tokens=part.max_tokens)
    least = float((wanted * found).sum(1).min()) if part.normalize else float("nan")
    return [
        Check(name="encoder, float32 export", figure=relative(wanted, full), limit=RELATIVE, note="relative"),
        Check(
            name=f"encoder, as bundled ({precision})",
            figure=least,
            limit=LEAST_COSINE[precision],
            at_least=True,
            note="least cosine",
        ),
    ]


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
    from personaplug_edge.bundle import Bundle
    from personaplug_export.gguf_export import export_gguf
    from personaplug_export.reference import Plug

    options = options or ParityOptions()
    for path, name in ((llm, "config.json"), (plug_folder, "plug.json"), (encoder, "config.json")):
        if not (path / name).is_file():
            raise ExportError(f"no {name} in {path}")
    bundle, plug = Bundle.load(bundle_path), Plug.load(plug_folder)
    checks = [*check_graphs(bundle, plug), *check_encoder(bundle, encoder, options)]
    rows = plug_rows(plug)
    with tempfile.TemporaryDirectory() as folder:
        if gguf is None:
            gguf = Path(folder) / "llm.gguf"
            export_gguf(llm, gguf, kind="f32", llama_cpp=llama_cpp)
        checks += check_llm(llm, gguf, rows, options)
    *logits, greedy = check_llm(llm, bundle.llm_path, rows, options, limit=None)
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
            vectors = torch.from_numpy(_unit(generator, 5, width))
            rows.append(plug.aggregator(vectors[0], vectors, plug.projector(vectors))[0])
        return np.ascontiguousarray(torch.cat(rows).numpy(), dtype=np.float32)


def relative(wanted: Rows, found: Rows) -> float:
    """Largest absolute difference over the largest absolute value wanted; NaN where shapes differ."""
    if wanted.shape != found.shape:
        return float("nan")
    if not wanted.size:
        return 0.0
    return float(np.abs(wanted - found).max() / max(float(np.abs(wanted).max()), 1e-12))


def to_json(checks: Sequence[Check]) -> str:
    """The checks as JSON."""
    rows: list[dict[str, Any]] = [{**asdict(check), "passed": check.passed} for check in checks]
    return json.dumps({"passed": all(check.passed for check in checks), "checks": rows}, indent=2) + "\n"


def show(checks: Sequence[Check]) -> None:
    """Prints the checks as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for title in ("check", "figure", "limit", ""):
        table.add_column(title, no_wrap=True)
    table.add_column("")
    for check in checks:
        sign = ">=" if check.at_least else "<="
        limit = "" if check.limit is None else f"{sign} {check.limit:g}"
        verdict = "" if check.limit is None else "[green]pass[/]" if check.passed else "[bold red]FAIL[/]"
        table.add_row(check.name, f"{check.figure:.3g}", limit, verdict, check.note)
    Console().print(table)


def _unit(generator: np.random.Generator, items: int, width: int) -> Rows:
    vectors = generator.standard_normal((items, width)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
