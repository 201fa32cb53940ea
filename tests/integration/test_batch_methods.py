"""Batches by every method, with the real engine, encoders, store and adapters, on a tiny random bundle."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batch_rows import make_rows, read_lines, with_methods, write_rows
from models.adapters import make_adapters
from personaplug_edge import BadRow, BatchOptions, BatchResult, NewItem, PersonaPlug, Sampling, cli, generate_batch
from personaplug_edge.adapters import INDEX, AdapterFolder, file_name
from personaplug_edge.errors import BatchError, MethodError
from personaplug_edge.personalize import registry
from personaplug_edge.personalize.method import Contribution, Request
from personaplug_edge.personalize.past import Past

HISTORY = [("a goal in extra time", "sports"), ("the vote was late", "politics"), ("the senate met", "politics")]
SHORT = Sampling(max_tokens=6, ignore_end=True)
ADAPTED = ("lora", "lora+pplug", "prompt-tuning", "lora+dense:1")
METHODS = ("none", "instruction", "pplug", "pplug-static", "recency:1", "random:2", "bm25:1", "dense:1", "summary")
METHODS += ("pplug+bm25:1", "summary+dense:1", *ADAPTED)


@pytest.fixture(scope="module")
def adapters(random_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapters(tmp_path_factory.mktemp("adapters"), random_bundle)


@pytest.fixture(scope="module")
def plug(random_bundle: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    store = tmp_path_factory.mktemp("store") / "history.db"
    with PersonaPlug.load(random_bundle, threads=1, store=store, adapters=adapters) as plug:
        plug.user("anna").remember_all(HISTORY)
        plug.user("ben").remember_all([("a film", "art")])
        yield plug


def with_(**changes: Any) -> BatchOptions:
    return BatchOptions(**{"group": 16, "sequences": 4, "threads": 1, "sampling": SHORT, **changes})


def one(plug: PersonaPlug, row: dict[str, Any], **options: Any) -> BatchResult:
    (result,) = generate_batch(plug, [{"prompt": "the vote", **row}], options=with_(**options))
    assert isinstance(result, BatchResult), result
    return result


def refused(plug: PersonaPlug, row: dict[str, Any], **options: Any) -> str:
    (result,) = generate_batch(plug, [{"prompt": "the vote", **row}], options=with_(**options))
    assert isinstance(result, BadRow)
    return result.reason


@pytest.mark.parametrize("method", METHODS)
def test_a_row_alone_gets_what_generate_gives_by_every_method(plug: PersonaPlug, method: str) -> None:
    items = [NewItem(text, output) for text, output in HISTORY]
    inline = [{"text": text, "output": output} for text, output in HISTORY]
    for row, call in (
        ({"user": "anna"}, {"user": "anna"}),
        ({"user": "ben", "history": inline}, {"user": "ben", "history": items}),
        ({"user": "nobody"}, {"user": "nobody"}),
    ):
        result = one(plug, {**row, "method": method})
        reply = plug.generate("the vote", method=method, sampling=SHORT, **call)  # type: ignore[arg-type]
        assert (result.text, result.method, result.untrained) == (reply.text, method, reply.untrained)
        assert result.prompt_tokens == len(plug.personalize("the vote", method=method, **call).prompt)  # type: ignore[arg-type]
        reads = method not in ("none", "instruction", "lora", "prompt-tuning")
        assert result.history_items == (3 if reads and row["user"] != "nobody" else 0)


def test_votes_choose_as_choose_does(plug: PersonaPlug) -> None:
    labels = ["sports", "politics"]
    for method in ("vote", "majority"):
        result = one(plug, {"user": "anna", "labels": labels, "method": method})
        choice = plug.choose("the vote", labels, user="anna", method=method)
        assert (result.label, result.text, result.finish_reason) == (choice.label, choice.label, "label")
        assert result.logprobs == dict(zip(choice.labels, choice.logprobs, strict=True)) and not result.prompt_tokens
    assert one(plug, {"user": "anna"}, method="majority", labels=("sports", "politics")).label == "politics"
    assert "asks no LLM, it chooses among labels" in refused(plug, {"user": "anna", "method": "vote"})


def test_labels_with_an_adapter_are_scored_with_it(plug: PersonaPlug) -> None:
    labels = ["yes", "no"]
    for user in ("anna", "nobody"):
        result = one(plug, {"user": user, "labels": labels, "method": "lora"})
        choice = plug.choose("the vote", labels, user=user, method="lora")
        assert list((result.logprobs or {}).values()) == pytest.approx(choice.logprobs, abs=1e-3)


def test_a_rows_method_or_persona_goes_before_the_runs(plug: PersonaPlug) -> None:
    texts = {name: one(plug, {"user": "anna", "method": name}).text for name in ("none", "bm25:1", "pplug-static")}
    assert len(set(texts.values())) == 3
    run = one(plug, {"user": "anna"}, method="bm25:1")
    assert (run.text, run.method) == (texts["bm25:1"], "bm25:1")
    assert one(plug, {"user": "anna", "method": "none"}, method="bm25:1").text == texts["none"]
    static = one(plug, {"user": "anna", "persona": "static"}, method="bm25:1")
    assert (static.text, static.method) == (texts["pplug-static"], None) and "method" not in static.record()
    assert run.record()["method"] == "bm25:1"


def test_what_is_wrong_with_a_method_is_a_bad_row_or_ends_the_run_before_it_begins(
    plug: PersonaPlug, random_bundle: Path
) -> None:
    assert "unknown method 'bm52'; known: none, instruction" in refused(plug, {"method": "bm52"})
    assert "expected a method such as" in refused(plug, {"method": 5})
    assert "give the row one of them" in refused(plug, {"method": "none", "persona": "off"})
    with pytest.raises(MethodError, match="unknown method"):
        generate_batch(plug, [], options=with_(method="bm52"))
    with PersonaPlug.load(random_bundle, threads=1) as plain:
        assert "--adapters" in refused(plain, {"user": "anna", "method": "lora"})
        with pytest.raises(BatchError, match="needs what was trained for each user"):
            list(generate_batch(plain, [{"prompt": "a"}], options=with_(method="lora+pplug")))


def test_a_method_of_ones_own_may_hint_at_the_sampling_and_fail(
    plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brief(user: Past, request: Request) -> Contribution:
        if not user.items:
            raise KeyError("no items")
        return Contribution(front="in short: ", sampling={"max_tokens": 2, "ignore_end": True})

    entry = SimpleNamespace(load=lambda: brief, value="tests:brief")
    monkeypatch.setattr(registry, "_found", lambda: {"brief": entry})
    row = {"user": "anna", "method": "brief"}
    assert one(plug, row, sampling=None).generated_tokens == 2 and one(plug, row).generated_tokens == 6
    assert one(plug, row | {"options": {"ignore_end": True}}, sampling=None).generated_tokens == 8  # the bundle's
    assert "method 'brief' failed: KeyError" in refused(plug, row | {"user": "nobody"})


def test_a_run_may_require_a_history_whatever_the_method(plug: PersonaPlug) -> None:
    for method in ("bm25:1", "summary", "pplug", "lora+dense:1"):
        assert "has no history" in refused(plug, {"user": "nobody", "method": method}, require_history=True)
        assert one(plug, {"user": "anna", "method": method}, require_history=True).history_items == 3
    assert "nothing was trained" in refused(plug, {"user": "nobody", "method": "lora"}, require_history=True)
    assert one(plug, {"user": "ben", "method": "lora", "history": []}, require_history=True).text
    assert one(plug, {"method": "none"}, require_history=True).text


def test_a_file_of_histories_serves_methods(plug: PersonaPlug, tmp_path: Path) -> None:
    file = tmp_path / "histories.jsonl"
    file.write_text('{"user": "zoe", "history": ["the senate met", "a goal"]}\n')
    given = one(plug, {"user": "zoe", "method": "recency:1"}, histories=file)
    inline = one(plug, {"user": "zoe", "method": "recency:1", "history": ["the senate met", "a goal"]})
    assert given == inline and given.history_items == 2


def test_a_group_does_not_depend_on_what_ran_before_it(plug: PersonaPlug) -> None:
    """Summaries of histories that grow from row to row, and adapters that other groups have used, among them."""
    rows = with_methods(make_rows(16, bad=False), [name for name in METHODS if "summary" not in name])
    for number in (0, 7, 8, 15):
        rows[number] |= {"user": "cy", "method": "summary", "history": ["a goal in extra time"] * (8 + number // 7)}
    options = with_(group=8)
    whole = [o.record() for o in generate_batch(plug, rows, options=options) if isinstance(o, BatchResult)]
    assert [o["id"] for o in whole] == [row["id"] for row in rows]
    part = generate_batch(plug, rows[8:], options=options)
    assert [o.record() for o in part if isinstance(o, BatchResult)] == whole[8:]


def test_rows_with_one_adapter_are_decoded_together(plug: PersonaPlug, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": "the vote", "user": user} for user in ("anna", "ben", "nobody") * 4]
    finished = list(generate_batch(plug, rows, options=with_(method="lora", ordered=False)))
    users = [each.user for each in finished if isinstance(each, BatchResult)]
    assert users == ["anna"] * 4 + ["ben"] * 4 + ["nobody"] * 4
    texts = {each.user: each.text for each in finished if isinstance(each, BatchResult)}
    assert all(texts[user] == one(plug, {"user": user}, method="lora").text for user in ("anna", "ben", "nobody"))
    assert len(set(texts.values())) == 3


def test_the_same_plug_may_answer_with_adapters_meanwhile(plug: PersonaPlug) -> None:
    expected = plug.generate("the vote", user="ben", method="lora", sampling=SHORT).text
    rows = [{"prompt": "the vote", "user": user, "method": "lora"} for user in ("anna", "ben")] * 8
    answers: list[str] = []

    def ask() -> None:
        for _ in range(8):
            answers.append(plug.generate("the vote", user="ben", method="lora", sampling=SHORT).text)

    beside = threading.Thread(target=ask)
    beside.start()
    found = list(generate_batch(plug, rows, options=with_(group=2)))
    beside.join()
    assert answers == [expected] * 8
    assert {each.text for each in found if isinstance(each, BatchResult) and each.user == "ben"} == {expected}


def test_methods_and_adapters_belong_to_a_run(
    plug: PersonaPlug, random_bundle: Path, adapters: Path, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"prompt": "hello", "user": "anna"}] * 40)
    output = tmp_path / "out.jsonl"

    def stop(now: Any) -> None:
        if now.rows > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_batch(plug, source, output, options=with_(method="lora"), progress=stop)
    for method in (None, "lora+pplug"):
        with pytest.raises(BatchError, match="begun with another method;"):
            generate_batch(plug, source, output, options=with_(method=method))
    other = make_adapters(tmp_path / "other", random_bundle, seed=7)
    same = make_adapters(tmp_path / "same", random_bundle)
    with PersonaPlug.load(random_bundle, threads=1, store=plug.store.path, adapters=other) as another:
        with pytest.raises(BatchError, match="begun with another adapters;"):
            generate_batch(another, source, output, options=with_(method="lora"))
    with PersonaPlug.load(random_bundle, threads=1, store=plug.store.path, adapters=same) as another:
        summary = generate_batch(another, source, output, options=with_(method="lora"))
    assert (summary.resumed, summary.rows, summary.cold_starts) == (16, 40, 0)
    assert AdapterFolder(same).digest == AdapterFolder(adapters).digest != AdapterFolder(other).digest
    assert len({line["text"] for line in read_lines(output)}) == 1 and read_lines(output)[0]["method"] == "lora"


def test_one_users_damaged_adapter_is_a_bad_row_and_a_lost_folder_ends_the_run(
    random_bundle: Path, tmp_path: Path
) -> None:
    trained = make_adapters(tmp_path / "adapters", random_bundle)
    size = (trained / file_name("anna", "lora")).stat().st_size
    rows = [{"prompt": "hello", "user": user, "method": "lora"} for user in ("anna", "ben", "anna")]
    with PersonaPlug.load(random_bundle, threads=1, adapters=trained) as plug:
        for content in (b"x" * size, b"short"):
            (trained / file_name("anna", "lora")).write_bytes(content)
            outcomes = list(generate_batch(plug, rows, options=with_()))
            assert [type(each) for each in outcomes] == [BadRow, BatchResult, BadRow]
        (trained / file_name("ben", "lora")).unlink()
        (trained / INDEX).unlink()
        with pytest.raises(BatchError, match="are gone"):
            list(generate_batch(plug, rows, options=with_()))


def test_the_command(random_bundle: Path, adapters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": "the vote", "user": "anna", "history": ["a film", "the senate met"]},
        {"prompt": "x", "method": "q"},
    ]
    source, output = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out.parquet"
    command = ["--bundle", str(random_bundle), "--threads", "1", "--adapters", str(adapters), "batch", str(source)]
    command += ["--sequences", "2", "--max-tokens", "4"]
    code = cli.main([*command, "-o", "-", "--method", "lora+dense:1"])
    out, err = capsys.readouterr()
    assert code == 3 and json.loads(out)["method"] == "lora+dense:1" and "row 2: unknown method 'q'" in err
    assert cli.main([*command, "-o", "-", "--method", "no-such"]) == 2
    assert "unknown method 'no-such'" in capsys.readouterr().err
    parquet = pytest.importorskip("pyarrow.parquet")
    assert cli.main([*command, "-o", str(output), "--method", "lora"]) == 3
    (row,) = parquet.read_table(output).to_pylist()
    assert (row["method"], row["untrained"], row["history_items"]) == ("lora", None, 0)
