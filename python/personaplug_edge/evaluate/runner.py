"""Runs the methods over a task's questions through the installed runtime."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..beams import Beams
from ..errors import MethodError
from ..request import answer_text
from ..request_options import RequestOptions
from ..sampling import Sampling
from ..store import NewItem
from .cache import with_cache
from .data import Example, Task
from .methods import Question, identity, methods_for, question_of
from .metrics import Prediction
from .predictions import PredictionLog, file_name
from .truncated import Series, Truncation

if TYPE_CHECKING:
    from ..plug import PersonaPlug
    from ..results import Personalized

ENDS = 2
"""Positions that a scored answer takes beside its own tokens: its end, and the space in front of it."""

Progress = Callable[[int, int], None]
Ratings = Literal["median", "likeliest"]


@dataclass(frozen=True)
class TaskRun:
    """A task and, for each method, its predictions in the order of the task's examples."""

    task: Task
    predictions: Mapping[str, list[Prediction]]
    truncated: Mapping[str, Mapping[int, list[Prediction]]] = field(default_factory=dict)
    """the same by method and number of items for histories that were cut to their latest items"""

    @property
    def files(self) -> dict[str, list[Prediction]]:
        """All predictions by the names that they have as files."""
        cut = {Series(m, k).name: found for m, each in self.truncated.items() for k, found in each.items()}
        return {**self.predictions, **cut}


def run_task(
    plug: PersonaPlug,
    task: Task,
    methods: Sequence[str] = (),
    *,
    bm25_items: int = 4,
    beams: int = 1,
    ratings: Ratings = "median",
    predictions: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    truncation: Truncation | None = None,
    progress: Progress | None = None,
) -> TaskRun:
    """Answers every question by every method, those not yet in the ``predictions`` folder.

    Free text is decoded greedily, or with ``beams`` beams; a rating is the ``median`` of what the labels' probabilities
    say, which suits an error counted in steps, or the ``likeliest``. ``settings`` is what the predictions depend on
    beside these; it is written into their files and checked. ``truncation`` asks some methods again with cut histories.
    ``progress`` is called with (answers done, answers wanted). Raises what the runtime raises.
    """
    names = methods_for(task, methods)
    if not names:
        raise MethodError(f"task {task.name!r} has no labels among which {', '.join(methods)} could choose")
    every = [*(Series(name) for name in names), *(truncation.series(task) if truncation else ())]
    ask = Asker(with_cache(plug), task, beams, ratings)
    about: dict[str, Any] = {"beams": beams, **(settings or {})}
    if task.kind == "rating":
        about["ratings"] = ratings
    if plug.adapters:
        about["adapters"] = plug.adapters.digest
    with ExitStack() as stack:
        logs = {each: stack.enter_context(_log(each, task, predictions, about, bm25_items)) for each in every}
        total, done = len(every) * len(task.examples), 0
        for example in task.examples:
            known: dict[tuple[object, int], Prediction] = {}
            for each in every:
                log, key = logs[each], (identity(each.method, bm25_items), each.items(example))
                asked = question_of(each.method, task, each.cut(example), bm25_items)
                digest = _digest(example, asked)
                if not log.has(example.id, digest):
                    # A history that is shorter than what it is cut to has been asked before.
                    twin = known.get(key) if each.length is not None else None
                    log.add(twin or ask(asked, example), digest)
                known.setdefault(key, log.done[example.id])
                done += 1
                if progress:
                    progress(done, total)
    found = {each: [logs[each].done[example.id] for example in task.examples] for each in every}
    cut: dict[str, dict[int, list[Prediction]]] = {}
    for each, answers in found.items():
        if each.length is not None:
            cut.setdefault(each.method, {})[each.length] = answers
    return TaskRun(task, {name: found[Series(name)] for name in names}, cut)


