"""JSON files of any size: records in order and by number, wherever the window ends."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from personaplug_edge.errors import TextError
from personaplug_edge.evaluate import files
from personaplug_edge.evaluate.data import read_rows
from personaplug_edge.evaluate.files import Records, read_json

ROWS: list[dict[str, Any]] = [
    {"id": "1", "text": 'quotes " and \\ and braces }]{['},
    {"id": "2", "numbers": [1, -2.5e-3, 12345678901234567890, None, True, False]},
    {},
    {"id": "é", "text": "ünïcödé \N{GRINNING FACE} \u2028 \ud83d", "deep": {"a": [[], [{}]]}},
    {"id": "5", "text": "x" * 70},
]


def texts(rows: list[dict[str, Any]]) -> dict[str, bytes]:
    lines = "\n".join(json.dumps(row) for row in rows)
    return {
        "indented": json.dumps(rows, indent=4).encode(),
        "dense": json.dumps(rows, separators=(",", ":")).encode(),
        "lines": lines.encode(),
        "blank lines": f"\n\n{lines}\r\n\n ".encode().replace(b"\n", b"\n\n"),
        "mark": b"\xef\xbb\xbf" + json.dumps(rows).encode(),
        "not escaped": json.dumps(rows, ensure_ascii=False).encode("utf-8", "replace"),
    }


@pytest.mark.parametrize("form", texts([]))
@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_records_in_order_and_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, chunk: int) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    path = tmp_path / "r.json"
    path.write_bytes(texts(ROWS)[form])
    expected = ROWS if form != "not escaped" else json.loads(texts(ROWS)[form])
    records = Records(path)
    assert list(records.scan()) == expected
    assert [records[number] for number in (4, 0, 3, 1, 2)] == [expected[number] for number in (4, 0, 3, 1, 2)]
    assert (len(records), records[-1], records[1:3]) == (5, expected[4], expected[1:3])
    assert list(records.scan()) == expected  # again


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"a": 2}', "after record 2, .*got the end of the file"),
        ('[{"a": 1}, {"a": 2},', "after record 2, .*the list is not closed"),
        ('[{"a": 1}, {"a": 2', "after record 1, "),
        ('[{"a": 1} {"a": 2}]', "after record 1, .*expected , or \\] after a record, got {"),
        ('[{"a": 1}, {"a" 2}]', "after record 1, near byte 11: .*at character 6 of the record"),
        ('[{"a": 1}] []', "after record 1, .*expected the end of the file"),
        ('[{"a": "x', "after record 0, near byte 1: Unterminated string"),
        ('{"a": 1}\n{"a": 2', "after record 1, near byte 9"),
        ("[1]", "record 1: expected a JSON object, got int"),
        ("nothing", "after record 0"),
    ],
)
def test_broken_files_are_refused_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, chunk: int
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(TextError, match=message):
        list(Records(tmp_path / "r.json").scan())


def test_a_syntax_error_does_not_read_the_rest_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 64)
    path = tmp_path / "r.json"
    path.write_text('[{"a": 1}, {"a" : nil, "b": "' + "x" * 100_000 + '"}]')
    records = Records(path)
    with pytest.raises(TextError, match="after record 1"):
        list(records.scan())
    assert records._file.tell() <= 256


def test_what_is_no_text_or_not_whole_when_packed(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(TextError, match="after record 0"):
        list(Records(tmp_path / "r.json").scan())
    (tmp_path / "r.json.xz").write_bytes(b"not packed")
    with pytest.raises(TextError, match="cannot be unpacked"):
        Records(tmp_path / "r.json.xz")
    with pytest.raises(TextError, match="expected JSON in UTF-8"):
        read_json(tmp_path / "r.json.xz")
    with pytest.raises(TextError, match="expected JSON in UTF-8"):
        read_json(tmp_path / "r.json")


def test_a_record_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 64)
    monkeypatch.setattr(files, "LARGEST", 1 << 20)
    (tmp_path / "r.json").write_text('[{"a": "' + "x" * (3 << 20))
    with pytest.raises(TextError, match="a record of more than 1 million characters"):
        list(Records(tmp_path / "r.json").scan())


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 1 << 16)
    path = tmp_path / "r.json"
    row = json.dumps({"profile": [{"text": "word " * 200}] * 20})
    path.write_text("[" + ",\n".join([row] * 500) + "]")  # 10 MB
    records = Records(path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in records.scan()) == 500
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_lists_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('[{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]")
    with pytest.raises(TextError, match="after record 0, .*recursion"):
        list(Records(tmp_path / "r.json").scan())


@pytest.mark.parametrize("read", [read_json, lambda path: list(read_rows(path)), Records])
def test_a_damaged_archive_is_named(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "r.json.gz"
    packed = gzip.compress(json.dumps({"a": "x" * 100}).encode())
    path.write_bytes(packed[:10] + b"\xff" * 8 + packed[18:])  # behind the header: zlib's own error
    with pytest.raises(TextError, match=r"r\.json\.gz: .*fetch it again"):
        read(path)


@pytest.mark.parametrize("read", [read_json, lambda path: list(read_rows(path))])
def test_a_value_nested_too_deeply_is_named(tmp_path: Path, read: Any) -> None:
    (tmp_path / "r.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(TextError, match=r"r\.json.*recursion"):
        read(tmp_path / "r.json")
