"""Offline generation: rows a second of one process, of one and of two Ray workers, and with more and more users stored.

``python benchmarks/scale.py --json out.json``. First part: the same rows, each with a short history of its own, by
``generate_batch`` here and on Ray, a thread a process; start-up (Ray, loading the bundle) is timed apart, and the
outputs are compared byte by byte. Second part: stores of 10 to 100,000 users, five items each; rows by users drawn at
random, every one for the first time. Vectors in the stores are random: what is measured does not look at their values.
Third part: larger LLMs with random weights, one process of one thread, loading counted. Fourth part: what one process
does for all workers: reading rows, and writing answers.
Stores are kept in ``--folder`` and made on first use (100,000 users: some minutes).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import finish, interleaved, parser, ratio, summary, table, write_json
from memory_child import memory
from random_bundle import bundle_folder

from personaplug_edge import BatchOptions, BatchResult, Bundle, NewItem, PersonaPlug, Sampling, generate_batch
from personaplug_edge.batch import BatchProgress, RayOptions
from personaplug_edge.batch.ledger import Ledger
from personaplug_edge.batch.readers import FileSource

WORDS = (
    "senator goal film vote coach album science market club theater player budget tax festival minister team".split()
)
ITEMS = 5
"""History items of a stored user, and of a row."""
GROUP, WARM = 64, 192
"""Rows of a group, and rows that are answered before the clock starts."""
LOCAL, ONE, TWO = "one process", "Ray, 1 worker", "Ray, 2 workers"


class Watch:
    """Rows a second once a run is under way, and the seconds before its first answer."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._first = 0.0
        self._warm: tuple[float, int, float] | None = None
        self._last = (0.0, 0, 0.0)
        self.tokens = 0

    def __call__(self, now: BatchProgress) -> None:
        self._last, self.tokens = (time.perf_counter(), now.fresh, time.process_time()), now.tokens
        self._first = self._first or self._last[0]
        # Ray's answers come a group at a time: the first groups are left out, of which all arrive together.
        if self._warm is None and now.fresh >= WARM:
            self._warm = self._last

    @property
    def rows_per_cpu_second(self) -> float:
        """Of this process alone; on a busy machine the steadier figure."""
        assert self._warm is not None
        return (self._last[1] - self._warm[1]) / (self._last[2] - self._warm[2])

    @property
    def start_seconds(self) -> float:
        return self._first - self._began

    @property
    def rows_per_second(self) -> float:
        assert self._warm is not None
        return (self._last[1] - self._warm[1]) / (self._last[0] - self._warm[0])


def text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def write_input(path: Path, rows: int, user: Callable[[random.Random], dict[str, Any]]) -> Path:
    chance = random.Random(0)
    lines = ({"prompt": f"headline of article: {text(chance, 16)}", **user(chance)} for _ in range(rows))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def with_history(chance: random.Random) -> dict[str, Any]:
    return {"history": [{"text": text(chance, 12), "output": text(chance, 1)} for _ in range(ITEMS)]}


def workers(given: Any, folder: Path) -> dict[str, Any]:
    """Rows a second of each contender, and how long it took to start."""
    rows = 640 if given.quick else given.rows
    source = write_input(folder / "rows.jsonl", rows, with_history)
    watches: dict[str, list[Watch]] = {name: [] for name in (LOCAL, ONE, TWO)}

    def run(name: str) -> float:
        ray = None if name == LOCAL else RayOptions(workers=1 if name == ONE else 2)
        watch = Watch()
        watches[name].append(watch)
        output = folder / f"{name}.jsonl"
        generate_batch(given.bundle, source, output, options=options(given), ray=ray, overwrite=True, progress=watch)
        return watch.rows_per_second

    figures = interleaved({name: lambda name=name: run(name) for name in watches}, given.rounds, warm=False)
    same = len({(folder / f"{name}.jsonl").read_bytes() for name in watches}) == 1
    shown = [[name, summary(figures[name])["median"], watches[name][-1].start_seconds] for name in watches]
    return {
        "rows": rows,
        "same_output": same,
        "rows_per_cpu_second": summary([watch.rows_per_cpu_second for watch in watches[LOCAL]]),
        "rows_per_second": {name: summary(values) for name, values in figures.items()},
        "start_seconds": {name: [watch.start_seconds for watch in each] for name, each in watches.items()},
        "two_to_one": ratio(figures[TWO], figures[ONE]),
        "tables": [table("Workers, a thread each", ["", "rows/s", "seconds to the first answers"], shown)],
    }


def options(given: Any) -> BatchOptions:
    sampling = Sampling(max_tokens=given.tokens, ignore_end=True)
    return BatchOptions(threads=1, sampling=sampling, sequences=16, group=GROUP)


