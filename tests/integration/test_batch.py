"""Batches with the real engine, encoders and store, on a tiny random bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch_rows import make_rows, read_lines, write_rows
from models.onnx_models import make_bundle
from personaplug_edge import BadRow, BatchOptions, BatchResult, NewItem, PersonaPlug, Sampling, cli, generate_batch
from personaplug_edge.batch.embed import persona_digest
from personaplug_edge.batch.vectors import encode_queries
from personaplug_edge.errors import BatchError, MissingExtraError

HISTORY = [("a goal in extra time", "sports"), ("the vote was late", "politics")]
SHORT = Sampling(max_tokens=6, ignore_end=True)
SMALL = BatchOptions(group=16, sequences=4, threads=1)


@pytest.fixture(scope="module")
def plug(random_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    with PersonaPlug.load(random_bundle, threads=1, store=tmp_path_factory.mktemp("store") / "history.db") as plug:
        plug.user("anna").remember_all(HISTORY)
        plug.user("ben").remember_all([("a film", "art")])
        yield plug


def with_(**changes: Any) -> BatchOptions:
    return BatchOptions(**{"group": 16, "sequences": 4, "threads": 1, **changes})


def test_a_row_alone_gets_what_generate_gives(plug: PersonaPlug) -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"user": "anna"}, {"user": "anna"}),
        ({"user": "anna", "persona": "static"}, {"user": "anna", "persona": "static"}),
        ({"user": "stranger"}, {"user": "stranger"}),
        ({"persona": "off"}, {"persona": "off"}),
        ({"history": ["the senate met"]}, {"history": [NewItem("the senate met")]}),
        ({"history": ["a film"], "persona": "static"}, {"history": [NewItem("a film")], "persona": "static"}),
        ({"history": []}, {"history": []}),
    ]
    for row, call in cases:
        (result,) = generate_batch(plug, [{"prompt": "hello there", **row}], options=with_(sampling=SHORT))
        assert isinstance(result, BatchResult)
        reply = plug.generate("hello there", sampling=SHORT, **call)
        made = plug.personalize("hello there", **call)
        assert (result.text, result.finish_reason, result.generated_tokens) == (reply.text, "length", 6)
        assert result.prompt_tokens == len(made.prompt) and result.id == 1 and result.user == row.get("user")
        assert result.persona_digest == (None if made.persona is None else persona_digest(made.persona))
        assert (result.history_items == 0) == (made.cold_start or made.persona is None)


def test_labels_are_chosen_as_choose_does(plug: PersonaPlug) -> None:
    (result,) = generate_batch(plug, [{"prompt": "hello", "user": "anna", "labels": ["yes", "no"]}], options=SMALL)
    choice = plug.choose("hello", ["yes", "no"], user="anna")
    assert isinstance(result, BatchResult) and result.logprobs is not None
    assert (result.text, result.label, result.finish_reason) == (choice.label, choice.label, "label")
    assert list(result.logprobs.values()) == pytest.approx(choice.logprobs, abs=1e-3)


def test_queries_encoded_together_are_those_encoded_alone(plug: PersonaPlug, tmp_path: Path, tiny_gguf: Path) -> None:
    texts = ["hello there", "a goal", "the vote was late and the senate met again"]
    other = make_bundle(tmp_path / "head", llm_file=tiny_gguf, name="head", head=True)
    with PersonaPlug.load(other, threads=1) as headed:
        for embedder in (plug.embedder, headed.embedder):
            alone = np.stack([embedder.query(text) for text in texts])
            np.testing.assert_allclose(encode_queries(embedder, texts), alone, atol=1e-5)
            assert encode_queries(embedder, []).shape == (0, embedder.width)


def test_good_and_bad_rows_of_every_kind(plug: PersonaPlug) -> None:
    rows = make_rows(60)
    outcomes = list(generate_batch(plug, rows, options=SMALL))
    assert [outcome.number for outcome in outcomes] == list(range(1, 61))
    for row, outcome in zip(rows, outcomes, strict=True):
        good = row.get("prompt", " ").strip() and "prmpt" not in row
        assert isinstance(outcome, BatchResult if good else BadRow)
        assert outcome.id == row.get("id", None if isinstance(outcome, BadRow) else outcome.number)
        if isinstance(outcome, BadRow):
            assert outcome.reason and outcome.row == row
        else:
            assert (outcome.label is not None) == ("labels" in row) and outcome.user == row.get("user")


def test_what_only_the_encoder_or_the_engine_refuses_is_a_bad_row_too(plug: PersonaPlug) -> None:
    fine = {"prompt": "hello", "history": ["a film"]}
    rows = [
        {"prompt": "word " * 3000},
        {"prompt": "hello", "options": {"grammar": 'root ::= "yes'}},
        {"prompt": "hello", "options": {"top_p": 7.0}},
        {"prompt": "hello", "options": {"logit_bias": {"100000": 1.0}}},
        {"prompt": "hello", "labels": ["yes", "\0"]},
        fine,
    ]
    outcomes = list(generate_batch(plug, rows, options=with_(sampling=SHORT)))
    assert [type(outcome) for outcome in outcomes] == [BadRow] * 5 + [BatchResult]
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, BadRow)]
    assert (
        "context" in reasons[0]
        and "--cut" in reasons[0]
        and "engine" not in reasons[0]
        and "grammar" in reasons[1].lower()
        and "top_p" in reasons[2]
    )
    (cut,) = generate_batch(plug, rows[:1], options=with_(sampling=SHORT, cut=True))
    assert isinstance(cut, BatchResult) and cut.generated_tokens == 6
    (refused,) = generate_batch(plug, [{"prompt": "a", "user": "nobody"}], options=with_(require_history=True))
    assert isinstance(refused, BadRow) and "no history" in refused.reason


def test_a_group_does_not_depend_on_what_ran_before_it(plug: PersonaPlug) -> None:
    rows = make_rows(48, bad=False)
    whole = [o.record() for o in generate_batch(plug, rows, options=SMALL) if isinstance(o, BatchResult)]
    for first in (16, 32):
        part = generate_batch(plug, rows[first : first + 16], options=SMALL)
        assert [o.record() for o in part if isinstance(o, BatchResult)] == whole[first : first + 16]


def test_the_number_of_threads_changes_no_text(plug: PersonaPlug) -> None:
    rows = make_rows(16, bad=False)
    one, two = (list(generate_batch(plug, rows, options=with_(threads=threads))) for threads in (1, 2))
    assert one == two


def test_jsonl_needs_no_pyarrow_and_parquet_says_what_to_install(
    plug: PersonaPlug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet", "pyarrow.fs"):
        monkeypatch.setitem(sys.modules, name, None)
    source = write_rows(tmp_path / "rows.jsonl", make_rows(3, bad=False))
    assert generate_batch(plug, source, tmp_path / "out.jsonl", options=SMALL).rows == 3
    with pytest.raises(MissingExtraError, match=r"personaplug-edge\[batch\]"):
        generate_batch(plug, source, tmp_path / "out.parquet", options=SMALL)
    with pytest.raises(MissingExtraError, match=r"personaplug-edge\[batch\]"):
        generate_batch(plug, "s3://bucket/rows.jsonl", tmp_path / "other.jsonl", options=SMALL)


def test_unordered_gives_the_same_rows(plug: PersonaPlug) -> None:
    rows = make_rows(40)
    ordered = [json.dumps(outcome.record()) for outcome in generate_batch(plug, rows, options=SMALL)]
    loose = [json.dumps(outcome.record()) for outcome in generate_batch(plug, rows, options=with_(ordered=False))]
    assert loose != ordered and sorted(loose) == sorted(ordered)


def test_a_file_of_histories_serves_users_without_one_of_their_own(plug: PersonaPlug, tmp_path: Path) -> None:
    file = tmp_path / "histories.jsonl"
    file.write_text('{"user": "zoe", "history": ["the senate met"]}\n{"user": "anna", "history": ["a film"]}\n')
    rows = [{"prompt": "hello", "user": name} for name in ("zoe", "anna", "ben", "nobody")]
    rows.append({"prompt": "hello", "user": "zoe", "history": ["a song", "a goal"]})  # type: ignore[dict-item]
    results = list(generate_batch(plug, rows, options=with_(histories=file)))
    counts = [result.history_items for result in results if isinstance(result, BatchResult)]
    assert counts == [1, 1, 1, 0, 2]
    (inline,) = generate_batch(plug, [{"prompt": "hello", "history": ["a film"]}], options=SMALL)
    assert isinstance(inline, BatchResult) and isinstance(results[1], BatchResult)
    assert inline.persona_digest == results[1].persona_digest


def test_output_bad_rows_and_the_record_of_the_run(plug: PersonaPlug, tmp_path: Path) -> None:
    rows = make_rows(40)
    source, output = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "answers.jsonl"
    told: list[Any] = []
    summary = generate_batch(plug, source, output, options=with_(keep=("prompt",)), progress=told.append)
    answers, bad = read_lines(output), read_lines(summary.bad_path)
    assert (summary.rows, summary.bad, summary.resumed) == (len(answers), len(bad), 0) and len(answers) + len(bad) == 40
    assert all(answer["prompt"] in [row.get("prompt") for row in rows] for answer in answers)
    assert {"file", "number", "id", "reason", "row"} == set(bad[0]) and bad[0]["row"] == rows[bad[0]["number"] - 1]
    assert summary.generated_tokens == sum(answer["generated_tokens"] for answer in answers)
    assert [now.rows + now.bad for now in told] == list(range(1, 41)) and told[-1].share == 1.0
    shares = [now.share for now in told]
    assert shares == sorted(shares) and told[-1].tokens == summary.generated_tokens
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answers.jsonl",
        "answers.jsonl.bad.jsonl",
        "answers.jsonl.run.json",
        "rows.jsonl",
    ]
    again = generate_batch(plug, source, output, options=with_(keep=("prompt",)))
    assert (again.rows, again.bad, again.resumed) == (summary.rows, summary.bad, 40)
    with pytest.raises(BatchError, match="finished with another keep; .*--overwrite"):
        generate_batch(plug, source, output, options=SMALL)
    assert generate_batch(plug, source, output, options=SMALL, overwrite=True).rows == summary.rows
    assert "prompt" not in read_lines(output)[0]


def test_no_rows_make_an_empty_output(plug: PersonaPlug, tmp_path: Path) -> None:
    summary = generate_batch(plug, write_rows(tmp_path / "rows.jsonl", []), tmp_path / "out.jsonl", options=SMALL)
    assert (summary.rows, summary.bad) == (0, 0) and (tmp_path / "out.jsonl").read_bytes() == b""
    assert not summary.bad_path.exists()


def test_parquet_in_and_out_gives_what_jsonl_gives(plug: PersonaPlug, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{**row, "shelf": number, "note": {"n": number}} for number, row in enumerate(make_rows(30, bad=False))]
    options = with_(keep=("shelf", "note"))
    generate_batch(plug, write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", options=options)
    names = {name: None for row in rows for name in row}
    table = pa.Table.from_pylist([names | row for row in rows])
    parquet.write_table(table, tmp_path / "rows.parquet", row_group_size=7)
    generate_batch(plug, tmp_path / "rows.parquet", tmp_path / "out.parquet", options=options)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.field("shelf").type == pa.int64() and table.schema.field("note").type == pa.string()
    found = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    expected = [row | {"note": json.dumps(row["note"])} for row in read_lines(tmp_path / "out.jsonl")]
    for row in expected:
        if "logprobs" in row:
            row["logprobs"] = list(row["logprobs"].items())
    assert found == [{name: value for name, value in row.items() if value is not None} for row in expected]


def test_wrong_outputs_are_refused_before_anything_runs(plug: PersonaPlug, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", make_rows(3))
    for name, reason in (("out.csv", "ending in"), ("absent/out.jsonl", "does not exist"), ("", "is a folder")):
        with pytest.raises(BatchError, match=reason):
            generate_batch(plug, source, tmp_path / name, options=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


class Run:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = cli.main(["--bundle", str(self.folder), "--threads", "1", "batch", *arguments])
        output = self.capsys.readouterr()
        return code, output.out, output.err


def test_the_command(random_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(random_bundle, capsys)
    source, output = write_rows(tmp_path / "rows.jsonl", make_rows(20, bad=False)), tmp_path / "out.jsonl"
    code, out, err = run(str(source), "-o", str(output), "--temperature", "1", "--seed", "7", "--group", "8")
    assert (code, err) == (0, "") and out.startswith(f"20 rows answered in {output}; ")
    first = output.read_bytes()
    code, out, _ = run(str(source), "-o", str(output), "--temperature", "1", "--seed", "7", "--group", "8", "--json")
    assert code == 0 and json.loads(out)["resumed"] == 20 and output.read_bytes() == first
    code, _, err = run(str(source), "-o", str(output), "--temperature", "1", "--seed", "8", "--group", "8")
    assert code == 1 and "--overwrite" in err and err.count("\n") == 1
    assert run(str(source), "-o", str(output), "--temperature", "1", "--seed", "8", "--overwrite", "-q") == (0, "", "")
    assert output.read_bytes() != first


def test_the_command_says_by_its_exit_code_that_rows_were_bad(
    random_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(random_bundle, capsys)
    source = write_rows(tmp_path / "rows.jsonl", [{"prompt": "hello"}, {"prompt": ""}])
    code, out, _ = run(str(source), "-o", str(tmp_path / "out.jsonl"), "--bad", str(tmp_path / "refused.jsonl"))
    assert code == 3 and "1 bad rows in" in out and len(read_lines(tmp_path / "refused.jsonl")) == 1
    code, out, err = run(str(source), "-o", "-", "--labels", "yes,no")
    assert code == 3 and json.loads(out)["label"] in ("yes", "no") and "rows.jsonl, row 2: the prompt is empty" in err
    assert run(str(tmp_path / "absent.jsonl"), "-o", "-")[0] == 1
    assert run(str(source), "-o", "-", "--labels", "yes")[0] == 2
    assert run(str(source), "-o", "-", "--workers", "2")[0] == 2
