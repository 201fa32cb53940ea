"""The LLM as methods ask it in a batch, for summaries: each call has an engine of its own.

What it writes is then a function of the prompts alone: a run that was broken off reads the summaries of one that was
not. Making an engine costs milliseconds, as the weights are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..engine import LLM
from ..prompt import Prompt
from ..sampling import Sampling

if TYPE_CHECKING:
    from ..generation import Generation


class OwnLLM:
    """An LLM; whatever but :meth:`generate_all` passes through to the one given. Thread-safe."""

    def __init__(self, llm: LLM, *, sequences: int, threads: int) -> None:
        self._llm, self._threads = llm, threads
        self.sequences = sequences
        """prompts that are answered together"""

    def generate_all(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Generation]:
        """Answers in the order of the prompts. Errors as :meth:`LLM.generate_all`."""
        from .._native import core

        longest = max(map(len, prompts), default=1) + sampling.max_tokens + 1
        engine = core.Engine(
            self._llm.model,
            context=min(self._llm.context, longest),
            sequences=max(1, min(len(prompts), self.sequences)),
            threads=self._threads,
            threads_batch=self._threads,
        )
        with LLM(self._llm.model, engine) as own:
            return own.generate_all(prompts, sampling)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)
