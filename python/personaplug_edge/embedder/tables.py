"""Embedding tables of an ONNX file, mapped where they lie instead of read.

A table is most of a small encoder (4.7 of the 8 MB of ``tiny``; of a multilingual one nine tenths), and a text needs a
row of it for each token. onnxruntime would copy all of it; mapped, only the pages of rows that were met take memory,
and the system can take them back. onnxruntime has no switch for it but initializers that the caller brings, so that the
places of the tables in the file are looked up here, in protobuf's wire format (field numbers of onnx.proto).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_BYTES = 1 << 20
"""Smaller tables are left to onnxruntime."""

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OPERATOR = 1, 4
_TENSOR_DIMENSIONS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_BYTES = 1, 2, 8, 9
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    10: np.dtype(np.float16),
}
_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types


class _Tensor(NamedTuple):
    type: int
    shape: list[int]
    offset: int
    size: int


def mapped_tables(path: Path) -> dict[str, NDArray[Any]]:
    """Large initializers that rows are gathered from, by name: read-only views of the mapped file.

    Left out are those whose numbers do not lie at a multiple of their size (bytes always do), and all of a file that
    cannot be understood: onnxruntime will say what is wrong with it. The file must not be written to meanwhile, as that
    of a mapped LLM.
    """
    try:
        with open(path, "rb") as file:
            found = {name: tensor for name, tensor in _gathered(file).items() if _fits(tensor)}
            return {name: _view(file, tensor) for name, tensor in found.items()}
    except (OSError, ValueError):
        return {}


def _fits(tensor: _Tensor) -> bool:
    kind = _TYPES.get(tensor.type)
    if kind is None or tensor.size < LEAST_BYTES or tensor.size != prod(tensor.shape) * kind.itemsize:
        return False
    return tensor.offset % kind.itemsize == 0


def _view(file: BinaryIO, tensor: _Tensor) -> NDArray[Any]:
    skip = tensor.offset % mmap.ALLOCATIONGRANULARITY
    begin = tensor.offset - skip
    mapped = mmap.mmap(file.fileno(), skip + tensor.size, access=mmap.ACCESS_READ, offset=begin)
    array: NDArray[Any] = np.frombuffer(mapped, dtype=_TYPES[tensor.type], count=prod(tensor.shape), offset=skip)
    return array.reshape(tensor.shape)


def _gathered(file: BinaryIO) -> dict[str, _Tensor]:
    """Initializers of the main graph that are the first input of a Gather."""
    tensors: dict[str, _Tensor] = {}
    names: set[str] = set()
    end = file.seek(0, 2)
    file.seek(0)
    for field, _, graph_end in _fields(file, end):
        if field != _MODEL_GRAPH:
            continue
        for part, _, part_end in _fields(file, graph_end):
            if part == _GRAPH_INITIALIZER:
                name, tensor = _tensor(file, part_end)
                tensors[name] = tensor
            elif part == _GRAPH_NODE and (name := _table_of(file, part_end)):
                names.add(name)
    return {name: tensors[name] for name in names & tensors.keys()}


def _tensor(file: BinaryIO, end: int) -> tuple[str, _Tensor]:
    name, kind, shape, offset, size = "", 0, list[int](), 0, 0
    for field, value, value_end in _fields(file, end):
        if field == _TENSOR_DIMENSIONS and value_end:  # packed
            while file.tell() < value_end:
                shape.append(_number(file))
        elif field == _TENSOR_DIMENSIONS:
            shape.append(value)
        elif field == _TENSOR_TYPE:
            kind = value
        elif field == _TENSOR_NAME:
            name = file.read(value_end - value).decode()
        elif field == _TENSOR_BYTES:
            offset, size = value, value_end - value
    return name, _Tensor(kind, shape, offset, size)


def _table_of(file: BinaryIO, end: int) -> str:
    """The first input of a node that is a Gather, else nothing."""
    first, operator = None, b""
    for field, start, value_end in _fields(file, end):
        if field == _NODE_INPUT and first is None:
            first = file.read(value_end - start)
        elif field == _NODE_OPERATOR:
            operator = file.read(value_end - start)
    return (first or b"").decode() if operator == b"Gather" else ""


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """(field, number, 0), or (field, begin, end) of bytes, which the caller may read; up to ``end``. ValueError."""
    while (at := file.tell()) < end:
        tag = _number(file)
        kind = tag & 7
        if kind == _NUMBER:
            yield tag >> 3, _number(file), 0
        elif kind == _BYTES:
            size = _number(file)
            begin = file.tell()
            if begin + size > end:
                raise ValueError(f"the field at byte {at} is cut short")
            yield tag >> 3, begin, begin + size
            file.seek(begin + size)
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            file.seek(4 if kind == _FOUR_BYTES else 8, 1)
        else:
            raise ValueError(f"no protobuf at byte {at}")


def _number(file: BinaryIO) -> int:
    """A varint; ValueError where there is none."""
    number = shift = 0
    while (byte := file.read(1)) and shift < 64:
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
        shift += 7
    raise ValueError("no number")
