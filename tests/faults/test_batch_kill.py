"""Batches that are killed, stopped or given what has changed: no row lost, none done twice, the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batch_rows import make_rows, read_lines, with_methods, write_rows
from models.adapters import make_adapters
from models.onnx_models import make_bundle
from personaplug_edge import BatchOptions, PersonaPlug, generate_batch
from personaplug_edge.errors import BatchError, StoreError

OPTIONS = BatchOptions(group=8, sequences=3, threads=1)


@pytest.fixture(scope="module")
def folder(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "random", llm_file=tiny_gguf, name="random", tokens=2)


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "history.db"
    with PersonaPlug.load(folder, threads=1, store=path) as plug:
        plug.user("anna").remember_all(["a good film", "bad news"])
        plug.user("ben").remember_all(["long story"])
    return path


def start(folder: Path, store: Path, source: Path | str, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "personaplug_edge.cli", "--bundle", str(folder), "--store", str(store)]
    command += ["--threads", "1", "batch", str(source), "-o", str(output), "--group", "8", "--sequences", "3", *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_ctrl_c)


def heed_ctrl_c() -> None:
    """A shell's background jobs, and what they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for_groups(process: subprocess.Popen[str], output: Path, count: int) -> None:
    """Until the ledger has so many lines more."""
    ledger = Path(f"{output}.ledger")
    while process.poll() is None and (not ledger.exists() or ledger.read_bytes().count(b"\n") < count):
        time.sleep(0.002)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_killed_again_and_again_gives_what_an_unbroken_run_gives(
    folder: Path, store: Path, tmp_path: Path, ending: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    chance = random.Random(ending)
    groups = 30
    source = write_rows(tmp_path / "rows.jsonl", make_rows(8 * groups))
    whole, broken = tmp_path / f"whole.{ending}", tmp_path / f"broken.{ending}"
    assert start(folder, store, source, whole).wait() == 3
    kills = 0
    for _ in range(12):  # at random places, the ends of the run among them
        ledger = Path(f"{broken}.ledger")
        lines = ledger.read_bytes().count(b"\n") if ledger.exists() else 1
        process = start(folder, store, source, broken)
        wait_for_groups(process, broken, lines + chance.randint(0, 6))
        time.sleep(chance.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if process.returncode != -signal.SIGKILL:  # it was done before: once more from the beginning
            for path in tmp_path.glob("broken.*"):
                path.unlink()
        elif kills >= 3 and lines > groups - 8:
            break
    assert kills >= 3
    last = start(folder, store, source, broken)
    assert last.wait() == 3, last.communicate()
    assert broken.read_bytes() == whole.read_bytes()
    assert read_lines(Path(f"{broken}.bad.jsonl")) == read_lines(Path(f"{whole}.bad.jsonl"))
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.ledger"))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_with_methods_and_adapters_gives_what_an_unbroken_run_gives(
    folder: Path, store: Path, tmp_path: Path
) -> None:
    methods = ("lora", "bm25:1", "pplug+recency:1", "lora+pplug", "prompt-tuning", "no-such", "dense:1", "vote")
    rows = with_methods(make_rows(96), methods)
    for row in rows[::3]:
        del row["method"]  # the run's
    source = write_rows(tmp_path / "rows.jsonl", rows)
    more = ("--adapters", str(make_adapters(tmp_path / "adapters", folder)), "--method", "lora+random:1")
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    assert start(folder, store, source, whole, *more).wait() == 3
    for lines in (3, 7, 10):
        process = start(folder, store, source, broken, *more)
        wait_for_groups(process, broken, lines)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    refused = start(folder, store, source, broken, *more[:2])
    assert "begun with another method;" in refused.communicate()[1] and refused.returncode == 1
    last = start(folder, store, source, broken, *more)
    assert last.wait() == 3 and "rows were done before" in last.communicate()[0]
    assert broken.read_bytes() == whole.read_bytes()
    assert read_lines(Path(f"{broken}.bad.jsonl")) == read_lines(Path(f"{whole}.bad.jsonl"))


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
def test_ctrl_c_keeps_what_is_done_and_says_so(folder: Path, store: Path, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "rows.jsonl", make_rows(240, bad=False)), tmp_path / "out.jsonl"
    process = start(folder, store, source, output)
    wait_for_groups(process, output, 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command goes on from there" in err and "Traceback" not in err
    assert not output.exists() and 16 <= len(read_lines(Path(f"{output}.partial"))) < 240
    process = start(folder, store, source, output)
    out, _ = process.communicate()
    assert process.returncode == 0 and "rows were done before" in out and len(read_lines(output)) == 240


def stopped(plug: PersonaPlug, source: Path, output: Path, options: BatchOptions = OPTIONS, after: int = 20) -> None:
    """A run that breaks off after some rows."""

    def stop(now: object) -> None:
        if now.rows + now.bad > after:  # type: ignore[attr-defined]
            raise StopIteration("enough")

    with pytest.raises(RuntimeError):
        generate_batch(plug, source, output, options=options, progress=stop)


@pytest.fixture
def plug(folder: Path, store: Path) -> PersonaPlug:
    return PersonaPlug.load(folder, threads=1, store=store)


def test_what_changed_since_the_first_run_is_refused(
    plug: PersonaPlug, folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    rows = make_rows(40)
    source, output = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    stopped(plug, source, output)
    before = Path(f"{output}.partial").read_bytes()
    with pytest.raises(BatchError, match="another seed;"):
        generate_batch(plug, source, output, options=BatchOptions(group=8, sequences=3, threads=1, seed=1))
    other = make_bundle(tmp_path / "other", llm_file=tiny_gguf, name="other", tokens=1)
    with pytest.raises(BatchError, match="another bundle;"):
        generate_batch(other, source, output, options=OPTIONS)
    text = source.read_bytes()
    source.write_bytes(text + b'{"prompt": "more"}\n')
    with pytest.raises(BatchError, match="another input;"):
        generate_batch(plug, source, output, options=OPTIONS)
    source.write_bytes(text.replace(b"row-3", b"row-9"))
    with pytest.raises(BatchError, match=r"rows\.jsonl, rows 1 to 8 have changed"):
        generate_batch(plug, source, output, options=OPTIONS)
    source.write_bytes(text)
    assert Path(f"{output}.partial").read_bytes() == before
    assert generate_batch(plug, source, output, options=OPTIONS).resumed == 16


def test_a_finished_output_of_other_rows_is_not_taken_for_this_one(plug: PersonaPlug, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "rows.jsonl", make_rows(20)), tmp_path / "out.jsonl"
    generate_batch(plug, source, output, options=OPTIONS)
    source.write_bytes(source.read_bytes().replace(b"row-3", b"row-9"))
    with pytest.raises(BatchError, match="is there already"):
        generate_batch(plug, source, output, options=OPTIONS)


@pytest.mark.parametrize("place", ["before the output", "before the record", "before the ledger goes"])
def test_a_kill_while_the_output_is_put_in_place(
    plug: PersonaPlug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", make_rows(30))
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    summary = generate_batch(plug, source, whole, options=OPTIONS)
    name = {"before the output": "put_in_place", "before the record": "_write_record"}.get(place)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if name:
            patched.setattr(f"personaplug_edge.batch.job.{name}", killed)
        else:
            patched.setattr("personaplug_edge.batch.ledger.Ledger.remove", killed)
        with pytest.raises(KeyboardInterrupt):
            generate_batch(plug, source, output, options=OPTIONS)
    again = generate_batch(plug, source, output, options=OPTIONS)
    assert (again.rows, again.bad, again.resumed) == (summary.rows, summary.bad, 30)
    assert output.read_bytes() == whole.read_bytes() and again.bad_path.read_bytes() == summary.bad_path.read_bytes()
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.ledger"))


def test_the_store_failing_ends_the_run_and_a_further_one_goes_on(
    plug: PersonaPlug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = write_rows(tmp_path / "rows.jsonl", make_rows(40, bad=False)), tmp_path / "out.jsonl"
    whole = generate_batch(plug, source, tmp_path / "whole.jsonl", options=OPTIONS)
    calls = []

    def fails(user: str) -> int:
        calls.append(user)
        if len(calls) > 6:
            raise StoreError("the disk is gone")
        return 1

    with monkeypatch.context() as patched:
        patched.setattr(plug.store, "count", fails)
        with pytest.raises(StoreError, match="gone"):
            generate_batch(plug, source, output, options=OPTIONS)
    again = generate_batch(plug, source, output, options=OPTIONS)
    assert again.rows == whole.rows == 40
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
def test_ctrl_c_ends_a_run_that_waits_for_standard_input(folder: Path, store: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    process = start(folder, store, "-", output)
    assert process.stdin is not None and process.stderr is not None
    for row in range(9):  # a group, and one row more
        process.stdin.write(f'{{"prompt": "hello {row}", "options": {{"max_tokens": 2}}}}\n')
    process.stdin.flush()
    wait_for_groups(process, output, 2)  # its head and the group
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    told = process.stderr.read()
    assert "goes on from there" in told and "Fatal" not in told and "Traceback" not in told
