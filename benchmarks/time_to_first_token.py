"""What a persona costs until the first token, beside the plain prompt and beside history put into the prompt as text.

``python benchmarks/time_to_first_token.py --model 1.1b --json out.json``. The LLM has random weights; encoder and head
are those of the shipped ``tiny``, the projections random; the user has a stored history of 100 items. Contenders:

- plain: the prompt alone; and the same through ``llama_cpp.Llama``
- query: instruction and persona rows in front, the persona made before the clock starts
- query + encoder: the request's text is encoded, and the persona aggregated from the store, within the time
- static, first: the rows of a static persona that is met for the first time, and kept
- static, known: the same persona again; what it is kept as is found, and only the prompt is run
- top-4 text: four history items of 40 tokens as text in front, found at no cost at all

Prompts of 16, 64 and 256 tokens, and the median over lengths from 48 to 80: one length alone would tell of tile sizes
(65 positions cost more than 65/64 of 64). Each measurement has a prompt of its own, the same for all contenders.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from apart import Apart
from common import finish, goal, interleaved, parser, ratio, summary, table
from random_bundle import bundle_folder
from random_llama import SHAPES

from personaplug_edge import PersonaPlug, Prompt, Sampling
from personaplug_edge.request_options import RequestOptions

if TYPE_CHECKING:
    from personaplug_edge.engine import LLM

USER = "somebody"
PLAIN, PEER, QUERY, ENCODER = "plain", "llama_cpp.Llama, plain", "query", "query + encoder"
FIRST, KNOWN, RETRIEVAL = "static, first", "static, known", "top-4 text"
ONE_TOKEN = Sampling(max_tokens=1, ignore_end=True)
WORDS = (
    "the a new old small long game film city house says makes wins after before with without under people day".split()
)
WORDS_A_TOKEN = 0.75
"""Of English in a usual vocabulary: how much text the encoder gets for a prompt of so many tokens."""


class Contenders:
    """The ways to a first token, each a method of (ids of the prompt, its text); seconds."""

    def __init__(self, plug: PersonaPlug, threads: int, *, items: int = 100, item_tokens: int = 40) -> None:
        self._plug, self._rng, self._numbers = plug, np.random.default_rng(1), itertools.count()
        self._item_tokens = item_tokens
        plug.user(USER).remember_all((sentence(self._rng, 30), "politics") for _ in range(items))
        self._start = Prompt.tokens([plug.llm.model.bos])
        self._instruction = Prompt.rows(plug.embedder.instruction)
        self._query = Prompt.rows(plug.user(USER).persona("what is new"))
        self._static = Prompt.rows(plug.user(USER).persona())
        self._peer = Apart(Peer, plug.bundle.llm_path, plug.llm.context, threads)

    def plain(self, ids: list[int], text: str) -> float:
        return self._run(lambda: self._start + Prompt.tokens(ids))

    def query(self, ids: list[int], text: str) -> float:
        return self._run(lambda: self._start + self._instruction + self._query + Prompt.tokens(ids))

    def query_with_encoder(self, ids: list[int], text: str) -> float:
        def prompt() -> Prompt:
            persona = Prompt.rows(self._plug.user(USER).persona(text))
            return self._start + self._instruction + persona + Prompt.tokens(ids)

        return self._run(prompt)

    def static_first(self, ids: list[int], text: str) -> float:
        return self._run(lambda: self._static_prompt(ids), self._keep(f"new {next(self._numbers)}"))

    def static_known(self, ids: list[int], text: str) -> float:
        return self._run(lambda: self._static_prompt(ids), self._keep(USER))

    def retrieval(self, ids: list[int], text: str) -> float:
        items = self._rng.integers(3, self._plug.llm.model.vocabulary_size, 4 * self._item_tokens).tolist()
        return self._run(lambda: self._start + Prompt.tokens(items + ids))

    def llama_cpp(self, ids: list[int], text: str) -> float:
        return float(self._peer.call("first_token", [self._plug.llm.model.bos, *ids]))

    def close(self) -> None:
        """Ends the peer's process."""
        self._peer.close()

    def all(self) -> dict[str, Callable[[list[int], str], float]]:
        """By name; the plain prompt first."""
        return {
            PLAIN: self.plain,
            PEER: self.llama_cpp,
            QUERY: self.query,
            ENCODER: self.query_with_encoder,
            FIRST: self.static_first,
            KNOWN: self.static_known,
            RETRIEVAL: self.retrieval,
        }

    def _static_prompt(self, ids: list[int]) -> Prompt:
        return self._start + self._instruction + self._static + Prompt.tokens(ids)

    def _keep(self, owner: str) -> RequestOptions:
        return RequestOptions(owner=owner, keep=(len(self._static_prompt([])),))

    def _run(self, prompt: Callable[[], Prompt], options: RequestOptions | None = None) -> float:
        start = time.perf_counter()
        self._plug.llm.generate(prompt(), ONE_TOKEN, options)
        return time.perf_counter() - start


