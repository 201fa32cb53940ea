"""Retrieval: past items as text in front of the request (LaMP, arXiv 2304.11406, section 3).

Costs prompt tokens at every request, where a persona costs a row; it needs no trained part. What ranks the items is a
file each: recency, random, BM25, dense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from personaplug_edge.personalize.fit import fit_cut, fit_whole
from personaplug_edge.personalize.method import Contribution, Kind, Request
from personaplug_edge.personalize.past import AnyItem, Past
from personaplug_edge.results import Attribution

Ranking = Callable[[Past, Request, int], Sequence[AnyItem]]
"""The k items to show for a request, best first."""

DEFAULT_ITEMS = 4
"""Items put in front where the method names no number: LaMP's and PPlug's papers compare with so many."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """A method that puts the ``items`` best items of a ranking in front of the request."""

    ranking: Ranking
    items: int = DEFAULT_ITEMS
    keeps: frozenset[Kind] = frozenset({"texts"})

    def __call__(self, user: Past, request: Request) -> Contribution:
        """The items as text; fewer, or cut, where they do not fit into the room."""
        found = self.ranking(user, request, self.items) if len(user) else ()
        written = fitted(found, request)
        if not written:
            return Contribution(keeps=self.keeps)
        front, text = request.wording.place(request.placed, written)
        share = 1 / len(written)
        return Contribution(
            front=front,
            text=text if text != request.placed else None,
            attribution=tuple(Attribution(item, share) for item in found[: len(written)]),
            keeps=self.keeps,
        )


def fitted(items: Sequence[AnyItem], request: Request) -> list[str]:
    """The items, best first, written so that they take ``request.room`` tokens at most.

    In LaMP's wordings all texts are cut evenly. In the plain form items stay whole and the last are left out; where not
    even the best one fits, its text is cut. (All cut evenly there, four past posts in front of a post made its rest
    5 nats less likely than those that fit whole, and subjects of mails .1 nats likelier.)
    """
    wording, services = request.wording, request.services
    own = services.length(request.placed)

    def taken(written: Sequence[str]) -> int:
        return services.length("".join(wording.place(request.placed, written))) - own

    if not wording.name:
        whole = [wording.write(item.text, item.output) for item in items]
        if count := fit_whole(len(whole), lambda count: taken(whole[:count]), request.room):
            return whole[:count]
        items = items[:1]

    def written(texts: Sequence[str]) -> list[str]:
        return [wording.write(text, item.output) for text, item in zip(texts, items[: len(texts)], strict=True)]

    shown = [services.cut(item.text, wording.longest) if wording.longest else item.text for item in items]
    return written(fit_cut(shown, lambda texts: taken(written(texts)), services.length, services.cut, request.room))