def stored(given: Any, users: int) -> Path:
    """The store of so many users; whole or not there. One that another bundle's vectors lie in would be embedded anew
    while it is measured: each bundle has its own.
    """
    key = Bundle.load(given.bundle).bundle_key
    path = given.folder / f"users-{users}-{key[:12]}.db"
    if path.exists():
        return path
    given.folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    rng, chance = np.random.default_rng(users), random.Random(users)
    with PersonaPlug.load(given.bundle, store=part, threads=1) as plug:
        keys = {"encoder_key": plug.bundle.encoder_key, "bundle_key": plug.bundle.bundle_key}
        for first in range(0, users, 1000):
            count = min(1000, users - first)
            vectors = rng.standard_normal((count, ITEMS, plug.embedder.width)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
            rows = plug.embedder.project(vectors.reshape(count * ITEMS, -1)).reshape(count, ITEMS, *shape_of(plug))
            for user in range(count):
                items = [NewItem(f"{text(chance, 12)} {item}", output=text(chance, 1)) for item in range(ITEMS)]
                plug.store.add(f"user-{first + user}", items, vectors=vectors[user], projections=rows[user], **keys)
    os.replace(part, path)
    return path


def shape_of(plug: PersonaPlug) -> tuple[int, ...]:
    """(k, H) of a persona."""
    shape: tuple[int, ...] = plug.embedder.cold_start.shape
    return shape


def stores(given: Any, folder: Path) -> dict[str, Any]:
    """What a store of many users costs a row, the disk and the memory."""
    counts = [10, 1_000] if given.quick else given.users
    found = []
    for users in counts:
        path = stored(given, users)
        rows = 512 if given.quick else 1_024
        order = random.Random(1).sample(range(users), min(users, rows))
        turns = iter(order * (rows // len(order) + 1))
        source = write_input(folder / "users.jsonl", rows, lambda _, turns=turns: {"user": f"user-{next(turns)}"})
        with PersonaPlug.load(given.bundle, store=path, threads=1) as plug:
            watch = Watch()
            generate_batch(plug, source, folder / "out.jsonl", options=options(given), overwrite=True, progress=watch)
            seconds = [
                timed(lambda user=user: plug.personalize("headline of article: a", user=f"user-{user}"))
                for user in order[:200]
            ]
        found.append(
            {
                "users": users,
                "rows_per_second": watch.rows_per_second,
                "rows_per_cpu_second": watch.rows_per_cpu_second,
                "persona_ms": 1e3 * sorted(seconds)[len(seconds) // 2],
                "store_bytes": path.stat().st_size,
                "bytes_a_user": path.stat().st_size / users,
                "peak_resident_mb": memory()["peak_bytes"] / 1e6,
            }
        )
    columns = ["users", "rows/s", "ms for a persona, first time", "store, MB", "bytes a user", "peak memory, MB"]
    shown = [
        [each["users"], each["rows_per_second"], each["persona_ms"], each["store_bytes"] / 1e6, each["bytes_a_user"]]
        + [each["peak_resident_mb"]]
        for each in found
    ]
    return {"stores": found, "tables": [table(f"Users in the store, {ITEMS} items each", columns, shown)]}


def models(given: Any, folder: Path) -> dict[str, Any]:
    """Rows a second of one process of one thread with larger LLMs (random weights), and its memory."""
    found = []
    for name, rows in (("135m", 48),) if given.quick else (("135m", 96), ("1.1b", 16)):
        source = write_input(folder / "rows.jsonl", rows, with_history)
        bundle = bundle_folder(name, given.folder)
        seconds, used = time.perf_counter(), time.process_time()
        run = replace(options(given), group=48)
        summary = generate_batch(bundle, source, folder / "out.jsonl", options=run, overwrite=True)
        seconds, used = time.perf_counter() - seconds, time.process_time() - used
        found.append(
            {
                "model": name,
                "rows": rows,
                "tokens": summary.generated_tokens / rows,
                "rows_per_second": rows / seconds,
                "rows_per_cpu_second": rows / used,
                "resident_mb": memory()["steady_bytes"] / 1e6,
            }
        )
    columns = ["model", "rows/s", "rows/CPU second"]
    shown = [[each["model"], each["rows_per_second"], each["rows_per_cpu_second"]] for each in found]
    return {"models": found, "tables": [table("Larger LLMs, one process of one thread", columns, shown)]}


def driver(given: Any, folder: Path) -> dict[str, Any]:
    """What is done in one place whatever the number of workers: reading, and writing answers with their ledger."""
    rows = 20_000 if given.quick else 100_000
    source = FileSource.find([write_input(folder / "rows.jsonl", rows, with_history)])
    groups = []
    read = timed(lambda: groups.extend(group.head for group in source.groups(256)))
    answer = BatchResult(
        id="row-1234567",
        user="user-1234567",
        text="a headline of sixteen tokens about the vote on the new stadium in the city",
        finish_reason="length",
        prompt_tokens=30,
        generated_tokens=16,
        persona_digest="0123456789abcdef",
    )
    with Ledger.open(folder / "answers.jsonl", folder / "bad.jsonl", {}) as ledger:
        write = timed(lambda: [ledger.add(group, [answer] * group.count) for group in groups])
        sizes = [path.stat().st_size for path in (ledger.partial, ledger.path)]
    found = {
        "read_rows_per_second": rows / read,
        "written_rows_per_second": rows / write,
        "input_bytes_a_row": source.files[0].size / rows,
        "output_bytes_a_row": sizes[0] / rows,
        "ledger_bytes_a_group": sizes[1] / len(groups),
    }
    shown = [[name.replace("_", " "), value] for name, value in found.items()]
    return {"driver": found, "tables": [table("One driver", ["", ""], shown)]}


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    made = parser(__doc__ or "", rounds=3)
    made.add_argument("--bundle", default="tiny")
    made.add_argument("--rows", type=int, default=3000)
    made.add_argument("--tokens", type=int, default=16, help="a row")
    made.add_argument("--users", type=int, nargs="*", default=[10, 100, 1_000, 10_000, 100_000])
    made.add_argument(
        "--part", choices=["workers", "stores", "models", "driver"], action="append", help="one of the parts alone"
    )
    made.add_argument("--quick", action="store_true")
    given = made.parse_args()
    given.rounds = 1 if given.quick else given.rounds
    parts = {"workers": workers, "stores": stores, "models": models, "driver": driver}
    report: dict[str, Any] = {
        "benchmark": "scale",
        "bundle": given.bundle,
        "tokens": given.tokens,
        "tables": [],
        "goals": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in given.part or parts:
            found = parts[name](given, Path(folder))
            report["tables"] += found.pop("tables")
            report |= found
            write_json(report, given.json)
    finish(report, given.json)


if __name__ == "__main__":
    main()
