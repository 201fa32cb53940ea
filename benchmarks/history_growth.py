"""What a long history costs a request and a new item: the bundle's whole path, store and encoder included.

``python benchmarks/history_growth.py --json out.json``. Histories of 10 to 100,000 items on disk; medians over rounds.
``persona`` is everything between the request's text and the persona rows but the encoding of the request, which is
``encode``; ``first`` is the same after a restart, with nothing in memory; ``remember`` adds one item, synced to disk.
A second table has the time from a request's text to its prompt by other methods, encoding included.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import finish, goal, parser, table

from personaplug_edge import NewItem, PersonaPlug
from personaplug_edge.personalizer import Personalizer
from personaplug_edge.request import RequestText

REQUEST = "category of article: The mayor opened the new stadium and was booed."
METHODS = ("pplug", "pplug-static", "recency:4", "bm25:4", "dense:4", "pplug+bm25:1")
LABELS = ("politics", "sports", "travel")


def fill(plug: PersonaPlug, user: str, items: int) -> None:
    """Stores items with random vectors, a thousand a transaction: what is measured does not look at their values."""
    rng = np.random.default_rng(items)
    for start in range(0, items, 1000):
        count = min(1000, items - start)
        vectors = rng.standard_normal((count, plug.embedder.width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        plug.store.add(
            user,
            [NewItem(f"text {start + i} of {user}", output="politics") for i in range(count)],
            encoder_key=plug.bundle.encoder_key,
            vectors=vectors,
            bundle_key=plug.bundle.bundle_key,
            projections=plug.embedder.project(vectors),
        )


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """The median over rounds, after one that is dropped."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(1e3 * median(seconds[1:]), 3)


def measure(plug: PersonaPlug, items: int, rounds: int) -> dict[str, Any]:
    """The costs for one user of so many items."""
    user = plug.user(f"user-{items}")
    fill(plug, user.id, items)
    query = plug.embedder.query(REQUEST)
    encode, plug.embedder.query = plug.embedder.query, lambda text: query  # type: ignore[method-assign]
    try:
        persona = milliseconds(lambda: plug.personalize(REQUEST, user=user), rounds)
        static = milliseconds(lambda: plug.personalize(REQUEST, user=user, persona="static"), rounds)
        request = RequestText(plug.bundle.manifest.prompt, plug.llm)

        def restarted() -> None:
            fresh = Personalizer(plug.bundle, plug.embedder, plug.store, request, plug.reembed)
            fresh.prompt(REQUEST, user=user.id)

        first = milliseconds(restarted, 5)
    finally:
        plug.embedder.query = encode  # type: ignore[method-assign]
    methods = {m: milliseconds(lambda m=m: plug.personalize(REQUEST, user=user, method=m), rounds) for m in METHODS}
    methods["vote"] = milliseconds(lambda: plug.choose(REQUEST, LABELS, user=user, method="vote"), rounds)
    numbers = iter(range(10**6))
    remember = milliseconds(lambda: user.remember(f"new {next(numbers)}", output="politics"), rounds)
    return {
        "items": items,
        "encode_ms": milliseconds(lambda: plug.embedder.query(REQUEST), rounds),
        "persona_ms": persona,
        "static_ms": static,
        "first_ms": first,
        "remember_ms": remember,
        "methods_ms": methods,
    }


def stored(plug: PersonaPlug, users: int, items: int) -> tuple[float, float]:
    """Bytes on disk an item, and a user beside the items: the growth of the file, its log written back."""

    def size() -> int:
        with closing(sqlite3.connect(plug.store.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(plug.store.path).stat().st_size

    before = size()
    fill(plug, "one of many items", users * items)
    an_item = (size() - before) / (users * items)
    before = size()
    for number in range(users):
        fill(plug, f"user {number:06}", items)
    return an_item, (size() - before) / users - items * an_item


def main() -> None:
    options = parser(__doc__ or "", rounds=25)
    options.add_argument("--bundle", default="tiny")
    options.add_argument("--items", type=int, nargs="*", default=[10, 100, 1_000, 10_000, 100_000])
    options.add_argument("--users", type=int, default=500, help="for bytes a user; ten items each")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with PersonaPlug.load(given.bundle, store=Path(folder) / "history.db", threads=given.threads) as plug:
            an_item, a_user = stored(plug, given.users, 10)
            rows = [measure(plug, items, given.rounds) for items in given.items]
            row_bytes = 2 * (plug.embedder.width + plug.embedder.cold_start.size)
    costs = [name for name in rows[0] if name != "methods_ms"]
    shown = [
        table(
            f"a request of a user with so many items, {given.bundle}",
            costs,
            [[row[name] for name in costs] for row in rows],
        ),
        table(
            "from a request's text to its prompt by method, milliseconds",
            ["items", *rows[0]["methods_ms"]],
            [[row["items"], *row["methods_ms"].values()] for row in rows],
        ),
        table(
            "bytes in the store",
            ["", "bytes"],
            [
                ["an item, all told", round(an_item)],
                ["of them vector and projection, float16", row_bytes],
                ["a user beside the items", round(a_user)],
            ],
        ),
    ]
    wanted = [
        goal(f"{row['items']:,} items: milliseconds from text to persona, encoder left out", row["persona_ms"], most=5)
        for row in rows
        if row["items"] == 10_000
    ]
    report = {"benchmark": "history_growth", "rows": rows, "bytes_an_item": an_item, "bytes_a_user": a_user}
    finish({**report, "tables": shown, "goals": wanted}, given.json)


if __name__ == "__main__":
    main()
