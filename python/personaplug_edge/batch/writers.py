"""From the answers of a finished run to its output file: renamed (JSONL), or written as Parquet, as a stream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import BatchError
from .ledger import sync_folder
from .options import RESERVED
from .readers import FileSource, Source
from .remote import import_pyarrow, is_address, open_binary

ROWS_TOGETHER = 4096
"""Rows of a Parquet row group."""


def check_output(output: Path) -> None:
    """Raises BatchError for an ending that is not known, MissingExtraError for Parquet without pyarrow."""
    if output.is_dir():
        raise BatchError(f"{output} is a folder; give the path of a file, such as {output / 'answers.jsonl'}")
    if output.suffix == ".parquet":
        import_pyarrow("parquet", f"writing {output}")
    elif output.suffix not in (".jsonl", ".ndjson", ".json"):
        raise BatchError(f"{output}: expected an output ending in .jsonl or .parquet")


def put_in_place(partial: Path, output: Path, source: Source, keep: Sequence[str]) -> None:
    """Makes the output of the answers; it appears whole or not at all. Doing it again does no harm."""
    if output.suffix != ".parquet":
        if partial.exists():
            os.replace(partial, output)
    else:
        temporary = Path(f"{output}.tmp")
        _write_parquet(partial, temporary, source, keep)
        os.replace(temporary, output)
    sync_folder(output.parent)


def _write_parquet(partial: Path, target: Path, source: Source, keep: Sequence[str]) -> None:
    parquet = import_pyarrow("parquet", f"writing {target}")
    pa = import_module("pyarrow")
    schema = _schema(pa, source, keep)
    with parquet.ParquetWriter(target, schema) as writer, open(partial, "rb") as lines:
        for batch in _batches(lines):
            writer.write_table(pa.Table.from_pylist([_fitted(row, schema) for row in batch], schema=schema))
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _batches(lines: Any) -> Iterator[list[dict[str, Any]]]:
    rows = (json.loads(line) for line in lines)
    while batch := list(islice(rows, ROWS_TOGETHER)):
        yield batch


def _schema(pa: Any, source: Source, keep: Sequence[str]) -> Any:
    kept = _kept_types(pa, source, keep)
    own = {
        "id": pa.string(),
        "user": pa.string(),
        "text": pa.string(),
        "finish_reason": pa.string(),
        "prompt_tokens": pa.int32(),
        "generated_tokens": pa.int32(),
        "persona_digest": pa.string(),
        "history_items": pa.int32(),
        "label": pa.string(),
        "logprobs": pa.map_(pa.string(), pa.float64()),
        "token_logprobs": pa.list_(pa.float32()),
        "method": pa.string(),
        "untrained": pa.bool_(),
    }
    return pa.schema(list((own | kept).items()))


def _kept_types(pa: Any, source: Source, keep: Sequence[str]) -> dict[str, Any]:
    """Numbers and booleans of Parquet inputs keep their type; everything else becomes text."""
    types = {name: pa.string() for name in keep}
    first = source.files[0] if isinstance(source, FileSource) else None
    if first is not None and first.kind == "parquet" and keep:
        parquet = import_pyarrow("parquet", f"reading {first.path}")
        given = parquet.read_schema(open_binary(first.path) if is_address(first.path) else first.path)
        plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
        for name in set(keep) & set(given.names):
            if any(is_of(given.field(name).type) for is_of in plain):
                types[name] = given.field(name).type
    return types


def _fitted(row: dict[str, Any], schema: Any) -> dict[str, Any]:
    """Values as the schema has them: text where it says so, JSON for what is nested."""
    row["id"] = str(row["id"])
    if row.get("logprobs") is not None:
        row["logprobs"] = list(row["logprobs"].items())
    for name in schema.names:
        value = None if name in RESERVED else row.get(name)
        if value is not None and str(schema.field(name).type) == "string" and not isinstance(value, str):
            row[name] = json.dumps(value, ensure_ascii=False)
    return row
