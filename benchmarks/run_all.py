"""All benchmarks, one after another: ``python benchmarks/run_all.py RESULTS [--quick]``, a JSON file of each there.

The whole takes about 40 minutes of two quiet cores, ``--quick`` about three: smaller models, fewer rounds, and figures
that only show that all of it runs. A benchmark that fails does not stop the others; the exit status tells.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from common import ROOT
from memory import environment

HERE = Path(__file__).resolve().parent
RUNS: dict[str, list[list[str]]] = {
    "decode": [
        ["--model", "tiny", "--model", "135m", "--model", "1.1b", "--rounds", "9", "--tokens", "48"],
        ["--model", "tiny", "--rounds", "2", "--tokens", "32"],
    ],
    "time_to_first_token": [
        ["--model", "135m", "--model", "1.1b", "--rounds", "4", "--range", "48", "80", "8"],
        ["--model", "tiny", "--rounds", "2", "--range", "48", "80", "16"],
    ],
    "many_users": [
        ["--model", "tiny", "--model", "135m", "--rounds", "5"],
        ["--model", "tiny", "--rounds", "2", "--tokens", "16"],
    ],
    "adapter_swap": [["--model", "tiny", "--model", "135m"], ["--rounds", "1"]],
    "history_intake": [[], ["--count", "32", "--rounds", "1"]],
    "history_growth": [[], ["--items", "10", "1000", "--rounds", "5", "--users", "50"]],
    "personal_embedding": [[], ["--items", "10", "1000", "--rounds", "5"]],
    "memory": [["--model", "tiny", "--model", "135m"], ["--model", "tiny", "--rounds", "2"]],
    "scale": [[], ["--quick"]],
}
"""Arguments by script: in full, and quick."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("results", type=Path, help="folder for the JSON files; made when missing")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only", choices=list(RUNS), action="append", help="may be repeated")
    given = options.parse_args()
    given.results.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in given.only or RUNS:
        script = HERE / f"{name}.py"
        if not script.exists():
            continue
        arguments = RUNS[name][1 if given.quick else 0]
        started = time.perf_counter()
        print(f"== {name} (load {os.getloadavg()[0]:.1f})", flush=True)
        line = [
            sys.executable,
            f"benchmarks/{name}.py",
            *arguments,
            "--json",
            str((given.results / f"{name}.json").resolve()),
        ]
        if subprocess.run(line, cwd=ROOT, env=environment()).returncode:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
