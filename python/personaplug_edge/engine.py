"""Python's face of the C++ engine: load, generate, stream, score."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing
from os import PathLike, fspath
from typing import TYPE_CHECKING

from personaplug_edge.at_exit import close_at_exit
from personaplug_edge.beams import BeamResult, Beams, results_of
from personaplug_edge.errors import EngineError, SamplingError
from personaplug_edge.generation import Chunk, Generation, Timings, TopTokens
from personaplug_edge.notices import Notices
from personaplug_edge.prompt import Prompt
from personaplug_edge.request_options import RequestOptions
from personaplug_edge.running import Running
from personaplug_edge.sampling import Sampling, checked_sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from personaplug_edge import _core

__all__ = ["DEFAULT_CONTEXT", "LLM", "Chunk", "Generation", "Running", "Timings", "TopTokens"]

DEFAULT_CONTEXT = 4096
"""Positions of a sequence when none are asked for and the model was trained with more: memory grows with it."""


class LLM:
    """One model and one engine over it, which a thread of its own runs: requests from everywhere share batches.

    Thread-safe, and for asyncio. After ``fork()`` a child has to load its own.

    A context manager; ``close`` frees the memory at once.
    """

    def __init__(self, model: _core.Model, engine: _core.Engine) -> None:
        from personaplug_edge._native import core

        self._model: _core.Model | None = model
        self._engine: _core.Engine | None = engine
        self._thread = core.EngineThread(engine)
        self._notices = Notices(self._thread)
        close_at_exit(self, self._notices)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        context: int = 0,
        threads: int = 0,
        threads_batch: int = 0,
        sequences: int = 1,
        cells: int = 0,
        queue: int = 1024,
        prefix_bytes: int = 256 << 20,
        adapter_bytes: int = 256 << 20,
        batch: int = 512,
        micro_batch: int = 512,
        gpu_layers: int = 0,
        mmap: bool | None = None,
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
            cells: 0: each sequence has ``context`` positions of its own, the fastest; else one pool of so many for all.
            queue: requests that wait at most; one more raises QueueFullError.
            prefix_bytes: memory for kept prefixes (see RequestOptions); 0: none are kept.
            adapter_bytes: memory for LoRA adapters that stay loaded; those in use always do.
            batch: positions decoded together at most.
            micro_batch: of these, in one graph.
            gpu_layers: layers on the GPU; -1: all.
            mmap: map the file, so that processes share it, instead of reading it, which lets Linux keep the weights in
                huge pages and decode faster. None: read it where there are huge pages, the weights stay on the CPU and
                the file has at least 32 MB and at most half of the free memory.
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
            cells=cells,
            queue=queue,
            prefix_bytes=prefix_bytes,
            adapter_bytes=adapter_bytes,
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
        """The engine itself: submit, step, cancel. Do not step it while requests of this LLM run."""
        if self._engine is None:
            raise _closed()
        self._thread.check()
        return self._engine

    @property
    def thread(self) -> _core.EngineThread:
        """The thread that steps the engine."""
        if self._engine is None:
            raise _closed()
        return self._thread

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return self._engine is not None

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

    def submit(
        self, prompt: Prompt | str, sampling: Sampling | None = None, options: RequestOptions | None = None
    ) -> Running:
        """Begins a request, which runs beside others: read, wait, or be called back through the Running.

        A str is tokenized with the model's special tokens. Waits for no decode. Errors as ``stream``.
        """
        (running,) = self.submit_samples(prompt, sampling, 1, options)
        return running

    def submit_samples(
        self, prompt: Prompt | str, sampling: Sampling | None, n: int, options: RequestOptions | None = None
    ) -> list[Running]:
        """``n`` answers to a prompt that is prefilled once; the i-th has the ``seed + i``. Errors as ``stream``."""
        parsed = self._prompt(prompt)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise SamplingError(f"the number of samples must be a whole number from 1, got {n!r:.80}")
        tickets = self.thread.submit(parsed, checked_sampling(sampling), n, options)
        return [Running(ticket, self._notices, self) for ticket in tickets]

    def generate(
        self, prompt: Prompt | str, sampling: Sampling | None = None, options: RequestOptions | None = None
    ) -> Generation:
        """The whole answer to a prompt; a str is tokenized with the model's special tokens. Errors as ``stream``."""
        with self.submit(prompt, sampling, options) as running:
            return running.result()

    def generate_all(
        self,
        prompts: Sequence[Prompt | str],
        sampling: Sampling | Sequence[Sampling] | None = None,
        options: RequestOptions | Sequence[RequestOptions] | None = None,
    ) -> list[Generation]:
        """Answers in the order of the prompts, ``sequences`` of them at a time in one batch. Errors as ``stream``."""
        from personaplug_edge.together import answers

        samplings = list(sampling) if isinstance(sampling, Sequence) else [sampling] * len(prompts)
        others = list(options) if isinstance(options, Sequence) else [options] * len(prompts)
        return answers(self, zip(prompts, samplings, others, strict=True))

    def stream(
        self, prompt: Prompt | str, sampling: Sampling | None = None, options: RequestOptions | None = None
    ) -> Generator[Chunk, None, Timings]:
        """The answer piece by piece; its return value is the Timings. Closing it, or Ctrl-C, cancels the request.

        The request is made at the first ``next``. A reader that is slower than the engine gets larger pieces.

        Raises:
            PromptError, DimensionError, ContextFullError: the prompt.
            SamplingError, GrammarError: the sampling.
            AdapterError: the adapter of the options.
            QueueFullError: too many requests wait.
            EngineError: llama.cpp failed; the message says whether the engine can go on.
        """
        with self.submit(prompt, sampling, options) as running:
            yield from running
            return running.timings

    async def agenerate(
        self, prompt: Prompt | str, sampling: Sampling | None = None, options: RequestOptions | None = None
    ) -> Generation:
        """As ``generate``, for asyncio. Cancelling the task cancels the request."""
        from personaplug_edge.aio import result_of

        return await result_of(self.submit(prompt, sampling, options))

    async def astream(
        self, prompt: Prompt | str, sampling: Sampling | None = None, options: RequestOptions | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """As ``stream``, for asyncio. Cancelling the task, or ``aclose``, cancels the request."""
        from personaplug_edge.aio import chunks_of

        async with aclosing(chunks_of(self.submit(prompt, sampling, options))) as chunks:
            async for chunk in chunks:
                yield chunk

    def beam_search(
        self, prompt: Prompt | str, beams: Beams | None = None, options: RequestOptions | None = None
    ) -> list[BeamResult]:
        """The ``returned`` best answers, best first; other requests go on meanwhile. Ctrl-C cancels.

        Of the options the deadline and the adapter count: at it, what there is is the answer. Errors as ``stream``.
        """
        ticket = self.thread.submit_beams(self._prompt(prompt), Beams() if beams is None else beams, options)
        return results_of(ticket)

    def add_adapter(self, name: str, path: str | PathLike[str]) -> None:
        """Names a LoRA adapter (GGUF) for ``RequestOptions.adapter``; it is loaded when a request needs it.

        Raises AdapterError when the file is missing, damaged, or made for another LLM.
        """
        self.engine.add_adapter(name, fspath(path))

    def score(
        self, prompt: Prompt | str, continuations: Sequence[Sequence[int] | str], options: RequestOptions | None = None
    ) -> list[list[float]]:
        """log p of each token of each continuation; the prompt is prefilled once. Errors as ``stream``.

        Of the options the adapter counts.
        """
        ids = [self.tokenize(text) if isinstance(text, str) else list(text) for text in continuations]
        return self.thread.score(self._prompt(prompt), ids, options)

    def logits(self, prompt: Prompt | str, options: RequestOptions | None = None) -> NDArray[np.float32]:
        """Logits after every position, shape (positions, vocabulary). Of the options the adapter counts."""
        return self.thread.logits(self._prompt(prompt), options)

    def close(self) -> None:
        """Frees the engine and the model. Closing twice is no error; requests that run raise EngineError."""
        self._engine = None
        self._model = None
        self._thread.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def timings(self, sequence: int) -> Timings:
        """Times of one of ``engine``'s own sequences, by its number. Raises PromptError."""
        return Timings(**self.engine.timings(sequence))

    def _prompt(self, prompt: Prompt | str) -> Prompt:
        return Prompt.tokens(self.tokenize(prompt, add_special=True)) if isinstance(prompt, str) else prompt


def _closed() -> EngineError:
    return EngineError("this LLM is closed; expected an open one: load it again")
