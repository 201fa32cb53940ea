"""Batches on Ray: the text of a local run, whatever is killed. Two workers on two booked CPUs."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batch_rows import make_rows, read_lines, with_methods, write_rows
from models.adapters import make_adapters
from models.onnx_models import make_bundle
from personaplug_edge import BadRow, BatchOptions, BatchResult, PersonaPlug, generate_batch
from personaplug_edge.batch import RayOptions
from personaplug_edge.batch.ray_engine import fit, import_ray
from personaplug_edge.batch.ray_worker import ATTEMPTS, Actor, Attempts
from personaplug_edge.batch.readers import RowSource
from personaplug_edge.errors import BatchError, MissingExtraError

OPTIONS = BatchOptions(group=8, sequences=3, threads=1)
TWO = RayOptions(workers=2, threads=1)


@pytest.mark.parametrize(
    ("workers", "threads", "nodes", "expected"),
    [
        (2, 1, [2.0], (2, 0.7)),  # whole CPUs would leave none for reading
        (1, 1, [2.0], (1, 1.0)),
        (0, 1, [4.0], (4, 0.8)),
        (0, 4, [16.0, 16.0], (8, 3.6)),
        (2, 4, [4.0, 8.0], (2, 4.0)),
        (1, 1, [1.0], (1, 0.5)),
    ],
)
def test_workers_leave_cpus_for_reading(
    workers: int, threads: int, nodes: list[float], expected: tuple[int, float]
) -> None:
    assert fit(RayOptions(workers=workers, threads=threads), nodes, sum(nodes)) == expected


@pytest.mark.parametrize(
    ("workers", "threads", "nodes", "free", "reason"),
    [
        (3, 1, [2.0], 2.0, r"3 workers of 1 threads want 3 CPUs, Ray has 2; give --workers 2"),
        (1, 4, [2.0, 2.0], 0.3, "0.3 of Ray's 4 CPUs are free"),
        (1, 1, [2.0], 0.2, "0.2 of Ray's 2 CPUs are free"),
    ],
)
def test_what_would_hang_is_refused(workers: int, threads: int, nodes: list[float], free: float, reason: str) -> None:
    with pytest.raises(BatchError, match=reason):
        fit(RayOptions(workers=workers, threads=threads), nodes, free)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"personaplug-edge\[ray\]"):
        import_ray()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_group_that_kills_every_worker_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attempts are counted outside of the workers."""
    counted = Attempts()

    class Remote:  # as Ray's handle of it
        def __init__(self, method: Any) -> None:
            self.remote = method

    handle = SimpleNamespace(begin=Remote(counted.begin), end=Remote(counted.end))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    worker = Actor.__new__(Actor)
    worker._attempts = handle
    one, other = RowSource([{"prompt": "a"}] * 4).groups(2)
    for _ in range(ATTEMPTS):
        worker._begin(one)
    with pytest.raises(BatchError, match="rows 1 to 2: 10 workers died"):
        worker._begin(one)
    worker._begin(other)
    counted.end(other.key)
    assert counted.begin(other.key) == 1


def test_a_worker_by_itself_answers_by_methods_as_a_local_run(
    monkeypatch: pytest.MonkeyPatch, plug: PersonaPlug, tmp_path: Path
) -> None:
    trained = make_adapters(tmp_path / "adapters", plug.bundle.folder)
    methods = ("lora", "bm25:1", "lora+pplug", "prompt-tuning", "no-such", "dense:1", "vote")
    rows = with_methods(make_rows(16), methods)
    nothing = SimpleNamespace(remote=lambda key: 1)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda value: value))
    attempts = SimpleNamespace(begin=nothing, end=nothing)
    worker = Actor(str(plug.bundle.folder), plug.store.path, OPTIONS, attempts, str(trained))
    made = [worker({"group": [pickle.dumps(group)]})["answered"][0] for group in RowSource(rows).groups(8)]
    found = [outcome for packed in made for outcome in pickle.loads(packed)[1]]
    with PersonaPlug.load(plug.bundle.folder, threads=1, store=plug.store.path, adapters=trained) as adapted:
        assert found == list(generate_batch(adapted, rows, options=OPTIONS))
    assert {type(outcome) for outcome in found} == {BadRow, BatchResult}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray")
    ray = import_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def plug(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonaPlug]:
    where = tmp_path_factory.mktemp("bundle")
    folder = make_bundle(where / "random", llm_file=tiny_gguf, name="random", tokens=2)
    with PersonaPlug.load(folder, threads=1, store=where / "history.db") as plug:
        plug.user("anna").remember_all(["a good film", "bad news"])
        plug.user("ben").remember_all(["long story"])
        yield plug


