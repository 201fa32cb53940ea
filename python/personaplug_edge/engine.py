"""Python's face of the C++ engine: load, generate, stream, score."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING

from personaplug_edge.errors import EngineError, GrammarError, SamplingError
from personaplug_edge.generation import Chunk, Generation, Timings, TopTokens
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from personaplug_edge import _core

__all__ = ["DEFAULT_CONTEXT", "LLM", "Chunk", "Generation", "Timings", "TopTokens"]

DEFAULT_CONTEXT = 4096
"""Positions of a sequence when none are asked for and the model was trained with more: memory grows with it."""


class LLM:
    """One model and one engine over it. Thread-safe: requests from several threads share batches.

    A context manager; ``close`` frees the memory at once.
    """

    def __init__(self, model: _core.Model, engine: _core.Engine) -> None:
        self._model: _core.Model | None = model
        self._engine: _core.Engine | None = engine
        self._waiting: dict[int, deque[_core.Event]] = {}
        self._timings: dict[int, Timings] = {}
        self._ended: deque[_core.Event] = deque()
        """Stands in ``_waiting`` for a sequence whose last event was given."""
        self._stepping = threading.Lock()
        self._failure: EngineError | GrammarError | None = None

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        context: int = 0,
        threads: int = 0,
        threads_batch: int = 0,
        sequences: int = 1,
        batch: int = 512,
        micro_batch: int = 512,
        gpu_layers: int = 0,
        mmap: bool = True,
        cache_type: str = "f16",
        flash_attention: str = "auto",
        progress: Callable[[float], bool | None] | None = None,
    ) -> LLM:
        """Loads a GGUF file.

        Args:
            path: the file.
            context: positions of one sequence; 0: what the model was trained with, at most DEFAULT_CONTEXT.
            threads: for single tokens; 0: physical cores.
            threads_batch: for prompts; 0: as threads.
            sequences: requests that run together; others queue. Memory grows with context * sequences.
            batch: positions decoded together at most.
            micro_batch: of these, in one graph.
            gpu_layers: layers on the GPU; -1: all.
            mmap: map the file instead of reading it.
            cache_type: of keys and values, "f16", "f32" or "q8_0".
            flash_attention: "auto", "on" or "off".
            progress: called with 0 to 1; returning False cancels.

        Raises:
            ModelError: missing, damaged, or not a decoder-only language model.
            EngineError: an option out of range, or too little memory.
            CancelledError: progress returned False.
        """
        from personaplug_edge._native import core

        model = core.Model(fspath(path), gpu_layers=gpu_layers, mmap=mmap, progress=progress)
        engine = core.Engine(
            model,
            context=context or min(model.train_context, DEFAULT_CONTEXT),
            batch=batch,
            micro_batch=micro_batch,
            threads=threads,
            threads_batch=threads_batch,
            sequences=sequences,
            cache_type=cache_type,
            flash_attention=flash_attention,
        )
        return cls(model, engine)

    @property
    def model(self) -> _core.Model:
        """The loaded model: sizes, tokenizer, token table."""
        if self._model is None:
            raise _closed()
        return self._model

    @property
    def engine(self) -> _core.Engine:
        """The engine itself: submit, step, cancel. Do not step it while streams of this LLM run."""
        if self._engine is None:
            raise _closed()
        return self._engine

    @property
    def context(self) -> int:
        """Positions one sequence may take, prompt and answer together."""
        return self.engine.context

    @property
    def sequences(self) -> int:
        """Requests that run together."""
        return self.engine.sequences

    def tokenize(self, text: str, *, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Token ids of a text. Raises TextError for NUL and lone surrogates."""
        return self.model.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids; broken characters become U+FFFD. Raises PromptError."""
        return self.model.detokenize(ids).decode("utf-8", errors="replace")

    def embedding_rows(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Rows of the token table, shape (ids, embedding width). Raises PromptError, ModelError."""
        return self.model.embedding_rows(ids)

    def generate(self, prompt: Prompt | str, sampling: Sampling | None = None) -> Generation:
        """The whole answer to a prompt; a str is tokenized with the model's special tokens. Errors as ``stream``."""
        return self.generate_all([prompt], sampling)[0]

    def generate_all(
        self, prompts: Sequence[Prompt | str], sampling: Sampling | Sequence[Sampling] | None = None
    ) -> list[Generation]:
        """Answers in the order of the prompts, ``sequences`` of them at a time in one batch. Errors as ``stream``."""
        options = list(sampling) if isinstance(sampling, Sequence) else [sampling or Sampling()] * len(prompts)
        ids: list[int] = []
        try:
            for prompt, option in zip(prompts, options, strict=True):
                ids.append(self._submit(prompt, option))
            return [self._collect(sequence) for sequence in ids]
        finally:
            for sequence in ids:
                self._leave(sequence)

    def stream(self, prompt: Prompt | str, sampling: Sampling | None = None) -> Generator[Chunk, None, Timings]:
        """The answer piece by piece; its return value is the Timings. Closing it, or Ctrl-C, cancels the request.

        The request is made at the first ``next``.

        Raises:
            PromptError, DimensionError, ContextFullError: the prompt.
            SamplingError, GrammarError: the sampling.
            EngineError: llama.cpp failed; the message says whether the engine can go on.
        """
        sequence = self._submit(prompt, sampling or Sampling())
        try:
            while True:
                event = self._wait(sequence)
                finish = event.finish
                yield Chunk(event.text, event.tokens, event.logprobs, finish or None, event.top or None)
                if finish:
                    return self.timings(sequence)
        finally:
            self._leave(sequence)

    def score(self, prompt: Prompt | str, continuations: Sequence[Sequence[int] | str]) -> list[list[float]]:
        """log p of each token of each continuation; the prompt is prefilled once. Errors as ``stream``."""
        ids = [self.tokenize(text) if isinstance(text, str) else list(text) for text in continuations]
        return self.engine.score(self._prompt(prompt), ids)

    def logits(self, prompt: Prompt | str) -> NDArray[np.float32]:
        """Logits after every position, shape (positions, vocabulary)."""
        return self.engine.logits(self._prompt(prompt))

    def close(self) -> None:
        """Frees the engine and the model. Closing twice is no error; requests that run raise EngineError."""
        self._engine = None
        self._model = None

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def timings(self, sequence: int) -> Timings:
        """Times of a request by its sequence number, kept for the last 256. Raises PromptError."""
        return self._timings.get(sequence) or Timings(**self.engine.timings(sequence))

    def _submit(self, prompt: Prompt | str, sampling: Sampling) -> int:
        parsed = self._prompt(prompt)
        if not isinstance(sampling, Sampling):
            raise SamplingError(f"expected a Sampling, got {type(sampling).__name__}; write Sampling(max_tokens=...)")
        if not isinstance(sampling.logit_bias, Mapping):
            raise SamplingError(f"logit_bias must map token ids to numbers, got {type(sampling.logit_bias).__name__}")
        # Under the lock: no step may bring an event of this sequence before there is a place to put it.
        with self._stepping:
            sequence = self.engine.submit(parsed, sampling)
            self._waiting[sequence] = deque()
        return sequence

    def _wait(self, sequence: int) -> _core.Event:
        """The next event of a sequence. Whichever thread comes first steps the engine for all."""
        engine = self.engine
        waiting = self._waiting[sequence]
        while not waiting:
            with self._stepping:
                if waiting:
                    break
                if self._engine is None:  # closed by another thread
                    raise _closed()
                try:
                    events = engine.step()
                except (EngineError, GrammarError) as error:
                    # Maybe not of this sequence: the one that no longer runs raises it.
                    self._failure = error
                    continue
                for event in events:
                    place = self._waiting.get(event.sequence)
                    if place is not None:
                        place.append(event)
                        if event.finish:  # the engine forgets them after 256 more have ended
                            self._timings[event.sequence] = Timings(**engine.timings(event.sequence))
                if not events and not engine.is_live(sequence):
                    raise self._failure or EngineError(f"sequence {sequence} was dropped by a reset of the engine")
        event = waiting.popleft()
        if event.finish:
            self._waiting[sequence] = self._ended
        return event

    def _collect(self, sequence: int) -> Generation:
        """All events of a sequence to its end."""
        text: list[str] = []
        tokens: list[int] = []
        logprobs: list[float] = []
        top: list[TopTokens] = []
        while True:
            event = self._wait(sequence)
            text.append(event.text)
            tokens += event.tokens
            logprobs += event.logprobs
            top += event.top
            if event.finish:
                break
        return Generation(
            text="".join(text),
            tokens=tokens,
            logprobs=logprobs,
            finish_reason=event.finish,
            timings=self.timings(sequence),
            top=top or None,
        )

    def _leave(self, sequence: int) -> None:
        """Forgets a sequence's events, and cancels it unless it has ended: cancelling breaks off a running decode."""
        waiting = self._waiting.pop(sequence, None)
        self._timings.pop(sequence, None)
        if self._engine is not None and waiting is not self._ended:
            self._engine.cancel(sequence)

    def _prompt(self, prompt: Prompt | str) -> Prompt:
        return Prompt.tokens(self.tokenize(prompt, add_special=True)) if isinstance(prompt, str) else prompt


def _closed() -> EngineError:
    return EngineError("this LLM is closed; expected an open one: load it again")
