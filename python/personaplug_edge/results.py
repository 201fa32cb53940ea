"""What the calls of :class:`personaplug_edge.PersonaPlug` return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.prompt import Prompt
from personaplug_edge.request import answer_text

if TYPE_CHECKING:
    from personaplug_edge.generation import Generation, Timings, TopTokens
    from personaplug_edge.store import Item, NewItem


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
    """"end" (end token), "stop" (stop string), "length" (max_tokens) or "cancelled" """
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

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Softmax of ``logprobs``: the share of each label among those offered."""
        shifted = np.exp(np.array(self.logprobs) - max(self.logprobs))
        return tuple((shifted / shifted.sum()).tolist())
