"""Rows of a batch: what is understood, what is refused and why, and how files become groups."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from personaplug_edge.batch import BatchOptions, groups, readers
from personaplug_edge.batch.histories import Histories
from personaplug_edge.batch.readers import FileSource, RowSource
from personaplug_edge.batch.schema import parse_history, parse_row
from personaplug_edge.errors import BatchError, MissingExtraError, PersonaPlugError
from personaplug_edge.sampling import Sampling
from personaplug_edge.store import NewItem

BASE = Sampling(max_tokens=8, stop=("\n",))


def parse(row: Any, **options: Any) -> Any:
    return parse_row(row, 3, 3, BASE, BatchOptions(**options))


def test_a_row_of_a_prompt_alone_takes_the_runs_options() -> None:
    request = parse({"prompt": "hello", "user": None, "options": None}, persona="static", labels=("a", "b"))
    assert (request.id, request.user, request.history, request.persona) == (3, None, None, "static")
    assert request.sampling is BASE and request.labels == ("a", "b")


def test_a_row_wins_over_the_run() -> None:
    row = {
        "id": "x",
        "user": "anna",
        "prompt": "hello",
        "persona": "off",
        "labels": ["yes", "no"],
        "history": ["a film", {"text": "a goal", "output": "sports", "time": "2026-01-31T12:00Z"}],
        "options": {"max_tokens": 5, "temperature": 1, "stop": "!", "logit_bias": {"7": -1}, "seed": 4},
        "shelf": [1, 2],
    }
    request = parse(row, keep=("shelf", "absent"))
    assert request.history == (NewItem("a film"), NewItem("a goal", "sports", 1769860800.0))
    expected = Sampling(max_tokens=5, temperature=1, stop=("!",), logit_bias={7: -1.0}, seed=4)
    assert (request.id, request.persona, request.labels, request.sampling) == ("x", "off", ("yes", "no"), expected)
    assert request.kept == {"shelf": [1, 2]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([1], "expected an object"),
        ({}, "'prompt' is missing"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": 5}, "must be a str"),
        ({"prompt": "a", "promt": "b"}, "unknown field 'promt'; known are id, user.*--keep promt"),
        ({"prompt": "a", "id": 1.5}, "id: expected"),
        ({"prompt": "a", "id": True}, "id: expected"),
        ({"prompt": "a", "user": 7}, "user id must be a str"),
        ({"prompt": "a", "user": ""}, "user id must have 1 to 256"),
        ({"prompt": "a", "persona": "some"}, "persona: expected"),
        ({"prompt": "a", "persona": ["off"]}, "persona: expected"),
        ({"prompt": "a", "labels": "a,b"}, "labels: expected a list"),
        ({"prompt": "a", "labels": ["a", "a "]}, "expected one or more labels, each once"),
        ({"prompt": "a", "labels": []}, "expected one or more labels"),
        ({"prompt": "a", "labels": ["a", 5]}, "a label must be a str"),
        ({"prompt": "a", "history": "a film"}, "history: expected a list"),
        ({"prompt": "a", "history": ["a", 5]}, "history item 2: expected a text or an object"),
        ({"prompt": "a", "history": [{"output": "art"}]}, "history item 1: the field 'text' is missing"),
        ({"prompt": "a", "history": [{"text": "a", "tag": "art"}]}, "history item 1: unknown field 'tag'"),
        ({"prompt": "a", "history": [{"text": "a", "time": "noon"}]}, "time: expected 2026-01-31T12:00"),
        ({"prompt": "a", "history": [{"text": "a", "output": 5}]}, "must be a str"),
        ({"prompt": "a", "options": [1]}, "options: expected an object"),
        ({"prompt": "a", "options": {"heat": 1}}, "unknown option 'heat'; known are max_tokens"),
        ({"prompt": "a", "options": {"max_tokens": "5"}}, "max_tokens: expected int, got '5'"),
        ({"prompt": "a", "options": {"max_tokens": True}}, "max_tokens: expected int"),
        ({"prompt": "a", "options": {"ignore_end": 1}}, "ignore_end: expected bool"),
        ({"prompt": "a", "options": {"stop": [1]}}, "stop: expected"),
        ({"prompt": "a", "options": {"logit_bias": {"a": 1}}}, "logit_bias: expected"),
        ({"prompt": "a", "options": {"grammar": 5}}, "grammar: expected str"),
    ],
)
def test_what_is_wrong_is_named(row: Any, reason: str) -> None:
    with pytest.raises(PersonaPlugError, match=reason):
        parse(row)


def test_a_row_that_draws_has_a_seed_of_its_own_and_always_the_same() -> None:
    def seed(row_id: Any, run: int = 0, **options: Any) -> int | None:
        row = {"id": row_id, "prompt": "a", "options": {"temperature": 0.5, **options}}
        return parse(row, seed=run).sampling.seed

    assert seed("a") == seed("a") and seed("a") != seed("b") and seed("a") != seed("a", run=1) and seed(1) != seed("1")
    assert seed("a", seed=9) == 9 and seed("a", temperature=0.0) is None
    assert all(0 <= (seed(i) or 0) < 2**32 - 1 for i in range(50))


def test_a_kept_field_may_not_hide_one_of_the_output() -> None:
    with pytest.raises(BatchError, match="text"):
        BatchOptions(keep=("shelf", "text")).check()


def groups_of(source: Any, size: int = 2) -> list[tuple[int, int, list[tuple[int, Any]]]]:
    return [(g.file, g.index, [(r.number, r.error or r.value) for r in g.parsed()]) for g in source.groups(size)]


def test_lines_become_groups_with_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\r\n{"a": 3\n\xff\xfe\n{"a": 4}')
    assert [(f, i, [n for n, _ in rows]) for f, i, rows in groups_of(FileSource.find([file]))] == [
        (0, 0, [1, 3]),
        (0, 1, [4, 5]),
        (0, 2, [6]),
    ]
    found = dict(pair for *_, rows in groups_of(FileSource.find([file])) for pair in rows)
    assert found[1] == {"a": 1} and found[6] == {"a": 4}
    assert found[4].startswith("not JSON") and found[5].startswith("not UTF-8")
    shares = [group.share for group in FileSource.find([file]).groups(2)]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_a_line_too_long_is_passed_over_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (groups, readers):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 50)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n{"a": "' + "x" * 500 + '"}\n{"a": 2}\n{"a": "' + "x" * 45 + '"}')
    (*_, first), (*_, second) = groups_of(FileSource.find([file]))
    assert first[0] == (1, {"a": 1}) and "longer than 50 bytes" in first[1][1]
    assert second[0] == (3, {"a": 2}) and "longer than 50 bytes" in second[1][1]


def test_a_folder_gives_its_files_in_order_and_ids_tell_them_apart(tmp_path: Path) -> None:
    for folder in ("b", "a", "_temporary"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text(json.dumps({"from": folder}) + "\n")
    with gzip.open(tmp_path / "a" / "more.jsonl.gz", "wt") as file:
        file.write('{"from": "gz"}\n' * 3)
    (tmp_path / "a" / "notes.txt").write_text("no input")
    source = FileSource.find([tmp_path])
    assert [file.name for file in source.files] == ["a/more.jsonl.gz", "a/rows.jsonl", "b/rows.jsonl"]
    found = list(source.groups(10))
    assert [[row.value["from"] for row in group.parsed()] for group in found] == [["gz"] * 3, ["a"], ["b"]]
    assert found[0].default_id(2) == "a/more.jsonl.gz:2"
    assert next(FileSource.find([tmp_path / "b"]).groups(1)).default_id(2) == 2


def test_standard_input_is_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"a": 2}\n{"a": 3}\n')))
    (group, last) = FileSource.find(["-"]).groups(2)
    assert (
        [row.value for row in group.parsed()] == [{"a": 1}, {"a": 2}] and group.share is None and last.numbers == (3,)
    )


@pytest.mark.parametrize("name", ["absent.jsonl", "rows.csv", "empty"])
def test_what_is_no_input(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BatchError, match=name):
        FileSource.find([tmp_path / name])


def test_inputs_that_cannot_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(BatchError, match="twice"):
        FileSource.find([tmp_path / "rows.jsonl", tmp_path / "rows.jsonl"])
    with pytest.raises(BatchError, match="standard input"):
        FileSource.find(["-", tmp_path / "rows.jsonl"])


def test_a_cut_off_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 5000)
    (tmp_path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BatchError, match=r"rows\.jsonl\.gz cannot be read on"):
        list(FileSource.find([tmp_path / "rows.jsonl.gz"]).groups(10))


def test_parquet_rows_of_every_type(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [
        {"id": 1, "prompt": "a", "history": [{"text": "x", "output": None}], "options": {"seed": 1, "top_k": None}},
        {"id": None, "prompt": None, "history": None, "options": None},
        {"id": 3, "prompt": "c", "history": [], "options": {"seed": None, "top_k": 2}},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=1)
    texts = [{"prompt": "d", "history": '["x"]', "labels": '["p", "q"]', "options": '{"seed": 2}'}, {"history": "{"}]
    parquet.write_table(pa.Table.from_pylist(texts), tmp_path / "texts.parquet")
    found = groups_of(FileSource.find([tmp_path / "rows.parquet", tmp_path / "texts.parquet"]))
    assert [(f, i, [n for n, _ in rows]) for f, i, rows in found] == [(0, 0, [1, 2]), (0, 1, [3]), (1, 0, [1, 2])]
    request = parse(found[0][2][0][1])
    assert request.history == (NewItem("x"),) and request.sampling.seed == 1 and request.sampling.top_k == 0
    request = parse(found[2][2][0][1])
    assert request.history == (NewItem("x"),) and request.labels == ("p", "q") and request.sampling.seed == 2
    with pytest.raises(PersonaPlugError, match="history: expected a list"):
        parse({**found[2][2][1][1], "prompt": "a"})
    (tmp_path / "rows.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:-20])
    with pytest.raises(BatchError, match=r"rows\.parquet cannot be read as Parquet"):
        list(FileSource.find([tmp_path / "rows.parquet"]).groups(1))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"personaplug-edge\[batch\]"):
        list(FileSource.find([tmp_path / "rows.parquet"]).groups(1))


def test_the_same_rows_have_the_same_digest_wherever_they_come_from(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "ü"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (one,), (other,) = FileSource.find([tmp_path / "rows.jsonl"]).groups(5), RowSource(rows).groups(5)
    assert one.head.digest == other.head.digest
    (changed,) = RowSource([rows[0], {"prompt": "u"}]).groups(5)
    assert changed.head.digest != one.head.digest


def test_histories_by_user(tmp_path: Path) -> None:
    file = tmp_path / "histories.jsonl"
    file.write_text(
        '{"user": "anna", "history": ["a film", {"text": "a goal", "output": "sports"}]}\n\n'
        '{"user": "ben", "text": "the vote", "output": "politics", "time": 5, "source": "", "created": 7}\n'
        '{"user": "anna", "text": "a song"}\n{"user": "cy", "history": []}\n'
    )
    histories = Histories(file)
    assert histories.get("anna") == (NewItem("a film"), NewItem("a goal", "sports"), NewItem("a song"))
    assert histories.get("ben") == (NewItem("the vote", "politics", 5),)
    assert histories.get("cy") == () and histories.get("dora") is None
    histories.close()
    with gzip.open(tmp_path / "histories.jsonl.gz", "wb") as packed:
        packed.write(file.read_bytes())
    assert Histories(tmp_path / "histories.jsonl.gz").get("cy") == ()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"history": []}',
        '{"user": "a"}',
        '{"user": "a", "history": [5]}',
        '{"user": "a", "text": "x", "ouput": "y"}',
    ],
)
def test_a_wrong_line_of_a_file_of_histories_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "histories.jsonl"
    file.write_text('{"user": "anna", "history": []}\n' + line + "\n")
    with pytest.raises(BatchError, match=r"histories\.jsonl, line 2: .*; nothing was generated"):
        Histories(file)


def test_parse_history_takes_tuples_of_python() -> None:
    assert parse_history((NewItem("a").text,)) == (NewItem("a"),)
