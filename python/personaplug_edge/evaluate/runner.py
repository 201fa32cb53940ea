"""Runs the methods over a task's questions through the installed runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bundle import fill
from ..sampling import Sampling
from ..store import NewItem
from .baselines import majority, similarity_vote
from .cache import with_cache
from .data import Example, Task
from .lamp import query_text
from .methods import LABEL_METHODS, Retrieval, methods_for, request_of
from .metrics import Prediction
from .predictions import PredictionLog

if TYPE_CHECKING:
    from ..plug import PersonaPlug
    from ..results import Personalized

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TaskRun:
    """A task and, for each method, its predictions in the order of the task's examples."""

    task: Task
    predictions: Mapping[str, list[Prediction]]


def run_task(
    plug: PersonaPlug,
    task: Task,
    methods: Sequence[str] = (),
    *,
    bm25_items: int = 4,
    predictions: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> TaskRun:
    """Answers every question by every method, those not yet in the ``predictions`` folder.

    ``settings`` is what the predictions depend on beside task and method; it is written into their files and checked.
    ``progress`` is called with (answers done, answers wanted). Raises what the runtime raises.
    """
    names = methods_for(task, methods)
    ask = Asker(with_cache(plug), task, bm25_items)
    with ExitStack() as stack:
        logs = {name: stack.enter_context(_log(name, task, predictions, settings or {}, bm25_items)) for name in names}
        total, done = len(names) * len(task.examples), 0
        for example in task.examples:
            for name in names:
                if example.id not in logs[name].done:
                    logs[name].add(ask(name, example))
                done += 1
                if progress:
                    progress(done, total)
    return TaskRun(task, {name: [logs[name].done[example.id] for example in task.examples] for name in names})


class Asker:
    """Answers one question by one method."""

    def __init__(self, plug: PersonaPlug, task: Task, bm25_items: int = 4) -> None:
        self._plug, self._task = plug, task
        self._retrieval = retrieval_of(plug, bm25_items)
        self._sampling = Sampling(**plug.bundle.sampling_options)

    def __call__(self, method: str, example: Example) -> Prediction:
        """The prediction of ``method`` for ``example``."""
        if method in LABEL_METHODS:
            return self._prediction(example, self._vote(method, example))
        wanted = request_of(method, self._task, example, self._retrieval)
        history = [NewItem(item.text, item.output) for item in wanted.history]
        # Cut as in training (the paper cuts inputs to 256 tokens), so that no long question ends a run.
        request = self._plug.personalize(
            wanted.text, history=history, persona=wanted.persona, instruction=wanted.instruction, cut=True
        )
        score = self._plug.score(wanted.text, example.gold, request=request)
        return self._prediction(example, self._answer(wanted.text, request), score.logprob, len(score.tokens))

    def _answer(self, text: str, request: Personalized) -> str:
        if self._task.labels:
            return self._plug.choose(text, self._task.labels, request=request).label
        return self._plug.llm.generate(request.prompt, self._sampling).text

    def _vote(self, method: str, example: Example) -> str:
        if method == "majority":
            return majority(example.history, self._task.prior)
        embedder = self._plug.embedder
        query = embedder.behavior([query_text(example.input, self._task.marker)])[0]
        texts = [embedder.item_text(item.text, item.output) for item in example.history]
        return similarity_vote(query, embedder.behavior(texts), example.history, self._task.prior)

    def _prediction(self, example: Example, text: str, logprob: float | None = None, tokens: int = 0) -> Prediction:
        return Prediction(
            id=example.id,
            user_id=example.user_id,
            gold=example.gold,
            text=text,
            logprob=logprob,
            tokens=tokens,
        )


def retrieval_of(plug: PersonaPlug, items: int) -> Retrieval:
    """Retrieved items as answered requests in the bundle's own template, within its limit of input tokens."""
    prompt = plug.bundle.manifest.prompt

    def render(text: str, output: str) -> str:
        return f"{fill(prompt.template, input=text)} {output}\n"

    return Retrieval(
        render=render,
        fits=lambda text: len(plug.llm.tokenize(fill(prompt.template, input=text))) <= prompt.max_input_tokens,
        items=items,
    )


def _log(name: str, task: Task, folder: Path | None, settings: Mapping[str, Any], items: int) -> PredictionLog:
    own = {"task": task.name, "method": name, **({"bm25_items": items} if name == "bm25" else {})}
    return PredictionLog(folder / task.name / f"{name}.jsonl" if folder else None, {**own, **settings})
