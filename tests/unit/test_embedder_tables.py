"""Embedding tables are mapped from the file: the same vectors, and nothing of a file that is not understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from personaplug_edge.embedder.session import Session
from personaplug_edge.embedder.tables import LEAST_BYTES, mapped_tables

WIDTH = 128
ROWS = LEAST_BYTES // WIDTH + 3
KINDS: list[Any] = [np.int8, np.uint8, np.float16, np.float32]


def write(path: Path, table: NDArray[Any], *, operator: str = "Gather", padding: int = 0) -> Path:
    """ids (n,) to their rows as float32; ``padding`` bytes in front of the table."""
    if operator == "Gather":
        nodes = [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Cast", ["rows"], ["out"], to=1),
        ]
    else:
        nodes = [
            helper.make_node("Cast", ["ids"], ["floats"], to=1),
            helper.make_node("Mul", ["floats", "table"], ["out"]),
        ]
    graph = helper.make_graph(
        nodes,
        "rows",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.zeros((3, 4), np.float32), "p" * (1 + padding)),
            numpy_helper.from_array(table, "table"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def table_of(kind: Any, rows: int = ROWS) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, (rows, WIDTH)).astype(kind)


def aligned(path: Path, table: NDArray[Any]) -> bool:
    return path.read_bytes().index(table.tobytes()) % table.itemsize == 0


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_file(tmp_path: Path, kind: Any) -> None:
    table = table_of(kind)
    ids = np.array([0, 5, ROWS - 1, 5])
    seen = set()
    for padding in range(table.itemsize):
        path = write(tmp_path / f"{padding}.onnx", table, padding=padding)
        found = mapped_tables(path)
        seen.add(bool(found))
        assert bool(found) == aligned(path, table)
        if found:
            np.testing.assert_array_equal(found["table"], table)
            assert not found["table"].flags.writeable
        session = Session(path, providers=["cpu"], threads=1)
        np.testing.assert_array_equal(session.run(["out"], {"ids": ids})[0], table[ids])
    assert True in seen


def test_the_session_reads_the_mapping(tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    path = write(tmp_path / "mapped.onnx", table_of(np.int8))
    session = Session(path, providers=["cpu"], threads=1)
    assert str(path) in maps.read_text()
    del session
    assert str(path) not in maps.read_text()


def test_what_is_left_to_onnxruntime(tmp_path: Path) -> None:
    assert not mapped_tables(write(tmp_path / "small.onnx", table_of(np.int8, rows=100)))
    assert not mapped_tables(write(tmp_path / "product.onnx", table_of(np.float32), operator="Mul"))
    path = write(tmp_path / "outside.onnx", table_of(np.int8))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="outside.bin", size_threshold=0)
    assert not mapped_tables(path)
    assert not mapped_tables(tmp_path / "none.onnx")


def test_dimensions_may_be_packed(tmp_path: Path) -> None:
    """Writers may put repeated numbers into one field: the same to every reader of protobuf."""

    def number(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)

    def field(index: int, payload: bytes) -> bytes:
        return number(index << 3 | 2) + number(len(payload)) + payload

    table = table_of(np.int8)
    packed = field(1, number(ROWS) + number(WIDTH))
    tensor = packed + number(2 << 3) + number(TensorProto.INT8) + field(8, b"t") + field(9, table.tobytes())
    node = field(1, b"t") + field(1, b"ids") + field(2, b"rows") + field(4, b"Gather")
    path = tmp_path / "packed.onnx"
    path.write_bytes(number(1 << 3) + number(8) + field(7, field(1, node) + field(5, tensor)))
    np.testing.assert_array_equal(mapped_tables(path)["t"], table)


def test_files_that_are_not_understood(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.onnx", table_of(np.int8)).read_bytes()
    path = tmp_path / "broken.onnx"
    head = whole[: whole.index(b"table") + 40]
    for bytes_ in [b"", b"\xff" * 100, *(whole[:end] for end in range(1, 200, 7)), whole[: len(whole) // 2]]:
        path.write_bytes(bytes_)
        assert not mapped_tables(path)
    random = np.random.default_rng(0)
    for _ in range(100):  # any byte may be wrong: something or nothing is found, and nothing else happens
        damaged = bytearray(head)
        damaged[random.integers(len(head))] = random.integers(256)
        path.write_bytes(bytes(damaged) + whole[len(head) :])
        for table in mapped_tables(path).values():
            assert table.nbytes <= len(whole)
