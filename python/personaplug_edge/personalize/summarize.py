"""Making summaries: map-reduce over a history by the LLM, in bounded memory.

Items are packed into chunks that fit the context, each chunk is summarised, and summaries are summarised together as
soon as a context is full of them, level by level: at any time as many chunks as the LLM runs together and, a level,
less than a context of summaries are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from personaplug_edge.errors import MethodError, PromptError
from personaplug_edge.personalize.past import AnyItem, InlinePast, Past
from personaplug_edge.personalize.services import Services
from personaplug_edge.prompt import Prompt
from personaplug_edge.sampling import Sampling
from personaplug_edge.store import Summary

SUMMARY_TOKENS = 96
"""Tokens of a summary at most."""

LATEST = 512
"""Items that are summarised at most, the latest; the authors of PPlug read as many of a history."""

STALE_SHARE = 0.2
"""A summary is made anew when so much of the history it was made from has come since. A change or a deletion of an item
drops it at once: it may repeat the item."""

INLINE = "inline summary"
"""The kind under which summaries of histories that are not stored are remembered."""

PAGE = 64
"""Items read from the store at a time."""

MAP = "Summarize what this person writes about and how they write:\n{texts}"
REDUCE = "Merge these notes about one person into one summary:\n{texts}"
ITEM = "- {text} => {output}"
BARE_ITEM = "- {text}"

Progress = Callable[[int], None]


class Summarizer:
    """Summaries by one bundle's LLM."""

    def __init__(self, services: Services) -> None:
        self._services = services
        options = services.bundle.sampling_options
        tokens = min(SUMMARY_TOKENS, services.llm.context // 4)
        self._sampling = replace(Sampling(**options), max_tokens=tokens, temperature=0.0)
        frame = max(len(services.request.tokens(text)) for text in (MAP, REDUCE))
        self._room = services.llm.context - tokens - frame - len(services.request.start)
        if self._room < 2 * tokens:
            raise PromptError(
                f"a context of {services.llm.context} tokens has no room to merge two summaries of {tokens}; "
                "load the bundle with a larger context"
            )
        self._tokens = tokens

    def __call__(self, items: Iterable[AnyItem], progress: Progress | None = None) -> str:
        """The summary of items; ``progress`` gets how many were read. "" for none."""
        levels: list[list[str]] = []
        chunks = self._chunks(items)
        while together := list(islice(chunks, self._services.llm.sequences)):
            for summary in self._ask_all(MAP, [chunk for chunk, _ in together]):
                self._add(levels, 0, summary)
            if progress:
                progress(together[-1][1])
        rest: list[str] = []
        for level in levels:  # the lower levels are of later items
            rest = [*level, *rest]
        while len(rest) > 1:
            full = [rest[place : place + self._fan] for place in range(0, len(rest), self._fan)]
            rest = [part[0] if len(part) == 1 else self._ask(REDUCE, part) for part in full]
        return rest[0] if rest else ""

    @property
    def _fan(self) -> int:
        """Summaries merged at a time."""
        return max(2, self._room // (self._tokens + 2))

    def _add(self, levels: list[list[str]], level: int, summary: str) -> None:
        if not summary:
            return
        if level == len(levels):
            levels.append([])
        levels[level].append(summary)
        if len(levels[level]) >= self._fan:
            full, levels[level] = levels[level], []
            self._add(levels, level + 1, self._ask(REDUCE, full))

    def _chunks(self, items: Iterable[AnyItem]) -> Iterator[tuple[list[str], int]]:
        chunk: list[str] = []
        taken = done = 0
        for item in items:
            line = self._services.cut(_line(item), self._room // 2)
            length = self._services.length(line + "\n") + 1
            if chunk and taken + length > self._room:
                yield chunk, done
                chunk, taken = [], 0
            chunk.append(line)
            taken, done = taken + length, done + 1
        if chunk:
            yield chunk, done

    def _ask(self, template: str, texts: Sequence[str]) -> str:
        return self._ask_all(template, [texts])[0]

    def _ask_all(self, template: str, groups: Sequence[Sequence[str]]) -> list[str]:
        request, prompts = self._services.request, []
        for texts in groups:
            joined = self._services.cut("\n".join(texts), self._room)
            prompts.append(Prompt.tokens(request.start + request.tokens(template.replace("{texts}", joined))))
        answers = self._services.llm.generate_all(prompts, self._sampling)
        return [" ".join(answer.text.split()) for answer in answers]


def _line(item: AnyItem) -> str:
    text = " ".join(item.text.split())
    return (ITEM if item.output else BARE_ITEM).replace("{text}", text).replace("{output}", item.output.strip())


def is_fresh(made_from: int, items: int, share: float = STALE_SHARE) -> bool:
    """Whether a summary of ``made_from`` items still speaks for a history that has grown to ``items``."""
    return made_from <= items <= made_from * (1 + share)


def summary_of(user: Past, services: Services) -> str:
    """The user's summary: the kept one while it is fresh, otherwise made now, and kept where the history is stored."""
    if isinstance(user, InlinePast):
        return _inline_summary(user, services)
    assert user.user is not None
    return stored_summary(services, user.user).text


def _inline_summary(user: InlinePast, services: Services) -> str:
    """As a store would have it: the summary of an earlier part of the same history serves while it is fresh. Which part
    that is depends on the history alone, not on what was asked before.
    """
    earlier = tuple(user.items[: summarized(len(user.items))])
    make = partial(Summarizer(services), earlier[-LATEST:])
    return services.cache.derived.get(INLINE, user.user, earlier, len(earlier), make)


def summarized(items: int) -> int:
    """Of a history that grows an item at a time, how many items its summary was made of once it has ``items``."""
    made = 0
    while not is_fresh(made, items):
        made = made + int(made * STALE_SHARE) + 1
    return made


def stored_summary(
    services: Services,
    user: str,
    *,
    share: float = STALE_SHARE,
    latest: int = LATEST,
    progress: Progress | None = None,
) -> Summary:
    """The stored summary of a user, made anew where it is missing or more than ``share`` of the history is newer.

    ``latest`` items are read, 0 for all. Not stored in a store that is open for reading alone, nor where items were
    changed or deleted meanwhile. Raises MethodError for a share or a number that is none.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not share >= 0:
        raise MethodError(f"share: expected a number from 0, such as 0.2, got {share!r:.80}")
    if isinstance(latest, bool) or not isinstance(latest, int) or latest < 0:
        raise MethodError(f"latest: expected a whole number from 0 (all items), got {latest!r:.80}")
    store, key = services.store, services.bundle.bundle_key
    revision, count = store.revision(user), store.count(user)
    found = store.summary(user, key)
    if found is not None and is_fresh(found.items, count, share):
        return found
    text = Summarizer(services)(_pages(services, user, count, latest), progress)
    made = Summary(text=text, revision=revision, items=count)
    if not store.read_only:
        store.put_summary(user, key, made)
    return made


def _pages(services: Services, user: str, count: int, latest: int) -> Iterator[AnyItem]:
    place = max(0, count - latest) if latest else 0
    while page := services.store.list(user, limit=min(PAGE, count - place), offset=place):
        yield from page
        place += len(page)
