"""What a personalisation method is: a function of a user's history and a request that returns a Contribution.

Methods combine because what they contribute stands side by side: rows, text in front of the request, an adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from personaplug_edge.prompt import Prompt

if TYPE_CHECKING:
    from personaplug_edge.personalize.past import Past
    from personaplug_edge.personalize.services import Services
    from personaplug_edge.personalize.wording import Wording
    from personaplug_edge.results import Attribution

Kind = Literal["vectors", "projections", "sum", "texts", "outputs"]
"""What must be kept of a user: each item's vector, its projected rows, the sum of these, the items' texts with their
outputs, or their outputs alone."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked, as a method sees it."""

    text: str
    """the request as asked, without the bundle's template"""
    placed: str
    """the request as methods named earlier have left it"""
    wording: Wording
    """how requests of its kind are worded, and how past items are written in front of them"""
    room: int
    """tokens that text in front may still take; rows, and the texts of methods named earlier, have taken theirs"""
    services: Services
    """embedder, store, tokenizer, LLM"""
    argument: str = ""
    """what stands behind the method's name: "4" in ``bm25:4`` """

    @property
    def subject(self) -> str:
        """What the request is about: its text without the wording; what retrieval looks for."""
        return self.wording.subject(self.text)

    @cached_property
    def subject_vector(self) -> NDArray[np.float32]:
        """The subject through the behavior encoder, (d,)."""
        vector: NDArray[np.float32] = self.services.embedder.behavior([self.subject or self.text])[0]
        return vector

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return self.services.length(text)

    def added(self, made: Contribution) -> int:
        """Tokens that the texts of a contribution add to the request as methods named earlier have left it."""
        if made.text is None and not made.front:
            return 0
        text = self.placed if made.text is None else made.text
        return self.length(made.front + text) - self.length(self.placed)


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What a method adds to a request. The default adds nothing: the bare LLM."""

    instruction: bool = False
    """whether the bundle's instruction rows stand in front"""
    persona: NDArray[np.float32] | None = None
    """persona rows (k, embedding width)"""
    cold_start: bool = False
    """True where the history was empty and the bundle's cold-start rows stand in"""
    front: str = ""
    """text in front of the request, within ``Request.room`` tokens, less the rows of the same contribution"""
    text: str | None = None
    """the request in other words, where a method must put something into it: ``Request.room`` tokens more at most"""
    prompt: Prompt | None = None
    """the whole prompt, run as it is; then no other method can add to it"""
    adapter: str | None = None
    """the LoRA adapter to run with: its path, or a name that was given to ``LLM.add_adapter``"""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """fields of Sampling that suit the method; what a caller asks for goes before"""
    votes: Mapping[str, float] | None = None
    """weight of each label, 0 or more: a method that asks no LLM; then no other method can stand beside it"""
    attribution: tuple[Attribution, ...] = ()
    """history items by falling weight"""
    keeps: frozenset[Kind] = frozenset()
    """what must be kept of the user for this method to work"""
    bytes_kept: int = 0
    """bytes kept of the user beside what ``keeps`` names"""
    training_seconds: float | None = None
    """spent on this user alone, by a method that trains"""
    untrained: bool = False
    """True where the method needs what was trained for the user and there is nothing: the base LLM stands in"""


Method = Callable[["Past", Request], "Contribution | Prompt"]
"""A method. A Prompt that it returns is the whole prompt, run as it is."""