def workers_here() -> list[int]:
    """Process ids of the actors that hold a bundle, among what this process has started."""
    parents, found = {}, []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid = int(status.parent.name)
            parents[pid] = int(status.read_text().rpartition(")")[2].split()[1])
            if status.with_name("cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(pid)
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    return [pid for pid in found if os.getpid() in ancestors(pid, parents)]


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    known: set[int] = set()
    while pid and pid not in known:
        known.add(pid)
        pid = parents.get(pid, 0)
    return known


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found by /proc")
def test_a_worker_that_is_killed_loses_nothing_and_changes_no_text(ray: Any, plug: PersonaPlug, tmp_path: Path) -> None:
    rows = make_rows(160)
    (tmp_path / "rows").mkdir()
    write_rows(tmp_path / "rows" / "a.jsonl", rows[:100])
    write_rows(tmp_path / "rows" / "b.jsonl", rows[100:])
    histories = tmp_path / "histories.jsonl"
    histories.write_text('{"user": "stranger", "history": ["i love this"]}\n')
    options = BatchOptions(group=8, sequences=3, threads=1, histories=histories)
    killed: list[int] = []

    def kill(now: Any) -> None:
        if now.fresh >= 24 and not killed:
            killed.append(workers_here()[0])
            os.kill(killed[0], signal.SIGKILL)

    local = generate_batch(plug, tmp_path / "rows", tmp_path / "local.jsonl", options=options)
    spread = generate_batch(plug, tmp_path / "rows", tmp_path / "ray.jsonl", options=options, ray=TWO, progress=kill)
    assert killed and not Path(f"/proc/{killed[0]}").exists()
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
    assert spread.bad_path.read_bytes() == local.bad_path.read_bytes() and local.bad > 5
    assert (spread.rows, spread.generated_tokens) == (local.rows, local.generated_tokens)


def test_a_run_begun_here_goes_on_with_ray(ray: Any, plug: PersonaPlug, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "rows.jsonl", make_rows(60)), tmp_path / "out.jsonl"
    generate_batch(plug, source, tmp_path / "whole.jsonl", options=OPTIONS)

    def stop(now: Any) -> None:
        if now.rows > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_batch(plug, source, output, options=OPTIONS, progress=stop)
    text = source.read_bytes()
    source.write_bytes(text.replace(b"row-3", b"row-9"))
    with pytest.raises(BatchError, match=r"rows\.jsonl, rows 1 to 8 have changed"):
        generate_batch(plug, source, output, options=OPTIONS, ray=TWO)
    source.write_bytes(text)
    summary = generate_batch(plug, source, output, options=OPTIONS, ray=TWO)
    assert summary.resumed >= 16 and output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(read_lines(output)) == summary.rows


def test_methods_and_adapters_are_those_of_a_local_run(ray: Any, plug: PersonaPlug, tmp_path: Path) -> None:
    trained = make_adapters(tmp_path / "adapters", plug.bundle.folder)
    methods = ("lora", "bm25:1", "lora+pplug", "prompt-tuning", "no-such", "dense:1", "vote")
    source = write_rows(tmp_path / "rows.jsonl", with_methods(make_rows(40), methods))
    outputs = [tmp_path / name for name in ("local.jsonl", "ray.jsonl", "path.jsonl")]
    with PersonaPlug.load(plug.bundle.folder, threads=1, store=plug.store.path, adapters=trained) as adapted:
        generate_batch(adapted, source, outputs[0], options=OPTIONS)
        generate_batch(adapted, source, outputs[1], options=OPTIONS, ray=TWO)
    path = replace(TWO, store=plug.store.path, adapters=trained)
    generate_batch(plug.bundle.folder, source, outputs[2], options=OPTIONS, ray=path)
    local, spread, by_path = (output.read_bytes() for output in outputs)
    assert local == spread == by_path and b'"method": "lora+pplug"' in local


def test_outcomes_one_by_one_unordered_from_parquet(ray: Any, plug: PersonaPlug, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{name: row.get(name) for name in ("id", "prompt", "user")} for row in make_rows(40)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    options = BatchOptions(group=8, sequences=3, threads=1, ordered=False)
    outcomes = list(generate_batch(plug, tmp_path / "rows.parquet", options=options, ray=TWO))
    local = list(generate_batch(plug, tmp_path / "rows.parquet", options=OPTIONS))
    assert sorted(outcome.number for outcome in outcomes) == list(range(1, 41))
    assert sorted(map(repr, outcomes)) == sorted(map(repr, local))
    assert {type(outcome) for outcome in outcomes} == {BadRow, BatchResult}


def test_what_ray_cannot_read_is_refused(plug: PersonaPlug, tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="Ray reads files"):
        list(generate_batch(plug, [{"prompt": "a"}], ray=TWO))
    with PersonaPlug.load(plug.bundle.folder, threads=1) as forgetful:
        forgetful.user("anna").remember("a film")
        with pytest.raises(BatchError, match="store=FILE"):
            list(generate_batch(forgetful, write_rows(tmp_path / "rows.jsonl", make_rows(3)), ray=TWO))
