"""``personaplug generate``: one answer, or one label of several."""

from __future__ import annotations

import sys
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bars import attribution_rows, label_table
from .labels import labels_of
from .method import MethodOption, needs_labels
from .sampling import SamplingOptions
from .session import open_plug, ready_user
from .settings import settings
from .streaming import write_stream
from .terminal import decoding, out, write_json

if TYPE_CHECKING:
    from ..personalizer import PersonaMode
    from ..plug import PersonaPlug
    from ..results import Reply
    from ..sampling import Sampling


class Persona(str, Enum):
    """How the history enters the prompt."""

    query = "query"
    static = "static"
    off = "off"

    @property
    def mode(self) -> PersonaMode:
        """The value as the library takes it."""
        return self.value


PersonaOption = Annotated[
    Persona,
    typer.Option(help="query: weighted by the prompt; static: the user's mean, cached; off: without the history."),
]
UserOption = Annotated[str | None, typer.Option(help="The user whose history speaks; none: the cold-start persona.")]
PromptArgument = Annotated[str, typer.Argument(help="The request; - reads it from stdin.")]


def generate(
    prompt: PromptArgument,
    sampling: SamplingOptions,
    user: UserOption = None,
    persona: PersonaOption = Persona.query,
    method: MethodOption = None,
    labels: Annotated[
        str | None, typer.Option(help="Choose among these, separated by commas, instead of generating.")
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, max=32, help="Search for the likeliest whole answer along so many beams.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON: of an answer also the timings and what weighed.")
    ] = False,
) -> None:
    """Answer a prompt as the user would; streams to the terminal."""
    names = labels_of(labels)
    if not names and needs_labels(method):
        raise typer.BadParameter(f"the method {method!r} asks no LLM, it only chooses among labels: give --labels")
    if names and beams:
        raise typer.BadParameter("labels are chosen by their exact likelihood: leave --beams out")
    if names:
        sampling.check_only((), "labels are chosen by their exact likelihood, not drawn")
    if beams:
        sampling.check_only(("max_tokens", "stop"), "beams take only --max-tokens and --stop")
    text = read_prompt(prompt)
    with open_plug(in_memory=user is None and settings().store is None) as plug:
        ready_user(plug, user, method or persona.value)
        if names:
            _choose(plug, text, names, user, method, persona, json)
        elif beams:
            _search(plug, text, beams, user, method, persona, sampling.over(plug), json)
        elif json:
            reply = plug.generate(text, user=user, method=method, persona=persona.mode, sampling=sampling.over(plug))
            write_json(_reply(reply, user, text))
        else:
            chunks = plug.stream(text, user=user, method=method, persona=persona.mode, sampling=sampling.over(plug))
            write_stream(chunks)


def read_prompt(prompt: str) -> str:
    """The prompt itself, or standard input without its last line break for ``-``."""
    if prompt != "-":
        return prompt
    with decoding("standard input"):
        return sys.stdin.read().removesuffix("\n")


def _choose(
    plug: PersonaPlug, text: str, names: list[str], user: str | None, method: str | None, persona: Persona, json: bool
) -> None:
    choice = plug.choose(text, names, user=user, method=method, persona=persona.mode)
    shares = dict(zip(choice.labels, choice.probabilities, strict=True))
    if not json:
        return out().print(label_table(choice.label, shares))
    scored = {
        name: {"logprob": logprob, "probability": shares[name]}
        for name, logprob in zip(names, choice.logprobs, strict=True)
    }
    write_json(
        {"prompt": text, "user": user, "persona": method or persona.value, "label": choice.label, "labels": scored}
        | {"attribution": attribution_rows(choice.attribution)}
    )


def _search(
    plug: PersonaPlug,
    text: str,
    beams: int,
    user: str | None,
    method: str | None,
    persona: Persona,
    sampling: Sampling,
    json: bool,
) -> None:
    from ..beams import Beams

    options = Beams(beams=beams, returned=beams, max_tokens=sampling.max_tokens, stop=tuple(sampling.stop))
    found = plug.beam_search(text, options, user=user, method=method, persona=persona.mode)
    if not json:
        return out().print(found[0].text, markup=False, highlight=False)
    write_json(
        {"prompt": text, "user": user, "persona": method or persona.value, "answers": [asdict(each) for each in found]}
    )


def _reply(reply: Reply, user: str | None, text: str) -> dict[str, Any]:
    return {
        "prompt": text,
        "user": user,
        "persona": reply.persona,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "tokens": list(reply.tokens),
        "timings": asdict(reply.timings) | {"embed_seconds": reply.embed_seconds},
        "attribution": attribution_rows(reply.attribution),
    }
