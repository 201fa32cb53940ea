"""What a LoRA adapter costs a request: milliseconds to the first token of a prompt, with one adapter and with many.

``python benchmarks/adapter_swap.py --model tiny --model 135m --json out.json``. Without an adapter; with the one that
the request before had; with another one each time, all in memory; and with one that is read from its file each time.
Beside them ``llama_cpp.Llama`` without and with another one each time. Adapters are random, rank 8 on query and value
matrices.
"""

from __future__ import annotations

import tempfile
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from apart import Apart
from common import finish, interleaved, parser, ratio, summary, table, user_ids
from many_users import ADAPTERS, InTurn, Job
from random_llama import SHAPES, model_file
from random_lora import write_lora

REQUESTS = 16
"""Requests of a contender in a round; their median counts."""
BARE, SAME, ANOTHER, READ = "no adapter", "the same adapter", "another adapter", "another, read from its file"
PEER, PEER_ANOTHER = "llama_cpp.Llama, no adapter", "llama_cpp.Llama, another adapter"


class Ours:
    """This runtime; ``kept`` False leaves room for no adapter but the one in use."""

    def __init__(self, job: Job, folder: Path, kept: bool) -> None:
        from personaplug_edge.engine import LLM
        from personaplug_edge.sampling import Sampling

        room = {} if kept else {"adapter_bytes": 1}
        self._llm = LLM.load(job.model, threads=job.threads, context=job.context, **room)
        self._prompt = user_ids(0, job.prompt, job.shape.vocabulary)
        self._sampling = Sampling(max_tokens=1, ignore_end=True)
        self._names = [f"adapter {number}" for number in range(ADAPTERS)]
        for number, name in enumerate(self._names):
            self._llm.add_adapter(name, folder / f"{number}.gguf")

    def milliseconds(self, adapters: int) -> float:
        """Of a request; each takes the next of so many adapters, 0 for none."""
        from personaplug_edge.prompt import Prompt
        from personaplug_edge.request_options import RequestOptions

        names = cycle(self._names[:adapters] or [""])
        prompt, seconds = Prompt.tokens(self._prompt), []
        for number in range(REQUESTS + 1):
            options = RequestOptions(adapter=next(names))
            start = perf_counter()
            self._llm.generate(prompt, self._sampling, options)
            if number:  # the first one may find another adapter than it is to find
                seconds.append(perf_counter() - start)
        return 1e3 * median(seconds)


def measure(job: Job, rounds: int) -> dict[str, Any]:
    """Milliseconds of every contender; ratios of each round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(ADAPTERS):
            write_lora(folder / f"{number}.gguf", job.shape, seed=number)
        kept, unkept = Apart(Ours, job, folder, True), Apart(Ours, job, folder, False)
        peer = Apart(InTurn, job, ADAPTERS, folder)
        figures = interleaved(
            {
                BARE: lambda: kept.call("milliseconds", 0),
                SAME: lambda: kept.call("milliseconds", 1),
                ANOTHER: lambda: kept.call("milliseconds", ADAPTERS),
                READ: lambda: unkept.call("milliseconds", ADAPTERS),
                PEER: lambda: 1e3 / peer.call("plain"),
                PEER_ANOTHER: lambda: 1e3 / peer.call("lora"),
            },
            rounds,
        )
        for process in (kept, unkept, peer):
            process.close()
    return {
        "milliseconds": {name: summary(values) for name, values in figures.items()},
        "ratio": {f"{name} / {BARE}": ratio(values, figures[BARE]) for name, values in figures.items()},
    }


def main() -> None:
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--model", choices=list(SHAPES), action="append", help="may be repeated; tiny by default")
    options.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    given = options.parse_args()
    report: dict[str, Any] = {"benchmark": "adapter_swap", "models": {}, "tables": [], "goals": []}
    for name in given.model or ["tiny"]:
        model = model_file(name, given.folder)
        job = Job(model=model, shape=SHAPES[name], threads=given.threads, prompt=given.prompt, tokens=1)
        found = report["models"][name] = measure(job, given.rounds)
        rows = [
            [each, figures["median"], found["ratio"][f"{each} / {BARE}"]["median"]]
            for each, figures in found["milliseconds"].items()
        ]
        title = f"{name}: milliseconds to the first token of {given.prompt} tokens"
        report["tables"].append(table(title, ["", "ms", f"times {BARE}"], rows))
    finish(report, given.json)


if __name__ == "__main__":
    main()
