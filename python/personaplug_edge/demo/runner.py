"""The demo's run: every prompt for nobody and for everybody, then the headlines, then the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from ..sampling import Sampling
from .data import DemoPrompts, Person

if TYPE_CHECKING:
    from ..personalizer import PersonaMode
    from ..plug import PersonaPlug
    from ..results import Attribution

NOBODY = "nobody"
TOP = 3
FREE_TEXT = Sampling(max_tokens=24, temperature=0.0, repetition_penalty=1.2, stop=("\n",))
"""A small LLM repeats itself where it only ever takes the likeliest token."""


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A history item and its weight in the persona."""

    weight: float
    text: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A label, the probability of each label among them all, and the items that weighed most."""

    label: str
    probabilities: Mapping[str, float]
    weighed: tuple[Weighed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demo found; ``columns`` is nobody, then the people; times in seconds, medians over the prompts."""

    bundle: str
    persona: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    about: Mapping[str, str]
    prompts: tuple[str, ...]
    answers: tuple[Mapping[str, Answer], ...]
    headline_prompts: tuple[str, ...] = ()
    headlines: tuple[Mapping[str, str], ...] = ()
    first_token_with: float = 0.0
    first_token_without: float = 0.0
    history_items: Mapping[str, int] = field(default_factory=dict)

    @property
    def differing(self) -> int:
        """Prompts whose answers differ between people (nobody left out)."""
        return sum(len({answers[name].label for name in self.columns[1:]}) > 1 for answers in self.answers)

    @property
    def moved(self) -> int:
        """Answers for a person that are not nobody's."""
        return sum(row[name].label != row[NOBODY].label for row in self.answers for name in self.columns[1:])

    @property
    def timing_line(self) -> str:
        """The times to first token, in a sentence."""
        return (
            f"time to first token, median of {len(self.prompts)} prompts: "
            f"{self.first_token_without * 1e3:.1f} ms without, {self.first_token_with * 1e3:.1f} ms with the persona"
        )


def run_demo(
    plug: PersonaPlug,
    people: Sequence[Person],
    prompts: DemoPrompts,
    *,
    persona: PersonaMode = "query",
    progress: Callable[[int, int], None] | None = None,
) -> DemoReport:
    """Stores the people's histories in the plug's store (use one in memory) and answers everything for everyone.

    ``persona`` is how the people's histories enter; nobody's column is always without.
    """
    articles, headed = prompts.articles, [person for person in people if person.writes_headlines]
    total = len(people) + len(articles) * (len(people) + 1) + len(prompts.headlines) * (len(headed) + 1) + len(articles)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    for person in people:
        _remember(plug, person)
        tick()
    columns = (NOBODY, *(person.id for person in people))
    rows = []
    for article in articles:
        text = prompts.category_wording.format(article=article)
        row = {}
        for name in columns:
            row[name] = _answer(plug, text, prompts.labels, name, persona)
            tick()
        rows.append(row)
    headlines = []
    for article in prompts.headlines:
        text = prompts.headline_wording.format(article=article)
        written = {}
        for name in (NOBODY, *(person.id for person in headed)):
            mode: PersonaMode = "off" if name == NOBODY else persona
            user = None if name == NOBODY else _headline_user(name)
            written[name] = plug.generate(text, user=user, persona=mode, sampling=FREE_TEXT).text.strip()
            tick()
        headlines.append(written)
    asked = [prompts.category_wording.format(article=article) for article in articles]
    with_persona, without = _first_token(plug, asked, columns[1:], persona, tick)
    return DemoReport(
        bundle=plug.bundle.manifest.name,
        persona=persona,
        labels=prompts.labels,
        columns=columns,
        about={person.id: person.about for person in people},
        prompts=articles,
        answers=tuple(rows),
        headline_prompts=prompts.headlines,
        headlines=tuple(headlines),
        first_token_with=with_persona,
        first_token_without=without,
        history_items={person.id: len(person.items) for person in people},
    )


def _headline_user(name: str) -> str:
    """The user for a person's headlines: the output of an item is a category or a headline, not both."""
    return f"{name}/headlines"


def _remember(plug: PersonaPlug, person: Person) -> None:
    from ..store import NewItem

    plug.user(person.id).remember_all([NewItem(text=item.text, output=item.category) for item in person.items])
    if person.writes_headlines:
        items = [NewItem(text=item.text, output=item.headline) for item in person.items]
        plug.user(_headline_user(person.id)).remember_all(items)


def _answer(plug: PersonaPlug, text: str, labels: Sequence[str], name: str, persona: PersonaMode) -> Answer:
    if name == NOBODY:
        choice = plug.choose(text, list(labels), user=None, persona="off")
    else:
        choice = plug.choose(text, list(labels), user=name, persona=persona)
    shares = dict(zip(choice.labels, choice.probabilities, strict=True))
    return Answer(label=choice.label, probabilities=shares, weighed=_weighed(choice.attribution[:TOP]))


def _weighed(attribution: Sequence[Attribution]) -> tuple[Weighed, ...]:
    return tuple(Weighed(weight=each.weight, text=each.item.text, output=each.item.output) for each in attribution)


def _first_token(
    plug: PersonaPlug, asked: Sequence[str], names: Sequence[str], persona: PersonaMode, tick: Callable[[], None]
) -> tuple[float, float]:
    """Medians of the wall time from the call to the first token, with and without a persona.

    The two take turns, so that a change of the machine's speed meets both; the first pair warms up and does not count.
    """
    one = Sampling(max_tokens=1, ignore_end=True)
    times: dict[bool, list[float]] = {True: [], False: []}
    for place, text in enumerate([asked[0], *asked] if asked else []):
        for personal in (True, False):
            begin = perf_counter()
            if personal:
                plug.generate(text, user=names[place % len(names)], persona=persona, sampling=one)
            else:
                plug.generate(text, user=None, persona="off", sampling=one)
            times[personal].append(perf_counter() - begin)
        if place:
            tick()
    return median(times[True][1:] or [0.0]), median(times[False][1:] or [0.0])
