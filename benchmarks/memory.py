"""Memory and start: a process of ours, of ``llama_cpp.Llama``, and of the bare C loop, with the same model and context.

``python benchmarks/memory.py --model 135m --json out.json``. Each contender is a process of its own (memory_child.py)
that loads the model, answers one prompt of 64 tokens with 128, and says how much memory was resident at most and at the
end, before anything is freed, and how much of the latter is private: no page of a file, as those of the mapped model
and of libraries are, which processes share and the system can drop. Ours is a whole PersonaPlug with encoder, store and
a persona; "ours, LLM alone" leaves those out. Imports are timed as processes too, less one that imports nothing. Time
to first token runs from the start of the process to its first token, with the files in the system's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import ROOT, find_binary, finish, goal, interleaved, parser, ratio, summary, table
from memory_child import ALONE, CONTEXT, OURS, PEER, PROMPT, STATUS, TOKENS
from random_bundle import bundle_folder
from random_llama import SHAPES, model_file

BARE = "bare C loop"
CHILD = Path(__file__).with_name("memory_child.py")
MODULES = ("numpy", "personaplug_edge", "llama_cpp")
ALLOWED = 60e6
"""Bytes that a process of ours may take beside those of the bare loop and the encoder's file."""


def run(command: Sequence[object]) -> dict[str, Any]:
    """Starts a contender: what it says at its end, and the seconds from its start to its first token."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    process.stdout.readline()
    seconds = time.perf_counter() - start
    rest = process.stdout.read().strip()
    if process.wait() or not rest:
        raise SystemExit(f"{command} failed")
    return {**json.loads(rest.splitlines()[-1]), "first_token_seconds": seconds}


def environment() -> dict[str, str]:
    """That of this process; a tree that is not installed is found by the children too."""
    here = str(ROOT / "python") if any((ROOT / "python" / "personaplug_edge").glob("_core*.so")) else ""
    paths = [here, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def imports(rounds: int) -> dict[str, Any]:
    """Seconds that each import adds to a process that imports nothing."""

    def start(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environment())
        return time.perf_counter() - began

    contenders: dict[str, Callable[[], float]] = {"pass": lambda: start("pass")}
    contenders |= {name: lambda name=name: start(f"import {name}") for name in MODULES}  # type: ignore[misc]
    figures = interleaved(contenders, rounds)
    return {
        name: summary([value - base for value, base in zip(figures[name], figures["pass"], strict=True)])
        for name in MODULES
    }


def measure(name: str, folder: Path, threads: int, rounds: int, binary: Path | None) -> dict[str, Any]:
    """Bytes and seconds of each contender, in turns."""
    bundle, model = bundle_folder(name, folder), model_file(name, folder)
    common = (threads, SHAPES[name].vocabulary)
    commands: dict[str, Sequence[object]] = {
        OURS: (sys.executable, CHILD, OURS, bundle, *common),
        ALONE: (sys.executable, CHILD, ALONE, model, *common),
        PEER: (sys.executable, CHILD, PEER, model, *common),
    }
    if binary is not None:
        commands[BARE] = (binary, model, threads, PROMPT, TOKENS, CONTEXT, 0)
    found: dict[str, list[dict[str, Any]]] = {who: [] for who in commands}

    def turn(who: str) -> float:
        found[who].append(run(commands[who]))
        return 0.0

    interleaved({who: lambda who=who: turn(who) for who in commands}, rounds)  # type: ignore[misc]
    kept = {who: runs[1:] for who, runs in found.items()}
    figures = {
        who: {key: summary([each[key] for each in runs]) for key in (*STATUS, "first_token_seconds")}
        for who, runs in kept.items()
    }
    seconds = {who: figures[who]["first_token_seconds"]["rounds"] for who in figures}
    return {
        "contenders": figures,
        "encoder_bytes": (bundle / "encoder.onnx").stat().st_size,
        "model_bytes": model.stat().st_size,
        "ratio": {f"{OURS} / {who}, first token": ratio(seconds[OURS], seconds[who]) for who in seconds if who != OURS},
    }


def goals(name: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    contenders = result["contenders"]
    if BARE not in contenders:
        return []
    found = []
    for key in ("peak_bytes", "steady_bytes"):
        more = contenders[OURS][key]["median"] - contenders[BARE][key]["median"]
        most = (result["encoder_bytes"] + ALLOWED) / 1e6
        found.append(
            goal(f"{name}: MB beside the bare loop's, {key.partition('_')[0]}", more / 1e6, most=round(most, 1))
        )
    return found


def main() -> None:
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--model", choices=list(SHAPES), action="append", help="may be repeated; 135m by default")
    options.add_argument("--c-loop", type=Path, help="the bare loop's binary")
    given = options.parse_args()
    binary = find_binary("personaplug_c_loop", given.c_loop)
    models = {
        name: measure(name, given.folder, given.threads, given.rounds, binary) for name in given.model or ["135m"]
    }
    took = imports(given.rounds)
    rows = [
        [f"{name}: {who}", *(figures[key]["median"] / 1e6 for key in STATUS), figures["first_token_seconds"]["median"]]
        for name, result in models.items()
        for who, figures in result["contenders"].items()
    ]  # fmt: skip
    shown = [
        table(
            "resident memory, and start",
            ["", "peak MB", "steady MB", "private MB", "start to first token, s"],
            rows,
        ),
        table("imports", ["module", "seconds"], [[name, each["median"]] for name, each in took.items()]),
    ]
    met = [each for name, result in models.items() for each in goals(name, result)]
    met.append(goal("seconds of import personaplug_edge", took["personaplug_edge"]["median"], most=0.15))
    report = {"benchmark": "memory", "threads": given.threads, "models": models, "import_seconds": took}
    finish({**report, "tables": shown, "goals": met}, given.json)


if __name__ == "__main__":
    main()
