"""Edits of an encoder's ONNX graph: pooling and unit length at its end, and smaller weights in its file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from personaplug_export.errors import ExportError

OUTPUT = "embedding"
POOLINGS = ("mean", "cls")
SMALLEST = 4096
"""Elements; a smaller tensor is left as it is, since there is nothing to gain."""


def append_pooling(model: Any, pooling: str, *, normalize: bool = True) -> int:
    """Turns token vectors (batch, tokens, width) into ``embedding`` (batch, width), in place; returns the width.

    ``pooling``: "mean" over the tokens of the attention mask, or "cls", the first token. Operators of opset 13.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < 13:
        raise ExportError(f"the graph is of opset {opset}; pooling needs 13 or newer")
    if pooling not in POOLINGS:
        raise ExportError(f"unknown pooling {pooling!r}: expected one of {', '.join(POOLINGS)}")
    hidden = graph.output[0]
    width = hidden.type.tensor_type.shape.dim[-1].dim_value
    constants = {"pool_axis_1": [1], "pool_axis_2": [2]}
    for name, values in constants.items():
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
    graph.initializer.append(helper.make_tensor("pool_first", TensorProto.INT64, [], [0]))
    graph.initializer.append(helper.make_tensor("pool_tiny", TensorProto.FLOAT, [], [1e-9]))

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], f"pool/{output}", **attributes))
        return output

    pooled = "pooled" if normalize else OUTPUT
    if pooling == "cls":
        add("Gather", [hidden.name, "pool_first"], pooled, axis=1)
    else:
        add("Cast", ["attention_mask"], "pool_mask", to=TensorProto.FLOAT)
        add("Unsqueeze", ["pool_mask", "pool_axis_2"], "pool_weights")
        add("Mul", [hidden.name, "pool_weights"], "pool_kept")
        add("ReduceSum", ["pool_kept", "pool_axis_1"], "pool_sum", keepdims=0)
        add("ReduceSum", ["pool_weights", "pool_axis_1"], "pool_count", keepdims=0)
        add("Max", ["pool_count", "pool_tiny"], "pool_divisor")
        add("Div", ["pool_sum", "pool_divisor"], pooled)
    if normalize:
        add("Mul", [pooled, pooled], "pool_square")
        add("ReduceSum", ["pool_square", "pool_axis_1"], "pool_length_square", keepdims=1)
        add("Sqrt", ["pool_length_square"], "pool_length")
        add("Max", ["pool_length", "pool_tiny"], "pool_norm")
        add("Div", [pooled, "pool_norm"], OUTPUT)
    batch = hidden.type.tensor_type.shape.dim[0].dim_param
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, width]))
    return int(width)


def store_half(model: Any) -> None:
    """Stores large float32 weights as float16, in place; they are cast back when a session folds its constants."""
    from onnx import TensorProto, helper, numpy_helper

    for tensor in _large(model):
        weights = numpy_helper.to_array(tensor)
        half = weights.astype(np.float16)
        if not np.isfinite(half).all():
            raise ExportError(f"{tensor.name} has values beyond float16; use another precision")
        stored = f"{tensor.name}/f16"
        _replace(
            model, tensor, {stored: half}, [helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT)]
        )


def store_int8(model: Any) -> None:
    """Stores large float32 matrices as int8 with one scale a row or column, in place; the arithmetic stays float32.

    Cast and Mul rather than DequantizeLinear: onnxruntime folds those two when it loads the graph, but keeps the latter
    for its own integer kernels (onnxruntime #6643) and would run it at every call.
    """
    from onnx import TensorProto, helper, numpy_helper

    gathered = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    for tensor in _large(model):
        weights = numpy_helper.to_array(tensor)
        if weights.ndim != 2:
            continue
        stored, scale, cast = f"{tensor.name}/i8", f"{tensor.name}/scale", f"{tensor.name}/cast"
        integers, scales = quantize_symmetric(weights, axis=1 if tensor.name in gathered else 0)
        nodes = [
            helper.make_node("Cast", [stored], [cast], to=TensorProto.FLOAT),
            helper.make_node("Mul", [cast, scale], [tensor.name]),
        ]
        _replace(model, tensor, {stored: integers, scale: scales}, nodes)


def quantize_symmetric(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values and float32 scales, one for each slice along ``axis``: weights is about integers times scales."""
    largest = np.abs(weights).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), scales


def _large(model: Any) -> list[Any]:
    from onnx import TensorProto

    return [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= SMALLEST
    ]


def _replace(model: Any, tensor: Any, stored: dict[str, NDArray[Any]], nodes: list[Any]) -> None:
    from onnx import numpy_helper

    graph = model.graph
    for name, values in stored.items():
        graph.initializer.append(numpy_helper.from_array(values, name))
    graph.initializer.remove(tensor)
    for position, node in enumerate(nodes):
        node.name = f"store/{node.output[0]}"
        graph.node.insert(position, node)
