"""How requests of a kind are worded, and how past items are written in front of them.

LaMP's tasks carry fixed wordings, and its paper (arXiv 2304.11406, appendix, table of prompts) says for each how a
retrieved item reads and what joins them. A request is told by its beginning; any other takes the plain form: past items
as answered requests, in the bundle's own template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from personaplug_edge.bundle.template import fill

TITLE_TOKENS = 32
"""LaMP shows the titles of retrieved papers alone; an item's text begins with its title, the abstract follows."""

LONG_WORDING = 60
"""Characters; a longer wording is not repeated before every retrieved item (LaMP-2N's lists all its categories)."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One kind of request."""

    name: str = ""
    """the task as LaMP names it; empty for the plain form"""
    begins: str = ""
    """what requests of this kind begin with"""
    marker: str = ":"
    """what ends the wording; what follows is what the request is about"""
    ends: str = ""
    """what follows what a quoted request is about: a title may hold quotation marks of its own (LaMP-1)"""
    item: str = ""
    """a past item, with the places {text} and {output}"""
    unanswered: str = ""
    """a past item of which no output is known, with the place {text}; empty: as any other"""
    joint: str = ", and "
    """what stands between items"""
    front: str = "{items}. "
    """all of them in front of the request"""
    longest: int = 0
    """tokens shown of an item's text at most; 0: as many as there is room for"""
    inserted: bool = False
    """the items stand behind the quoted title inside of the request (LaMP-1)"""
    candidates: re.Pattern[str] | None = None
    """finds what the request is about where that is not what follows the marker (LaMP-1: the titles to choose from)"""

    def parts(self, text: str) -> tuple[str, str]:
        """A request as (wording, what it is about); no wording where there is none."""
        head, found, rest = text.partition(self.marker)
        if not found or (not self.name and (len(head) > LONG_WORDING or not rest.strip())):
            return "", text.strip()
        if self.marker.endswith('"'):
            rest, _ = self._quoted(rest)
        return head + found, rest.strip()

    def subject(self, text: str) -> str:
        """What a request is about: what similar items are looked for with."""
        found = self.candidates.search(text) if self.candidates else None
        return " ".join(found.groups()).strip() if found else self.parts(text)[1]

    def write(self, text: str, output: str) -> str:
        """One past item."""
        template = self.unanswered if self.unanswered and not output.strip() else self.item
        return fill(template, text=text.strip(), output=output.strip())

    def place(self, request: str, written: Sequence[str]) -> tuple[str, str]:
        """(text in front of the request, the request), for items written, best first: the best one stands next to the
        request.
        """
        joined = self.joint.join(reversed(written))
        if not self.inserted or self.marker not in request:
            return fill(self.front, items=joined), request
        before, found, rest = request.partition(self.marker)
        title, behind = self._quoted(rest)
        return "", f'{before}{found}{title}"{self.joint}{joined}{behind}'

    def _quoted(self, rest: str) -> tuple[str, str]:
        """What follows the marker as (title, behind its closing quotation mark): the one in front of ``ends``, else
        the next.
        """
        title, found, behind = rest.partition(f'"{self.ends}')
        if found:
            return title, self.ends + behind
        title, _, behind = rest.partition('"')
        return title, behind


LAMP_WORDINGS = (
    Wording(
        name="LaMP_1",
        begins="For an author who has written the paper with the title",
        marker='title "',
        ends=", which reference",
        item='"{text}"',
        longest=TITLE_TOKENS,
        inserted=True,
        candidates=re.compile(r'\[1\]:\s*"(.*)"\s*\[2\]:\s*"(.*)"', re.DOTALL),
    ),
    Wording(
        name="LaMP_2",
        begins="Which tag does this movie relate to",
        marker="description:",
        item='the tag for the movie: "{text}" is "{output}"',
    ),
    Wording(
        name="LaMP_2N",
        begins="Which category does this article relate to",
        marker="article:",
        item='the category for the article: "{text}" is "{output}"',
    ),
    Wording(
        name="LaMP_3",
        begins="What is the score of the following review",
        marker="review:",
        item='{output} is the score for "{text}"',
    ),
    Wording(
        name="LaMP_4",
        begins="Generate a headline for the following article",
        marker="article:",
        item='"{output}" is the title for "{text}"',
    ),
    Wording(
        name="LaMP_5",
        begins="Generate a title for the following abstract of a paper",
        marker="paper:",
        item='"{output}" is the title for "{text}"',
        front="{items}. Following the given patterns ",
    ),
    Wording(
        name="LaMP_6",
        begins="Generate a subject for the following email",
        marker="email:",
        item='"{output}" is the title for "{text}"',
    ),
    Wording(
        name="LaMP_7",
        begins="Paraphrase the following tweet",
        marker="it:",
        item='"{text}"',
        front="{items} are written by a person. Following the given patterns ",
    ),
)


def plain(template: str, request: str) -> Wording:
    """The plain form for a bundle's request template: items as answered requests, with this request's wording; a text
    without an answer stands there as it is.
    """
    wording, _ = Wording().parts(request)
    asked = fill(template, input=f"{wording} {{text}}".strip())
    return Wording(item=f"{asked} {{output}}\n", unanswered="{text}\n", joint="", front="{items}")


def wording_of(template: str, request: str) -> Wording:
    """The wording of a request."""
    return next((w for w in LAMP_WORDINGS if request.startswith(w.begins)), None) or plain(template, request)
