"""What a persona costs until the first token: a prompt with persona rows in front against the same prompt without.

``python benchmarks/time_to_first_token.py --model 135m --json out.json``. Prompts of 48 to 80 tokens: one length alone
would tell of tile sizes (65 positions cost more than 65/64 of 64). The encoder is not counted; with ``--bundle`` a
second part runs whole requests, encoder and aggregation counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import interleaved, ratio, summary, write_json
from random_llama import DEFAULT_FOLDER, SHAPES, model_file

if TYPE_CHECKING:
    from personaplug_edge import PersonaPlug
    from personaplug_edge.engine import LLM
    from personaplug_edge.prompt import Prompt

SHORTEST, LONGEST = 48, 80
WORDS = (
    "the a new old small long game film city house says makes wins after before with without under people day".split()
)


def first_token(llm: LLM, prompt: Prompt) -> float:
    """Seconds from the call to the first token of a greedy answer."""
    from personaplug_edge.sampling import Sampling

    start = time.perf_counter()
    llm.generate(prompt, Sampling(max_tokens=1, ignore_end=True))
    return time.perf_counter() - start


def rows_of_norm(llm: LLM, count: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random rows (count, embedding width) with the mean length of the token table's rows."""
    some = rng.integers(3, llm.model.vocabulary_size, 256).tolist()
    norm = np.linalg.norm(llm.embedding_rows(some), axis=1).mean()
    rows = rng.standard_normal((count, llm.model.embedding_width))
    return np.asarray(rows * (norm / np.linalg.norm(rows, axis=1, keepdims=True)), dtype=np.float32)


def measure_rows(llm: LLM, row_counts: list[int], lengths: range, rounds: int) -> dict[str, Any]:
    """Seconds by length without rows and with so many of them, in turns; each round has a prompt of its own."""
    from personaplug_edge.prompt import Prompt

    rng = np.random.default_rng(0)
    seconds: dict[int, list[float]] = {count: [] for count in (0, *row_counts)}
    for length in lengths:
        # The prompt changes with each round but not within one, so that nothing kept from before can be used again.
        prompts = [
            Prompt.tokens(rng.integers(3, llm.model.vocabulary_size, length).tolist()) for _ in range(rounds + 1)
        ]
        contenders: dict[str, Callable[[], float]] = {}
        for count in seconds:
            rows = Prompt.rows(rows_of_norm(llm, count, rng)) if count else Prompt()
            turn = iter([rows + prompt for prompt in prompts])
            contenders[str(count)] = lambda turn=turn: first_token(llm, next(turn))  # type: ignore[misc]
        for name, values in interleaved(contenders, rounds).items():
            seconds[int(name)] += values
    return {
        "milliseconds": {str(count): _milliseconds(values) for count, values in seconds.items()},
        "ratio": {str(count): ratio(seconds[count], seconds[0]) for count in row_counts},
    }


def measure_bundle(path: str, threads: int, items: int, lengths: range, rounds: int) -> dict[str, Any]:
    """Whole requests of a bundle for a stored history: bare LLM, static persona, query persona with its encoder."""
    from personaplug_edge import PersonaPlug

    rng = np.random.default_rng(1)
    with PersonaPlug.load(path, threads=threads) as plug:
        plug.user("somebody").remember_all(_sentence(rng, 24) for _ in range(items))
        modes = {"none": ("off", False), "static": ("static", True), "query": ("query", True)}
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        for length in lengths:
            texts = [_sentence(rng, length) for _ in range(rounds + 1)]
            contenders = {name: _whole(plug, iter(texts), *mode) for name, mode in modes.items()}
            for name, values in interleaved(contenders, rounds).items():
                seconds[name] += values
        tokens = [len(plug.personalize(_sentence(rng, n), persona="off").prompt) for n in (lengths[0], lengths[-1])]
    return {
        "bundle": Path(path).name,
        "history_items": items,
        "prompt_tokens": tokens,
        "milliseconds": {name: _milliseconds(values) for name, values in seconds.items()},
        "ratio": {name: ratio(values, seconds["none"]) for name, values in seconds.items() if name != "none"},
    }


def _whole(plug: PersonaPlug, texts: Any, persona: Any, instruction: bool) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        request = plug.personalize(next(texts), user="somebody", persona=persona, instruction=instruction)
        return time.perf_counter() - start + first_token(plug.llm, request.prompt)

    return run


def _sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(str(word) for word in rng.choice(WORDS, words))


def _milliseconds(values: list[float]) -> dict[str, Any]:
    return {**summary([1e3 * value for value in values]), "rounds": len(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="135m")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 5], help="rows in front of the prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="at each length")
    parser.add_argument("--step", type=int, default=1, help="between the lengths")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="where models are kept")
    parser.add_argument("--bundle", help="a bundle: measure whole requests too")
    parser.add_argument("--items", type=int, default=100, help="history items of the bundle's user")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from personaplug_edge.engine import LLM

    lengths = range(SHORTEST, LONGEST + 1, given.step)
    with LLM.load(model_file(given.model, given.folder), threads=given.threads, context=512) as llm:
        report: dict[str, Any] = {
            "benchmark": "time_to_first_token",
            "model": given.model,
            "threads": given.threads,
            "lengths": [lengths[0], lengths[-1], given.step],
            "single_pass": llm.engine.single_pass,
            "rows": measure_rows(llm, given.rows, lengths, given.rounds),
        }
    print(f"{given.model}, prompts of {lengths[0]} to {lengths[-1]} tokens, one pass: {report['single_pass']}")
    _show(report["rows"], "rows")
    if given.bundle:
        report["bundle"] = measure_bundle(given.bundle, given.threads, given.items, lengths, given.rounds)
        print(f"{given.bundle}, {given.items} history items, encoder counted")
        _show(report["bundle"], "persona")
    write_json(report, given.json)


def _show(part: dict[str, Any], label: str) -> None:
    for name, figures in part["milliseconds"].items():
        print(f"  {label} {name:8} {figures['median']:9.2f} ms")
    for name, figures in part["ratio"].items():
        print(f"  {label} {name:8} {figures['median']:9.3f} times the time without")


if __name__ == "__main__":
    main()
