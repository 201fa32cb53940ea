"""From a request's text to token ids, as the plug was trained to see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from personaplug_edge.errors import PromptError
from personaplug_edge.texts import check_text

if TYPE_CHECKING:
    from personaplug_edge.bundle import PromptPart
    from personaplug_edge.engine import LLM
    from personaplug_edge.generation import Chunk


class RequestText:
    """The bundle's template around a request, tokenized."""

    def __init__(self, facts: PromptPart, llm: LLM) -> None:
        self._facts, self._llm = facts, llm
        self.llm = llm
        """the LLM whose tokens these are"""
        self._before, _, self._after = facts.template.partition("{input}")
        self.start = [llm.model.bos] if llm.model.bos >= 0 else []
        """the start token, if the LLM has one"""
        self.system = llm.tokenize(facts.system) if facts.system else []
        """what the bundle says in front of every request"""

    def tokens(self, text: str, *, cut: bool = False) -> list[int]:
        """Token ids of a request in its template; with ``cut``, at most ``max_input_tokens`` of them.

        Raises:
            TextError: the text is empty or not valid Unicode.
        """
        check_text(text, "the request")
        return self._llm.tokenize(self._framed(self.cut(text) if cut else text))

    def cut(self, text: str) -> str:
        """The beginning of a request that takes at most ``max_input_tokens`` with the template. Raises TextError."""
        check_text(text, "the request")
        while (length := len(self._llm.tokenize(self._framed(text)))) > self._facts.max_input_tokens:
            text = text[: int(len(text) * self._facts.max_input_tokens / length)]
            if not text:
                raise PromptError(
                    f"max_input_tokens ({self._facts.max_input_tokens}) is smaller than the template itself"
                )
        return text

    def answer_tokens(self, answer: str) -> list[int]:
        """Token ids of an answer after a request in the template, with the LLM's end token.

        Tokenized together with the end of the template, since a token may join their border.
        """
        check_text(answer, "the answer")
        frame = self._framed("x")
        before = self._llm.tokenize(frame)
        whole = self._llm.tokenize(f"{frame} {answer.strip()}")
        if whole[: len(before)] != before:
            raise PromptError(
                f"the template {self._facts.template!r} and an answer share a token; end the template in punctuation"
            )
        return whole[len(before) :] + ([self._llm.model.eos] if self._llm.model.eos >= 0 else [])

    def _framed(self, text: str) -> str:
        return f"{self._before}{text}{self._after}"


def answer_text(text: str) -> str:
    """The answer as a reader wants it: without the one space that parts it from the request."""
    return text.removeprefix(" ")


def answer_chunks(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The pieces of an answer, the first text without the one space that parts it from the request."""
    started = False
    for chunk in chunks:
        if not started and chunk.text:
            started, chunk.text = True, answer_text(chunk.text)
        yield chunk


def checked_labels(labels: Sequence[str]) -> list[str]:
    """Labels to choose among. Raises PromptError for none, one twice, or a bare str; TextError for one without text."""
    if isinstance(labels, str):
        raise PromptError(f"expected a list of labels, got one str {labels!r:.80}; put it into a list")
    if not isinstance(labels, Sequence):
        raise PromptError(f"expected a list of labels, got {type(labels).__name__}; make it a list")
    checked = [check_text(label, "a label") for label in labels]
    if not checked or len({label.strip() for label in checked}) != len(checked):
        raise PromptError(f"expected one or more labels, each once; got {labels!r:.200}")
    return checked
