"""A batch never writes what it reads, and a bad cell costs its row alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_rows import read_lines, write_rows
from models.onnx_models import make_bundle
from personaplug_edge import BatchOptions, PersonaPlug, Sampling, generate_batch
from personaplug_edge.errors import BatchError

OPTIONS = BatchOptions(threads=1, sampling=Sampling(max_tokens=2))


@pytest.fixture(scope="module")
def plug(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    where = tmp_path_factory.mktemp("bundle")
    folder = make_bundle(where / "random", llm_file=tiny_gguf, name="random", tokens=2)
    with PersonaPlug.load(folder, threads=1, store=where / "history.db") as plug:
        plug.user("anna").remember("a good film")
        yield plug


def test_what_is_read_is_not_written(plug: PersonaPlug, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"prompt": "hello"}, {"prompt": ""}])
    histories = write_rows(tmp_path / "histories.jsonl", [{"user": "x", "history": ["a"]}])
    os.link(source, tmp_path / "linked.jsonl")
    (tmp_path / "soft.jsonl").symlink_to(source)
    store = Path(plug.store.path)
    output = tmp_path / "out.jsonl"
    options = BatchOptions(threads=1, sampling=OPTIONS.sampling, histories=histories)
    contents = {path: path.read_bytes() for path in (source, histories)}
    for written, bad, what in (
        (source, None, "its input"),
        (tmp_path / "linked.jsonl", None, "its input"),
        (tmp_path / "soft.jsonl", None, "its input"),
        (output, source, "its input"),
        (output, histories, "its file of histories"),
        (output, store, "the history store"),
        (output, Path(f"{store}-wal"), "the history store"),
        (output, output, "the output"),
        (output, Path(f"{output}.ledger"), "the bad rows"),
    ):
        with pytest.raises(BatchError, match=f"is {what}"):
            generate_batch(plug, source, written, options=options, bad=bad, overwrite=True)
    assert {path: path.read_bytes() for path in contents} == contents and plug.store.count("anna") == 1
    assert generate_batch(plug, source, output, options=options).rows == 1


def test_texts_that_are_no_unicode(plug: PersonaPlug, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    source = tmp_path / "rows.jsonl"
    source.write_text(
        '{"prompt": "hello", "id": "a", "k": [1, NaN, {"b": 1e999}]}\n'
        '{"prompt": "hello", "id": "\\ud800"}\n'
        '{"prompt": "hello", "k": ["\\ud800"]}\n'
        '{"prompt": "hello", "k": ' + "[" * 900 + "]" * 900 + "}\n"
    )
    options = BatchOptions(threads=1, sampling=OPTIONS.sampling, keep=("k",))
    for ending in ("jsonl", "parquet"):
        summary = generate_batch(plug, source, tmp_path / f"out.{ending}", options=options)
        assert (summary.rows, summary.bad) == (1, 3)
        assert [row["number"] for row in read_lines(summary.bad_path)] == [2, 3, 4]
    assert json.loads((tmp_path / "out.jsonl").read_text())["k"] == [1, None, {"b": None}]


def test_cells_of_parquet_that_cannot_be_read(plug: PersonaPlug, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    prompts = pa.array([b"hello", b"\xff\xfe", b"hello", b"hello"]).cast(pa.string(), safe=False)
    cells = ["{}", None, "[" * 100_000, '{"max_tokens": 1}']
    parquet.write_table(pa.table({"prompt": prompts, "options": pa.array(cells)}), tmp_path / "rows.parquet")
    summary = generate_batch(plug, tmp_path / "rows.parquet", tmp_path / "out.jsonl", options=OPTIONS)
    assert [row["id"] for row in read_lines(summary.output)] == [1, 4]
    refused = read_lines(summary.bad_path)
    assert [row["number"] for row in refused] == [2, 3]
    assert "surrogate" in refused[0]["reason"] and "options: expected an object" in refused[1]["reason"]
