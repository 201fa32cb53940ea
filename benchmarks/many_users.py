"""Many users at once: tokens a second for users with a persona each, 64 new tokens a user.

``python benchmarks/many_users.py --model 135m --json out.json``. This runtime with 1, 4, 16 and 64 sequences beside a
bare C loop that decodes as many sequences in one batch (token prompts), ``llama_cpp.Llama`` taking one user after
another, and the same with a LoRA adapter of each user's own: adapters belong to a context, so their users cannot share
a batch. Prompts take the same number of positions everywhere; two of ours are rows (instruction and persona).
This runtime reads weights into huge pages where the system has them; ``--mmap`` lets it map the file as the others do.
Where users come one after another, the rate does not depend on how many there are: 8 of them are measured.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from apart import Apart
from common import find_binary, finish, goal, interleaved, parser, ratio, run_json, summary, table, user_ids
from random_llama import SHAPES, Shape, model_file
from random_lora import write_lora

if TYPE_CHECKING:
    from personaplug_edge.engine import LLM
    from personaplug_edge.prompt import Prompt

IN_TURN = "llama_cpp.Llama in turn"
LORA = "LoRA of each user in turn"
ROWS = 2
"""Rows of a prompt: one instruction, one persona."""
ADAPTERS = 8
"""Different adapter files; each user's is loaded by itself, so that no two users share one."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is measured on which model."""

    model: Path
    shape: Shape
    threads: int
    prompt: int = 64
    tokens: int = 64
    users: int = 64
    mmap: bool | None = None

    @property
    def context(self) -> int:
        """Positions of a sequence, in the 256 that llama.cpp rounds to."""
        return -(-(self.prompt + self.tokens) // 256) * 256

    def users_at(self, sequences: int) -> int:
        """Users that are measured: all of them where they share batches, some where they wait in turn."""
        return min(self.users, max(8, 4 * sequences))


class Ours:
    """This runtime: all requests handed over at once, as many at a time as there are sequences."""

    def __init__(self, job: Job, sequences: int) -> None:
        from personaplug_edge.engine import LLM
        from personaplug_edge.sampling import Sampling

        self._llm = LLM.load(job.model, threads=job.threads, context=job.context, sequences=sequences, mmap=job.mmap)
        self._prompts = [_prompt(job, self._llm, user) for user in range(job.users_at(sequences))]
        self._tokens, self._sampling = job.tokens, Sampling(max_tokens=job.tokens, ignore_end=True)

    def rate(self) -> float:
        """Tokens a second of all users."""
        start = time.perf_counter()
        answers = self._llm.generate_all(self._prompts, self._sampling)
        seconds = time.perf_counter() - start
        made = sum(len(answer.tokens) for answer in answers)
        if made != len(self._prompts) * self._tokens:
            raise SystemExit(f"expected {len(self._prompts) * self._tokens} tokens, got {made}")
        return made / seconds


def _prompt(job: Job, llm: LLM, user: int) -> Prompt:
    from personaplug_edge.prompt import Prompt

    rng = np.random.default_rng(user)
    norm = np.linalg.norm(llm.embedding_rows(list(range(3, 67))), axis=1).mean()
    rows = rng.standard_normal((ROWS, llm.model.embedding_width)).astype(np.float32)
    rows[0] = 1.0  # the instruction is everybody's
    rows *= norm / np.linalg.norm(rows, axis=1, keepdims=True)
    return Prompt.rows(rows) + Prompt.tokens(user_ids(user, job.prompt - ROWS, job.shape.vocabulary))


def bare(binary: Path, job: Job, sequences: int) -> Callable[[], float]:
    """benchmarks/c_loop/c_batched.c in a process of its own, with whichever key/value layout is faster here."""

    def once(unified: int, tokens: int) -> float:
        users = job.users_at(sequences)
        sizes = (job.threads, job.prompt, tokens, users, sequences, job.context, unified, 1)
        return float(run_json([binary, job.model, *sizes])["tokens_per_second"])

    unified = 0 if sequences == 1 else max((0, 1), key=lambda kind: once(kind, min(8, job.tokens)))
    return lambda: once(unified, job.tokens)


class InTurn:
    """``llama_cpp.Llama``, a user after another, by its fastest loop; and with an adapter a user."""

    def __init__(self, job: Job, users: int, folder: Path) -> None:
        import llama_cpp

        self._api, self._job, self._users = llama_cpp, job, users
        self._llama = llama_cpp.Llama(
            str(job.model),
            n_ctx=job.context,
            n_batch=512,
            n_threads=job.threads,
            n_threads_batch=job.threads,
            flash_attn=True,
            verbose=False,
        )
        paths = [write_lora(folder / f"{n}.gguf", job.shape, seed=n) for n in range(min(ADAPTERS, users))]
        self._adapters = [self._load(paths[user % len(paths)]) for user in range(users)]

    def _load(self, path: Path) -> Any:
        adapter = self._api.llama_adapter_lora_init(self._llama.model, str(path).encode())
        if not adapter:
            raise SystemExit(f"llama.cpp does not load the adapter {path}")
        return adapter

    def _set(self, adapter: Any) -> None:
        found = [] if adapter is None else [adapter]
        adapters = (self._api.llama_adapter_lora_p_ctypes * len(found))(*found)
        scales = (ctypes.c_float * len(found))(*[1.0] * len(found))
        if self._api.llama_set_adapters_lora(self._llama.ctx, adapters, len(found), scales):
            raise SystemExit("llama.cpp does not take the adapter")

    def plain(self) -> float:
        """The frozen model for all."""
        self._set(None)
        start = time.perf_counter()
        for user in range(self._users):
            self._answer(user)
        return self._users * self._job.tokens / (time.perf_counter() - start)

    def lora(self) -> float:
        """An adapter a user, all of them in memory: a request only switches."""
        start = time.perf_counter()
        for user in range(self._users):
            self._set(self._adapters[user])
            self._llama.reset()  # keys and values of another adapter are no use
            self._answer(user)
        return self._users * self._job.tokens / (time.perf_counter() - start)

    def _answer(self, user: int) -> None:
        ids = user_ids(user, self._job.prompt, self._job.shape.vocabulary)
        for made, _ in enumerate(self._llama.generate(ids, temp=0.0, repeat_penalty=1.0), 1):
            if made == self._job.tokens:
                return


def measure(job: Job, counts: list[int], rounds: int, binary: Path | None) -> dict[str, Any]:
    """Tokens a second of every contender; ratios of each round."""
    with tempfile.TemporaryDirectory() as folder:
        in_turn = Apart(InTurn, job, job.users_at(1), Path(folder))
    contenders: dict[str, Callable[[], float]] = {
        IN_TURN: lambda: in_turn.call("plain"),
        LORA: lambda: in_turn.call("lora"),
    }
    processes = [in_turn]
    for count in counts:
        processes.append(mine := Apart(Ours, job, count))
        contenders[f"ours, {count}"] = lambda mine=mine: mine.call("rate")  # type: ignore[misc]
        if binary is not None:
            contenders[f"bare, {count}"] = bare(binary, job, count)
    figures = interleaved(contenders, rounds)
    for process in processes:
        process.close()
    pairs = [(f"ours, {count}", other) for count in counts for other in (f"bare, {count}", IN_TURN, LORA)]
    return {
        "tokens_per_second": {name: summary(values) for name, values in figures.items()},
        "ratio": {f"{a} / {b}": ratio(figures[a], figures[b]) for a, b in pairs if b in figures},
    }


def tables(name: str, result: dict[str, Any], counts: list[int]) -> list[dict[str, Any]]:
    rate = {contender: figures["median"] for contender, figures in result["tokens_per_second"].items()}
    over = {pair: figures["median"] for pair, figures in result["ratio"].items()}
    columns = ["sequences", "ours", "bare batched loop", "ours / bare", f"ours / {IN_TURN}", "ours / LoRA in turn"]
    rows = []
    for count in counts:
        mine, base = f"ours, {count}", f"bare, {count}"
        ratios = [over.get(f"{mine} / {other}", "-") for other in (base, IN_TURN, LORA)]
        rows.append([count, rate[mine], rate.get(base, "not built"), *ratios])
    title = f"{name}: tokens/s, {IN_TURN} {rate[IN_TURN]:.1f}, with a LoRA each {rate[LORA]:.1f}"
    return [table(title, columns, rows)]


def goals(name: str, result: dict[str, Any], counts: list[int]) -> list[dict[str, Any]]:
    over = {pair: figures["median"] for pair, figures in result["ratio"].items()}
    made = []
    for count in counts:
        if (pair := f"ours, {count} / bare, {count}") in over:
            made.append(goal(f"{name}, {count} sequences: ours / bare batched loop", over[pair], least=0.95))
        if name == "135m" and count >= 16:
            figure = over[f"ours, {count} / {IN_TURN}"]
            made.append(goal(f"{name}, {count} sequences: ours / {IN_TURN}", figure, least=3))
    return made


def main() -> None:
    options = parser(__doc__ or "", rounds=3)
    options.add_argument("--model", choices=list(SHAPES), action="append", help="may be repeated; 135m by default")
    options.add_argument("--sequences", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--users", type=int, default=64)
    options.add_argument("--prompt", type=int, default=64, help="positions of a prompt, rows included")
    options.add_argument("--tokens", type=int, default=64, help="new tokens a user")
    options.add_argument("--mmap", action="store_true", help="let this runtime map the model file")
    options.add_argument("--c-batched", type=Path, help="the bare loop's binary")
    given = options.parse_args()
    binary = find_binary("personaplug_c_batched", given.c_batched)
    settings = {"threads": given.threads, "prompt": given.prompt, "tokens": given.tokens, "users": given.users}
    report: dict[str, Any] = {
        "benchmark": "many_users",
        **settings,
        "mmap": given.mmap,
        "models": {},
        "tables": [],
        "goals": [],
    }
    for name in given.model or ["135m"]:
        job = Job(model=model_file(name, given.folder), shape=SHAPES[name], mmap=given.mmap or None, **settings)
        result = measure(job, given.sequences, given.rounds, binary)
        report["models"][name] = result
        report["tables"] += tables(name, result, given.sequences)
        report["goals"] += goals(name, result, given.sequences)
    finish(report, given.json)


if __name__ == "__main__":
    main()