class Asker:
    """Answers one question by one method."""

    def __init__(self, plug: PersonaPlug, task: Task, beams: int = 1, ratings: Ratings = "median") -> None:
        self._plug, self._task, self._beams = plug, task, beams
        self._median = task.kind == "rating" and ratings == "median"
        self._labels = sorted(task.labels, key=float) if task.kind == "rating" else task.labels
        self._sampling = Sampling(**plug.bundle.sampling_options)
        # What the longest prompt leaves, so that all methods are measured on the same words of a long answer.
        room = plug.llm.context - plug.bundle.manifest.prompt.max_prompt_tokens
        self._longest = max(room, self._sampling.max_tokens) - ENDS

    def __call__(self, asked: Question, example: Example) -> Prediction:
        """The prediction for ``example``, asked so, and what it cost."""
        request, seconds = self._personalized(asked, example)
        found = Prediction(
            id=example.id,
            user_id=example.user_id,
            gold=example.gold,
            text="",
            prompt_tokens=len(request.prompt),
            bytes_per_user=request.kept.bytes() if request.kept else None,
            training_seconds=request.training_seconds,
        )
        if request.votes is not None:
            text = self._chosen(example, request) if self._votes(asked, request) else self._task.prior
            return replace(found, text=text, first_token_seconds=seconds)
        # First, before any other call has computed the keys and values of this prompt.
        free = self._task.kind == "text"
        usual = request.sampling(self._sampling)
        sampling = usual if free and self._beams == 1 else replace(usual, max_tokens=1)
        alike = RequestOptions(adapter=request.options.adapter)  # and nothing kept of other answers
        answer = self._plug.llm.generate(request.prompt, sampling, alike)
        score = self._plug.score(example.input, self._scored(example.gold), request=request)
        if self._task.labels:
            text = self._chosen(example, request)
        elif free and self._beams > 1:
            beams = Beams(beams=self._beams, max_tokens=usual.max_tokens, stop=tuple(usual.stop))
            text = self._plug.llm.beam_search(request.prompt, beams, alike)[0].text
        else:
            text = answer.text if free else ""
        text = answer_text(text)
        return replace(
            found,
            text=text,
            logprob=score.logprob,
            tokens=len(score.tokens),
            first_token_seconds=seconds + answer.timings.first_token_seconds,
        )

    def _scored(self, gold: str) -> str:
        """The answer, as much of it as fits the context behind any prompt."""
        return gold if self._task.labels else self._plug.personalizer.services.cut(gold, self._longest) or gold

    def _votes(self, asked: Question, request: Personalized) -> bool:
        """Whether a label of the task has a vote. Raises MethodError for a method that votes where there are none."""
        if not self._task.labels:
            raise MethodError(f"method {asked.method!r} only chooses among labels, and {self._task.name} has none")
        voted = {label.strip() for label in request.votes or {}}
        return any(label.strip() in voted for label in self._task.labels)

    def _chosen(self, example: Example, request: Personalized) -> str:
        choice = self._plug.choose(example.input, self._labels, request=request)
        return choice.median if self._median else choice.label

    def _personalized(self, asked: Question, example: Example) -> tuple[Personalized, float]:
        """The request and the seconds it took, with what is kept between requests (vectors, an index) there already."""
        history = [NewItem(item.text, item.output) for item in asked.history]
        for _ in range(2):
            started = time.perf_counter()
            # Cut as in training (the paper cuts inputs to 256 tokens), so that no long question ends a run.
            request = self._plug.personalize(
                example.input, user=example.user_id, method=asked.method, history=history, cut=True
            )
            seconds = time.perf_counter() - started
        return request, seconds


def _digest(example: Example, asked: Question) -> str:
    """Tells questions apart that have the same id."""
    parts = [example.user_id, example.input, example.gold]
    parts += [part for item in asked.history for part in (item.text, item.output)]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _log(each: Series, task: Task, folder: Path | None, settings: Mapping[str, Any], items: int) -> PredictionLog:
    own: dict[str, Any] = {"task": task.name, "method": each.method}
    own |= {"bm25_items": items} if each.method == "bm25" else {}
    own |= {"history": each.length} if each.length is not None else {}
    path = folder / task.name / f"{file_name(each.name)}.jsonl" if folder else None
    return PredictionLog(path, {**own, **settings})
