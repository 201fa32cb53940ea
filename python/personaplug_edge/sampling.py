"""How the next token is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from personaplug_edge.errors import SamplingError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of one request. The engine checks them: SamplingError, GrammarError.

    Order: logit bias, penalties, top_k, top_p, min_p, temperature, then a draw (llama.cpp's samplers). A token that the
    grammar refuses is drawn again, with the grammar before top_k: where these cut nothing off, that is the model's own
    distribution over what the grammar allows; else it favors what is likely without the grammar, too.
    """

    max_tokens: int = 128
    """Tokens to generate at most; fewer when the context ends before."""
    temperature: float = 0.0
    """0 (below 1e-6): the likeliest token always (greedy); top_k, top_p, min_p and seed then change nothing."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Keep the likeliest tokens whose probabilities sum to p; 1: all."""
    min_p: float = 0.0
    """Keep tokens at least p times as likely as the likeliest; 0: all."""
    repetition_penalty: float = 1.0
    """Divides positive logits of tokens seen in the window, multiplies negative ones; 1: off."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens seen in the window."""
    frequency_penalty: float = 0.0
    """Subtracted once for each time a token was seen in the window."""
    penalty_window: int = 64
    """How many tokens of prompt and answer the penalties look back on; 0: off, -1: all. Of a request that slides at
    most the last four contexts."""
    seed: int | None = None
    """Of the draw, 0 to 2**32 - 2; None: a new one each time."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of token ids, -1e6 to 1e6; -inf: never."""
    grammar: str = ""
    """GBNF with a rule ``root`` that the answer must follow; "": none."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these strings."""
    logprobs: int = 0
    """n > 0: log-probabilities of each chosen token and of the n likeliest, under the model before all of the above."""
    ignore_end: bool = False
    """Never choose a token that ends the answer."""


def checked_sampling(sampling: Sampling | None) -> Sampling:
    """The options asked for, or the defaults. Raises SamplingError for no Sampling; the engine checks its values."""
    if sampling is None:
        return Sampling()
    if not isinstance(sampling, Sampling):
        raise SamplingError(f"expected a Sampling, got {type(sampling).__name__}; write Sampling(max_tokens=...)")
    if not isinstance(sampling.logit_bias, Mapping):
        raise SamplingError(f"logit_bias must map token ids to numbers, got {type(sampling.logit_bias).__name__}")
    return sampling