class Peer:
    """``llama_cpp.Llama`` with the same model, in a process of its own."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        import llama_cpp

        sizes = {"n_ctx": context, "n_batch": 512, "n_threads": threads, "n_threads_batch": threads}
        self._llama = llama_cpp.Llama(str(path), **sizes, flash_attn=True, verbose=False)

    def first_token(self, ids: list[int]) -> float:
        """Seconds to the first token of its fastest loop."""
        start = time.perf_counter()
        next(iter(self._llama.generate(ids, temp=0.0, repeat_penalty=1.0)))
        return time.perf_counter() - start


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(str(word) for word in rng.choice(WORDS, words))


def measure(contenders: Contenders, llm: LLM, lengths: Iterable[int], rounds: int) -> dict[str, Any]:
    """Milliseconds over all lengths and rounds, and ratios to the plain prompt and to top-4 text of each round."""
    rng = np.random.default_rng(2)
    seconds: dict[str, list[float]] = {name: [] for name in contenders.all()}
    for number, length in enumerate(lengths):
        warm = number == 0
        prompts = [
            (rng.integers(3, llm.model.vocabulary_size, length).tolist(), sentence(rng, round(WORDS_A_TOKEN * length)))
            for _ in range(rounds + warm)
        ]
        turns = {name: _turns(call, prompts) for name, call in contenders.all().items()}
        for name, values in interleaved(turns, rounds, warm=warm).items():
            seconds[name] += values
    return {
        "lengths": list(lengths),
        "milliseconds": {name: summary([1e3 * value for value in values]) for name, values in seconds.items()},
        "ratio": {
            **{f"{name} / {PLAIN}": ratio(values, seconds[PLAIN]) for name, values in seconds.items() if name != PLAIN},
            **{
                f"{name} / {RETRIEVAL}": ratio(seconds[name], seconds[RETRIEVAL])
                for name in (ENCODER, KNOWN)
                if name in seconds
            },
        },
    }


def _turns(call: Callable[[list[int], str], float], prompts: list[tuple[list[int], str]]) -> Callable[[], float]:
    left = iter(prompts)
    return lambda: call(*next(left))


def tables(name: str, parts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    columns = ["milliseconds", *parts]
    contenders = list(next(iter(parts.values()))["milliseconds"])
    times = [[who, *(part["milliseconds"][who]["median"] for part in parts.values())] for who in contenders]
    pairs = list(next(iter(parts.values()))["ratio"])
    ratios = [[pair, *(part["ratio"][pair]["median"] for part in parts.values())] for pair in pairs]
    return [
        table(f"{name}: time to first token by tokens of the prompt", columns, times),
        table(f"{name}: ratios", ["median of the rounds", *parts], ratios),
    ]


def goals(name: str, part: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked of 135m and 1.1b over lengths 48 to 80; nothing of ``tiny``, which is too small."""
    over = {pair: figures["median"] for pair, figures in part["ratio"].items()}

    def most(pair: str, limit: float) -> dict[str, Any]:
        return goal(f"{name}: {pair}", over[pair], most=limit)

    if name == "135m":
        return [most(f"{QUERY} / {PLAIN}", 1.06)]
    if name == "1.1b":
        return [
            most(f"{QUERY} / {PLAIN}", 1.05),
            most(f"{ENCODER} / {PLAIN}", 1.10),
            most(f"{KNOWN} / {PLAIN}", 1.03),
            most(f"{ENCODER} / {RETRIEVAL}", 0.4),
        ]
    return []


def main() -> None:
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--model", choices=list(SHAPES), action="append", help="may be repeated; 135m by default")
    options.add_argument("--lengths", type=int, nargs="*", default=[16, 64, 256], help="reported one by one")
    options.add_argument("--range", type=int, nargs=3, default=[48, 80, 4], help="shortest, longest, step: one median")
    options.add_argument("--item-tokens", type=int, default=40, help="of each of the four items put in as text")
    options.add_argument("--items", type=int, default=100, help="in the user's history")
    given = options.parse_args()
    shortest, longest, step = given.range
    report: dict[str, Any] = {"benchmark": "time_to_first_token", "threads": given.threads, "models": {}}
    report |= {"item_tokens": given.item_tokens, "history_items": given.items, "tables": [], "goals": []}
    for name in given.model or ["135m"]:
        with PersonaPlug.load(bundle_folder(name, given.folder), threads=given.threads, context=512) as plug:
            contenders = Contenders(plug, given.threads, items=given.items, item_tokens=given.item_tokens)
            wanted = {f"{shortest} to {longest}": range(shortest, longest + 1, step)}
            wanted |= {str(length): range(length, length + 1) for length in given.lengths}
            parts = {label: measure(contenders, plug.llm, lengths, given.rounds) for label, lengths in wanted.items()}
            contenders.close()
        report["models"][name] = parts
        report["tables"] += tables(name, parts)
        report["goals"] += goals(name, parts[f"{shortest} to {longest}"])
    finish(report, given.json)


if __name__ == "__main__":
    main()
