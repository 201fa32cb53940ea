"""Several methods for one request: what they contribute, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from personaplug_edge.errors import MethodError, UnknownItemError
from personaplug_edge.personalize.contribution_check import check_contribution
from personaplug_edge.personalize.method import Contribution, Request
from personaplug_edge.personalize.past import Past
from personaplug_edge.personalize.registry import ROWS_ALONE, Part
from personaplug_edge.prompt import Prompt


def contribute(parts: Sequence[Part], user: Past, request: Request) -> Contribution:
    """What all methods of a spec add, in its order: rows have the first claim to the room, then the texts
    of who is named first.

    Persona rows follow each other, and so do texts in front of the request.

    Raises MethodError for methods that cannot stand together, and for a method of another package that fails.
    """
    made, left = _in_turn(parts, user, request, [part.name not in ROWS_ALONE for part in parts])
    wrote = [bool(each.front) or each.text is not None for each in made]
    if left < 0 and any(wrote) and not all(wrote):
        # Rows of another package's method came after the text that had taken their room: anew, and they go first.
        made, _ = _in_turn(parts, user, request, wrote)
    if len(made) == 1:
        return made[0]
    for part, each in zip(parts, made, strict=True):
        if each.prompt is not None:
            raise MethodError(f"method {part.name!r} makes the whole prompt and cannot be combined; name it alone")
        if each.votes is not None:
            raise MethodError(f"method {part.name!r} votes for labels and cannot be combined; name it alone")
    return _joined(made, [part.name for part in parts])


def _in_turn(
    parts: Sequence[Part], user: Past, request: Request, writes: Sequence[bool]
) -> tuple[list[Contribution], int]:
    """What each method adds, and the room that is left, less than 0 where there was too little. Methods that write no
    text go first, wherever they are named: text can be cut, rows cannot.
    """
    made: dict[int, Contribution] = {}
    placed, room, instruction = request.placed, request.room, False
    for place in sorted(range(len(parts)), key=writes.__getitem__):
        now = replace(request, placed=placed, room=max(0, room), argument=parts[place].argument)
        each = made[place] = _run(parts[place], user, now)
        room -= now.added(each) + (0 if each.persona is None else len(each.persona))
        if each.instruction and not instruction:  # these stand there once
            room -= len(request.services.embedder.instruction)
        placed = placed if each.text is None else each.text
        instruction |= each.instruction
    return [made[place] for place in range(len(parts))], room


def _joined(made: Sequence[Contribution], names: Sequence[str]) -> Contribution:
    rows = [each.persona for each in made if each.persona is not None]
    adapters = [each.adapter for each in made if each.adapter is not None]
    seconds = [each.training_seconds for each in made if each.training_seconds is not None]
    texts = [each.text for each in made if each.text is not None]
    if len(adapters) > 1:
        raise MethodError(
            f"{' and '.join(adapters)}: one adapter can run at a time; leave one out of {'+'.join(names)!r}"
        )
    return Contribution(
        instruction=any(each.instruction for each in made),
        persona=np.concatenate(rows) if rows else None,
        cold_start=any(each.cold_start for each in made),
        front="".join(each.front for each in made),
        text=texts[-1] if texts else None,
        adapter=adapters[0] if adapters else None,
        sampling={name: value for each in reversed(made) for name, value in each.sampling.items()},
        attribution=next((each.attribution for each in made if each.attribution), ()),
        keeps=frozenset().union(*(each.keeps for each in made)),
        bytes_kept=sum(each.bytes_kept for each in made),
        training_seconds=sum(seconds) if seconds else None,
        untrained=any(each.untrained for each in made),
    )


def _run(part: Part, user: Past, request: Request) -> Contribution:
    if part.own:
        found = part.method(user, request)
    else:
        try:
            found = part.method(user, request)
        except UnknownItemError:
            raise  # an item was deleted meanwhile: the request is made anew
        except Exception as error:
            raise MethodError(f"method {part.name!r} failed: {type(error).__name__}: {error}") from error
    if isinstance(found, Prompt):
        found = Contribution(prompt=found)
    if not isinstance(found, Contribution):
        raise MethodError(f"method {part.name!r}: expected a Contribution or a Prompt, got {found!r:.80}")
    if not part.own:
        check_contribution(part.name, found, request)
    return found
