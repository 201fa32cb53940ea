"""Greedy decoding of one sequence: tokens a second of this runtime, of llama-cpp-python, and of a bare C loop.

``python benchmarks/decode.py --model 135m --json out.json``. The same GGUF file, prompt, number of tokens, threads,
context, f16 key/value cache and flash attention (llama.cpp's "auto", which is on where it can be; llama-cpp-python
knows on and off, so it gets on). This runtime reads weights into huge pages where the system has them; a turn with the
file mapped, as the others have it, tells what that alone is worth. Timed from the first token to the last: the prompt
does not count. Each contender's turn is a process of its own, with one answer to warm up, and the best of three that
follow: where the system puts a process's memory makes it some hundredths faster or slower for as long as it lives, and
its first seconds are uneven.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apart import Apart
from common import find_binary, finish, goal, interleaved, parser, prompt_ids, ratio, run_json, summary, table
from random_llama import SHAPES, model_file

OURS = "personaplug stream"
MAPPED = "personaplug stream, file mapped"
PEER = "llama_cpp generate"
COMPLETION = "llama_cpp create_completion"
BARE = "bare C loop"
COUNTED = 3
"""Answers of a turn that count, after one to warm up."""
LEAST = {"tiny": 0.92, "135m": 0.98, "1.1b": 0.98}
"""Of the bare loop's tokens a second, at least; of a tiny model, what is around the decode weighs more."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What each contender does."""

    model: Path
    vocabulary: int
    threads: int
    prompt: int
    tokens: int

    @property
    def context(self) -> int:
        """Positions needed, rounded up to 512."""
        return -(-(self.prompt + self.tokens) // 512) * 512


class Ours:
    """This runtime, streaming through Python: token ids, log and whole characters of text as an app gets them."""

    mmap: bool | None = None

    def __init__(self, job: Job) -> None:
        from personaplug_edge.engine import LLM
        from personaplug_edge.prompt import Prompt
        from personaplug_edge.sampling import Sampling

        self._llm = LLM.load(job.model, threads=job.threads, context=job.context, mmap=self.mmap)
        self._prompt = Prompt.tokens(prompt_ids(job.prompt, job.vocabulary))
        self._sampling = Sampling(max_tokens=job.tokens, ignore_end=True)
        self.produced: list[int] = []

    def last(self) -> list[int]:
        """The tokens of the last round."""
        return self.produced

    def stream(self) -> float:
        """LLM.stream, greedy."""
        return _best(self._once)

    def _once(self) -> float:
        self.produced, first, start = [], 0, 0.0
        for chunk in self._llm.stream(self._prompt, self._sampling):
            self.produced += chunk.tokens
            if not first and self.produced:
                first, start = len(self.produced), time.perf_counter()
        return (len(self.produced) - first) / (time.perf_counter() - start)


class OursMapped(Ours):
    """The same with the load mode that the others have."""

    mmap = True


class Peer:
    """llama-cpp-python: its loop of token ids, and its streaming completion."""

    def __init__(self, job: Job) -> None:
        import llama_cpp

        self._job, self._ids = job, prompt_ids(job.prompt, job.vocabulary)
        self._llama = llama_cpp.Llama(
            str(job.model),
            n_ctx=job.context,
            n_batch=512,
            n_threads=job.threads,
            n_threads_batch=job.threads,
            flash_attn=True,
            verbose=False,
        )
        self.produced: list[int] = []

    def last(self) -> list[int]:
        """The tokens of the last round of ``generate``."""
        return self.produced

    def generate(self) -> float:
        """Llama.generate, temperature 0."""
        return _best(self._generate)

    def complete(self) -> float:
        """Llama.create_completion, temperature 0, streaming: text, as apps use it."""
        return _best(self._complete)

    def _generate(self) -> float:
        self._llama.reset()
        self.produced = []
        loop = self._llama.generate(self._ids, temp=0.0, repeat_penalty=1.0)
        return _rate(loop, self._job.tokens, self.produced)

    def _complete(self) -> float:
        self._llama.reset()
        chunks = self._llama.create_completion(
            self._ids, max_tokens=self._job.tokens, temperature=0.0, repeat_penalty=1.0, stream=True
        )
        start = 0.0
        for _ in chunks:
            start = start or time.perf_counter()
        # Its stream tells no ids; n_tokens says how many were decoded.
        made = self._llama.n_tokens - len(self._ids) + 1
        if made < self._job.tokens:
            raise SystemExit(f"{COMPLETION}: expected {self._job.tokens} tokens, got {made}")
        return (self._job.tokens - 1) / (time.perf_counter() - start)


def bare_loop(binary: Path, job: Job, last: dict[str, Any]) -> Callable[[], float]:
    """benchmarks/c_loop in a process of its own; it warms up and times itself. Its last token goes to ``last``."""
    sizes = (job.threads, job.prompt, job.tokens, job.context, COUNTED)

    def run() -> float:
        done = run_json([binary, job.model, *sizes])
        last[BARE] = done["last_token"]
        return float(done["decode_tokens_per_second"])

    return run


def measure(job: Job, rounds: int, binary: Path | None) -> dict[str, Any]:
    """All contenders in turns; tokens a second, ratios by round, and whether they made the same tokens."""
    last: dict[str, Any] = {}

    def turn(name: str, made: type[Ours] | type[Peer], method: str) -> Callable[[], float]:
        def run() -> float:
            contender = Apart(made, job)
            rate: float = contender.call(method)
            last[name] = contender.call("last")
            contender.close()
            return rate

        return run

    contenders: dict[str, Callable[[], float]] = {
        OURS: turn(OURS, Ours, "stream"),
        MAPPED: turn(MAPPED, OursMapped, "stream"),
        PEER: turn(PEER, Peer, "generate"),
        COMPLETION: turn(COMPLETION, Peer, "complete"),
    }
    if binary is not None:
        contenders[BARE] = bare_loop(binary, job, last)
    figures = interleaved(contenders, rounds)
    same = last[OURS] == last[PEER]
    if binary is not None:
        same = same and last[BARE] == last[OURS][-1]
    pairs = [(OURS, name) for name in figures if name != OURS]
    pairs += [(MAPPED, name) for name in figures if name not in (OURS, MAPPED)]
    return {
        "tokens_per_second": {name: summary(values) for name, values in figures.items()},
        "ratio": {f"{one} / {other}": ratio(figures[one], figures[other]) for one, other in pairs},
        "same_tokens": same,
    }


def _best(once: Callable[[], float]) -> float:
    """One answer to warm up, then the best of COUNTED, as the bare loop does."""
    once()
    return max(once() for _ in range(COUNTED))


def _rate(loop: Iterator[int], count: int, produced: list[int]) -> float:
    start = 0.0
    for token in loop:
        start = start or time.perf_counter()
        produced.append(token)
        if len(produced) == count:
            break
    return (count - 1) / (time.perf_counter() - start)


def tables(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One for all models: rates, then ratios."""
    first = next(iter(results.values()))
    rows: list[list[object]] = [
        [name, *(result["tokens_per_second"][name]["median"] for result in results.values())]
        for name in first["tokens_per_second"]
    ]
    rows += [[pair, *(result["ratio"][pair]["median"] for result in results.values())] for pair in first["ratio"]]
    rows.append(["the same tokens", *("yes" if result["same_tokens"] else "no" for result in results.values())])
    return [table("tokens a second, one sequence", ["", *results], rows)]


def goals(name: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Nearly as fast as the bare loop, and faster than llama_cpp.Llama both ways."""
    over = {pair: figures["median"] for pair, figures in result["ratio"].items()}
    made = [goal(f"{name}: {OURS} / {other}", over[f"{OURS} / {other}"], least=1.0) for other in (PEER, COMPLETION)]
    if f"{OURS} / {BARE}" in over:
        made.append(goal(f"{name}: {OURS} / {BARE}", over[f"{OURS} / {BARE}"], least=LEAST[name]))
    return made


def main() -> None:
    options = parser(__doc__ or "", rounds=7)
    options.add_argument("--model", choices=list(SHAPES), action="append", help="may be repeated; 135m by default")
    options.add_argument("--prompt", type=int, default=64, help="tokens in the prompt")
    options.add_argument("--tokens", type=int, default=128, help="tokens to generate")
    options.add_argument("--c-loop", type=Path, help="the bare loop's binary (PERSONAPLUG_BENCHMARKS=ON builds it)")
    given = options.parse_args()
    binary = find_binary("personaplug_c_loop", given.c_loop)
    settings = {"threads": given.threads, "prompt": given.prompt, "tokens": given.tokens}
    results = {}
    for name in given.model or ["135m"]:
        job = Job(model=model_file(name, given.folder), vocabulary=SHAPES[name].vocabulary, **settings)
        results[name] = measure(job, given.rounds, binary)
    met = [each for name, result in results.items() for each in goals(name, result)]
    if binary is None:
        print("bare C loop: not built, left out (cmake --preset dev && cmake --build --preset dev)")
    finish({"benchmark": "decode", **settings, "models": results, "tables": tables(results), "goals": met}, given.json)


if __name__ == "__main__":
    main()
