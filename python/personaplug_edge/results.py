"""What the calls of :class:`personaplug_edge.PersonaPlug` return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.errors import MethodError, PromptError
from personaplug_edge.prompt import Prompt
from personaplug_edge.request import answer_text
from personaplug_edge.request_options import RequestOptions

if TYPE_CHECKING:
    from personaplug_edge.generation import Generation, Timings, TopTokens
    from personaplug_edge.personalize.kept import Kept
    from personaplug_edge.sampling import Sampling
    from personaplug_edge.store import Item, NewItem

LEAST_VOTE = 1e-9
"""Share of the votes that a label has which got none."""


@dataclass(frozen=True)
class Attribution:
    """How much one history item weighed in the personal embedding."""

    item: Item | NewItem
    """the history item"""
    weight: float
    """its share of the personal embedding; all shares of a request sum to 1"""


@dataclass(frozen=True)
class Personalized:
    """A request made personal, ready for the engine."""

    prompt: Prompt
    """start token, instruction rows, persona rows, the request's tokens, in the order of the bundle's layout"""
    persona: NDArray[np.float32] | None
    """persona rows (k, embedding width); None with persona "off" """
    attribution: tuple[Attribution, ...]
    """history items by falling weight; empty where the persona is off, static or a cold start"""
    embed_seconds: float
    """time spent on the query's encoding and the aggregation"""
    cold_start: bool
    """True where the history was empty and the bundle's cold-start rows stand in"""
    adapter: str | None = None
    """the LoRA adapter to run with: its path, or a name that was given to ``LLM.add_adapter``"""
    hints: Mapping[str, Any] = field(default_factory=dict)
    """fields of Sampling that suit the method; what a caller asks for goes before"""
    votes: Mapping[str, float] | None = None
    """weight of each label, of a method that asks no LLM and makes no prompt"""
    kept: Kept | None = None
    """what must be kept of the user for this method"""
    front: str = ""
    """text that methods put in front of the request"""
    text: str = ""
    """the request as methods left it"""
    head: int = 0
    """positions in front of the request's own text: start token, instruction rows, persona rows"""
    options: RequestOptions = RequestOptions()
    """whose the request is, and what of its keys and values may be kept"""
    user: str | None = None
    """the user whose stored history it was made from"""
    revision: int = 0
    """that history's, read before it"""
    untrained: bool = False
    """True where the method needs what was trained for the user and there is nothing: the base LLM stands in"""
    training_seconds: float | None = None
    """spent on this user alone, by a method that trains"""

    @property
    def runnable(self) -> Prompt:
        """The prompt. Raises PromptError for a method that only chooses among labels."""
        if self.votes is not None:
            raise PromptError("this method asks no LLM, it only chooses among labels: call choose() with labels")
        return self.prompt

    def sampling(self, usual: Sampling) -> Sampling:
        """``usual`` with what the method hints at. Raises MethodError for a hint that is no field of Sampling."""
        try:
            return replace(usual, **self.hints) if self.hints else usual
        except TypeError as error:
            hints = ", ".join(self.hints)
            raise MethodError(f"the method hints at {hints}; expected fields of Sampling: {error}") from error


@dataclass(frozen=True)
class Reply:
    """A generated text and how it came about."""

    text: str
    """the answer, without the space that parts it from the request"""
    tokens: tuple[int, ...]
    """its token ids"""
    logprobs: tuple[float, ...]
    """natural log-probability of each token; empty unless Sampling.logprobs asks for it"""
    finish_reason: str
    """"end" (end token), "stop" (stop string), "length" (max_tokens), "deadline" or "cancelled" """
    timings: Timings
    """of the engine, in seconds"""
    embed_seconds: float
    """time spent on the persona before the engine began"""
    persona: str
    """"query", "static" or "off" """
    attribution: tuple[Attribution, ...]
    """history items by falling weight"""
    top: tuple[TopTokens, ...] = ()
    """the likeliest tokens at each place as (id, log-probability), likeliest first; empty unless asked for"""
    untrained: bool = False
    """True where the method needs what was trained for the user and there is nothing: the base LLM answered"""

    @classmethod
    def of(cls, result: Generation, request: Personalized, persona: str) -> Reply:
        """The reply that the engine's result is to a request."""
        return cls(
            text=answer_text(result.text),
            tokens=tuple(result.tokens),
            logprobs=tuple(result.logprobs),
            finish_reason=result.finish_reason,
            timings=result.timings,
            embed_seconds=request.embed_seconds,
            persona=persona,
            attribution=request.attribution,
            top=tuple(result.top or ()),
            untrained=request.untrained,
        )


@dataclass(frozen=True)
class Score:
    """How likely an answer is."""

    logprob: float
    """natural log-probability of the whole answer, its end token included"""
    tokens: tuple[int, ...]
    """token ids of the answer"""
    token_logprobs: tuple[float, ...]
    """log-probability of each"""


@dataclass(frozen=True)
class Choice:
    """The likeliest of several labels."""

    label: str
    """the likeliest"""
    labels: tuple[str, ...]
    """the labels that were offered, in the caller's order"""
    logprobs: tuple[float, ...]
    """natural log-probability of each label, its end token included"""
    attribution: tuple[Attribution, ...]
    """history items by falling weight"""
    embed_seconds: float
    """time spent on the persona before the engine began"""

    @classmethod
    def of_scores(cls, labels: Sequence[str], scores: Sequence[Sequence[float]], request: Personalized) -> Choice:
        """The label with the largest sum of its tokens' log-probabilities, the first of equal ones."""
        sums = tuple(float(sum(logprobs)) for logprobs in scores)
        best = max(range(len(labels)), key=sums.__getitem__)
        return cls(labels[best], tuple(labels), sums, request.attribution, request.embed_seconds)

    @classmethod
    def of_votes(cls, labels: Sequence[str], request: Personalized) -> Choice:
        """The label with the most votes, the first of equal ones; a label without any is taken for all but certain not
        to be meant, so that its logarithm is a number.
        """
        votes = {label.strip(): weight for label, weight in (request.votes or {}).items()}
        weights = np.array([votes.get(label.strip(), 0.0) for label in labels])
        shares = weights + LEAST_VOTE * max(1.0, weights.sum())
        logprobs = tuple(np.log(shares / shares.sum()).tolist())
        best = labels[int(np.argmax(weights))]
        return cls(best, tuple(labels), logprobs, request.attribution, request.embed_seconds)

    @property
    def median(self) -> str:
        """Of labels given as the steps of a scale, as ratings are: the one in the middle of the probability.

        No other has a smaller expected distance to the true one, in steps; the likeliest is the oftenest right.
        """
        reached = np.cumsum(self.probabilities)
        return self.labels[int(np.argmax(reached >= reached[-1] / 2))]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Softmax of ``logprobs``: the share of each label among those offered."""
        shifted = np.exp(np.array(self.logprobs) - max(self.logprobs))
        return tuple((shifted / shifted.sum()).tolist())
