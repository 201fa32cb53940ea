"""The trained parts of a plug to ONNX: projector, aggregator and, for a light input encoder, its head."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from personaplug_export.errors import ExportError, require

if TYPE_CHECKING:
    from torch import Tensor, nn

    from personaplug_export.reference import Plug

OPSET = 17
TOLERANCE = 1e-4
"""Largest difference to PyTorch, relative to the largest value; float32 rounding is about 1e-6."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One graph: its file, its module, and which axes of which array are counted when it runs."""

    file: str
    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    """shape by name, with 3 for the number of items"""
    outputs: tuple[str, ...]
    items: dict[str, int]
    """the axis that counts items, of inputs and outputs that have one"""


def export_plug(plug: Plug, folder: Path) -> list[Path]:
    """Writes ``projector.onnx``, ``aggregator.onnx`` and, where the plug has a head, ``input_head.onnx``.

    projector: vectors (n, d) to rows (n, k, H); aggregator: query (d), vectors (n, d), projections (n, k, H) to persona
    (k, H) and weights (n); input_head: vectors (n, d) to queries (n, d). n is free. Raises ExportError when a graph and
    its module differ.
    """
    require("torch", "onnx", "onnxruntime")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory(dir=folder) as workplace:
        for part in parts(plug):
            path = Path(workplace) / part.file
            _export(part, path)
            _check(part, path)
            written.append(path.replace(folder / part.file))
    return written


def parts(plug: Plug) -> list[Part]:
    """The graphs that a plug is exported to."""
    d, k, h = plug.config.vector_width, plug.config.persona_tokens, plug.config.embedding_width
    found = [
        Part(
            file="projector.onnx",
            module=plug.projector,
            inputs={"vectors": (3, d)},
            outputs=("rows",),
            items={"vectors": 0, "rows": 0},
        ),
        Part(
            file="aggregator.onnx",
            module=plug.aggregator,
            inputs={"query": (d,), "vectors": (3, d), "projections": (3, k, h)},
            outputs=("persona", "weights"),
            items={"vectors": 0, "projections": 0, "weights": 0},
        ),
    ]
    if plug.config.input_encoder == "head":
        found.append(
            Part(
                file="input_head.onnx",
                module=plug.input_head,
                inputs={"vectors": (3, d)},
                outputs=("queries",),
                items={"vectors": 0, "queries": 0},
            )
        )
    return found


def run_graph(path: Path, feed: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Outputs of a graph by onnxruntime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feed)]


def _inputs(part: Part, items: int) -> dict[str, Tensor]:
    import torch

    generator = torch.Generator().manual_seed(items)
    return {
        name: torch.randn(
            *(items if part.items.get(name) == axis else size for axis, size in enumerate(shape)), generator=generator
        )
        for name, shape in part.inputs.items()
    }


def _export(part: Part, path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated, but needs no onnxscript
        torch.onnx.export(
            part.module.eval(),
            tuple(_inputs(part, 3).values()),
            str(path),
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_axes={name: {axis: "items"} for name, axis in part.items.items()},
            opset_version=OPSET,
            dynamo=False,
        )


def _check(part: Part, path: Path) -> None:
    import torch

    for items in (1, 3, 40):
        inputs = _inputs(part, items)
        with torch.inference_mode():
            expected = part.module(*inputs.values())
        expected = expected if isinstance(expected, tuple) else (expected,)
        found = run_graph(path, {name: value.numpy() for name, value in inputs.items()})
        for name, want, got in zip(part.outputs, expected, found, strict=True):
            if want.shape != got.shape:
                raise ExportError(
                    f"{part.file}: {name} of {items} items has shape {got.shape}, PyTorch {tuple(want.shape)}"
                )
            difference = float(np.abs(want.numpy() - got).max() / max(np.abs(want.numpy()).max(), 1e-12))
            if not difference <= TOLERANCE:
                raise ExportError(
                    f"{part.file}: {name} of {items} items differs from PyTorch by {difference:.2e} (relative)"
                )
