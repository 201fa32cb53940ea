"""What the engine answers with: pieces, whole answers, and where the time went."""

from __future__ import annotations

from dataclasses import dataclass

TopTokens = list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """Where the time of one request went, in seconds, and how many tokens it had."""

    prompt_tokens: int = 0
    """Positions of the prompt, embedding rows included."""
    reused_tokens: int = 0
    """Of these, taken from a kept prefix instead of being computed."""
    generated_tokens: int = 0
    prompt_seconds: float = 0.0
    """Prefill: until the logits after the prompt."""
    first_token_seconds: float = 0.0
    """From the request to the first token, waiting for other requests included."""
    decode_seconds: float = 0.0
    """From the first token to the last."""

    @property
    def decode_tokens_per_second(self) -> float:
        """Tokens after the first by the second; 0 when there is one or none."""
        return (self.generated_tokens - 1) / self.decode_seconds if self.decode_seconds > 0 else 0.0


@dataclass(slots=True)
class Chunk:
    """A piece of an answer as it comes. Not frozen: one is made a token, and frozen ones take three times as long."""

    text: str
    """Whole characters; empty while a character or a possible stop string is not decided."""
    tokens: list[int]
    logprobs: list[float]
    """One a token when Sampling.logprobs asks for them, else empty."""
    finish_reason: str | None = None
    """None while it goes on, then "end", "length", "stop", "cancelled" or "deadline"."""
    top: list[TopTokens] | None = None
    """The likeliest tokens at each place, when Sampling.logprobs asks for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """A whole answer."""

    text: str
    tokens: list[int]
    logprobs: list[float]
    finish_reason: str
    timings: Timings
    top: list[TopTokens] | None = None
