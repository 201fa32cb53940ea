"""A contender of memory.py: a process that loads, answers, and says what memory it took.

Apart from memory.py, so that it imports nothing but what is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

OURS, ALONE, PEER = "ours", "ours, LLM alone", "llama_cpp.Llama"
PROMPT, TOKENS, CONTEXT = 64, 128, 512
STATUS = {"peak_bytes": "VmHWM", "steady_bytes": "VmRSS", "private_bytes": "RssAnon"}
"""What is told, by its line in /proc/self/status; the last is that part of steady that is no page of a file."""


def memory() -> dict[str, int]:
    """Bytes by the names of STATUS; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return dict.fromkeys(STATUS, 0)
    return {name: 1024 * int(lines[line].split()[0]) for name, line in STATUS.items()}


def main(kind: str, path: str, threads: int, vocabulary: int) -> None:
    """Loads, answers, prints a line at the first token, and what memory it took."""
    ids = [(index * 7919 + 13) % vocabulary for index in range(PROMPT)]  # common.prompt_ids
    loaded, pieces = {OURS: _ours, ALONE: _alone, PEER: _peer}[kind](path, threads, ids)
    for count, _ in enumerate(pieces, 1):  # our pieces may be of several tokens
        if count == 1:
            print('{"first": true}', flush=True)
        if count == TOKENS:
            break
    # While it is still loaded: the bare loop too is measured before it frees.
    print(json.dumps(memory()))
    del loaded


def _ours(path: str, threads: int, ids: list[int]) -> tuple[object, Iterator[object]]:
    from personaplug_edge import PersonaPlug, Prompt, Sampling

    plug = PersonaPlug.load(path, threads=threads, context=CONTEXT)
    plug.user("somebody").remember_all([("the city film wins after a long game", "sports"), ("a small house", "home")])
    persona = plug.user("somebody").persona("what is new in the city")
    prompt = Prompt.rows(plug.embedder.instruction) + Prompt.rows(persona) + Prompt.tokens(ids)
    return plug, plug.llm.stream(prompt, Sampling(max_tokens=TOKENS, ignore_end=True))


def _alone(path: str, threads: int, ids: list[int]) -> tuple[object, Iterator[object]]:
    from personaplug_edge import LLM, Prompt, Sampling

    llm = LLM.load(path, threads=threads, context=CONTEXT)
    return llm, llm.stream(Prompt.tokens(ids), Sampling(max_tokens=TOKENS, ignore_end=True))


def _peer(path: str, threads: int, ids: list[int]) -> tuple[object, Iterator[object]]:
    import llama_cpp

    sizes = {"n_ctx": CONTEXT, "n_batch": 512, "n_threads": threads, "n_threads_batch": threads}
    llama = llama_cpp.Llama(path, **sizes, flash_attn=True, verbose=False)
    return llama, llama.generate(ids, temp=0.0, repeat_penalty=1.0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
