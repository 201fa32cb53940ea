"""Logits and greedy tokens of one LLM by PyTorch and by the runtime, for prompts of tokens, of rows, and of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personaplug_edge.prompt import Prompt
from personaplug_export.checks import Rows

if TYPE_CHECKING:
    from torch import Tensor


SUBJECTS = (
    "The committee",
    "My neighbour",
    "A small company in Leeds",
    "The new phone",
    "Nobody",
    "This film",
    "Our team",
)
VERBS = ("announced", "complained about", "bought", "will review", "could not find", "returned", "praised")
OBJECTS = (
    "the quarterly report.",
    "a battery that lasts 3 days!",
    "two tickets for Friday, 9:30 am",
    "an old guitar",
    "the café's opening hours?",
    "12 new rules",
    "the attached invoice (no. 4711)",
    "rain in the mountains",
)


def probe_prompts(count: int) -> list[str]:
    """``count`` different sentences, always the same (up to 392)."""
    triples = [f"{s} {v} {o}" for s in SUBJECTS for v in VERBS for o in OBJECTS]
    order = np.random.default_rng(0).permutation(len(triples))
    return [triples[i] for i in order[:count]]


@dataclass(frozen=True)
class Greedy:
    """Greedy tokens without the end token, and by how much each one won over the second best."""

    tokens: list[int]
    margins: list[float]


class Reference:
    """A Hugging Face causal LM in float32."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.table = self.model.get_input_embeddings()
        ends = self.model.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends])

    def embed(self, prompt: Prompt) -> Tensor:
        """The prompt as inputs_embeds, (1, positions, H)."""
        import torch

        spans = [self.table(torch.tensor(s)) if isinstance(s, list) else torch.from_numpy(s) for s in prompt.spans]
        return torch.cat(spans).unsqueeze(0)

    def logits(self, prompt: Prompt) -> Rows:
        """float32 (positions, vocabulary)."""
        import torch

        with torch.inference_mode():
            return np.asarray(self.model(inputs_embeds=self.embed(prompt)).logits[0].numpy(), dtype=np.float32)

    def greedy(self, prompt: Prompt, count: int) -> Greedy:
        """Up to ``count`` tokens, fewer when the LLM ends."""
        import torch

        found = Greedy([], [])
        with torch.inference_mode():
            inputs: dict[str, Any] = {"inputs_embeds": self.embed(prompt)}
            cache = None
            while len(found.tokens) < count:
                result = self.model(**inputs, past_key_values=cache, use_cache=True)
                best = torch.topk(result.logits[0, -1], 2)
                token = int(best.indices[0])
                if token in self.ends:
                    break
                found.tokens.append(token)
                found.margins.append(float(best.values[0] - best.values[1]))
                inputs, cache = {"input_ids": torch.tensor([[token]])}, result.past_key_values
        return found


class Runtime:
    """The same LLM as a GGUF file in the runtime's engine, float32 cache, flash attention off."""

    def __init__(self, gguf: Path, *, threads: int = 1) -> None:
        from personaplug_edge.engine import LLM

        self.llm = LLM.load(gguf, context=0, threads=threads, cache_type="f32", flash_attention="off")

    def tokenize(self, text: str) -> list[int]:
        """Token ids without special tokens."""
        return self.llm.tokenize(text)

    @property
    def start(self) -> list[int]:
        """The start token, where the LLM wants one."""
        model = self.llm.model
        return [model.bos] if model.adds_bos and model.bos >= 0 else []

    def logits(self, prompt: Prompt) -> Rows:
        """float32 (positions, vocabulary)."""
        return self.llm.logits(prompt)

    def greedy(self, prompt: Prompt, count: int) -> list[int]:
        """Up to ``count`` tokens, without the end token."""
        from personaplug_edge.sampling import Sampling

        answer = self.llm.generate(prompt, Sampling(max_tokens=count, temperature=0.0))
        return [token for token in answer.tokens if not self.llm.model.is_end(token)]


def prompts_of_kinds(runtime: Runtime, texts: Sequence[str], rows: Rows) -> dict[str, list[Prompt]]:
    """Prompts by kind: tokens alone, rows alone, rows among tokens at the front, in the middle and at the end."""
    ids = [runtime.tokenize(text) for text in texts]
    start = Prompt.tokens(runtime.start)
    groups = np.array_split(rows, max(1, len(rows) // 2))
    pick = [groups[i % len(groups)] for i in range(len(ids))]
    halves = [(one[: len(one) // 2], one[len(one) // 2 :]) for one in ids]
    return {
        "tokens": [start + Prompt.tokens(one) for one in ids],
        "rows": [Prompt.rows(np.ascontiguousarray(rows[: 1 + i % len(rows)])) for i in range(len(ids))],
        "rows, tokens": [start + Prompt.rows(r) + Prompt.tokens(one) for r, one in zip(pick, ids, strict=True)],
        "tokens, rows, tokens": [
            start + Prompt.tokens(a) + Prompt.rows(r) + Prompt.tokens(b) for r, (a, b) in zip(pick, halves, strict=True)
        ],
        "tokens, rows": [start + Prompt.tokens(one) + Prompt.rows(r) for r, one in zip(pick, ids, strict=True)],
    }


def largest_difference(reference: Reference, runtime: Runtime, prompts: Sequence[Prompt]) -> float:
    """The largest absolute difference between logits at any position of any prompt."""
    return max(float(np.abs(reference.logits(prompt) - runtime.logits(prompt)).max()) for prompt in prompts)


@dataclass(frozen=True, kw_only=True)
class GreedyComparison:
    """How many prompts continue alike."""

    prompts: int
    equal: int
    tokens: int
    """greedy steps compared"""
    narrowest: float
    """at the first differing token: by how much PyTorch's choice won; the least over prompts, inf where none differs"""
    widest: float
    """the same, the most over prompts; 0 where none differs"""


def compare_greedy(reference: Reference, runtime: Runtime, prompts: Sequence[Prompt], count: int) -> GreedyComparison:
    """Greedy tokens of every prompt by both."""
    equal, tokens, margins = 0, 0, []
    for prompt in prompts:
        wanted, found = reference.greedy(prompt, count), runtime.greedy(prompt, count)
        tokens += len(wanted.tokens)
        if wanted.tokens == found:
            equal += 1
            continue
        pairs = zip(wanted.tokens, found, strict=False)
        first = next((i for i, (one, other) in enumerate(pairs) if one != other), len(found))
        margins.append(wanted.margins[first] if first < len(wanted.margins) else float("nan"))
    return GreedyComparison(
        prompts=len(prompts),
        equal=equal,
        tokens=tokens,
        narrowest=min(margins, default=float("inf")),
        widest=max(margins, default=0.0),
    )
