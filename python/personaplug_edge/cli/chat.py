"""``personaplug chat``: a prompt after a prompt, answered as a user would."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import PersonaPlugError
from .bars import attribution_table
from .failures import one_line
from .generate import Persona, PersonaOption
from .method import MethodOption, needs_labels, parts_named
from .sampling import SamplingOptions
from .session import Access, open_plug, ready_user
from .settings import settings
from .streaming import write_stream
from .terminal import decoding, notice, out

if TYPE_CHECKING:
    from ..conversation import Conversation
    from ..personalizer import PersonaMode
    from ..plug import PersonaPlug
    from ..results import Attribution
    from ..sampling import Sampling

HELP = """\
/remember TEXT [=> OUTPUT]   store a history item
/persona query|static|off    how the history enters the prompt
/method NAME                 another way, such as bm25:4 or pplug+dense:1; an unknown name lists them
/new                         forget what was said
/why                         what weighed most in the last answer
/quit                        leave (or Ctrl-D); Ctrl-C stops an answer"""


def chat(
    user: Annotated[str, typer.Option(help="The user whose history speaks.")],
    sampling: SamplingOptions,
    persona: PersonaOption = Persona.query,
    method: MethodOption = None,
    learn: Annotated[bool, typer.Option("--learn", help="Remember what you type.")] = False,
    turns: Annotated[
        bool | None,
        typer.Option(
            "--turns/--no-turns",
            help="Answer in the light of the lines before, or each line by itself.",
            show_default="by itself for the bundle tiny, which is no chat model",
        ),
    ] = None,
) -> None:
    """Talk; /help tells the commands."""
    if needs_labels(method):
        raise typer.BadParameter(
            f"the method {method!r} only chooses among labels: `personaplug generate --labels` does"
        )
    with open_plug(_access(learn)) as plug:
        tiny = plug.bundle.manifest.name == "tiny"
        if tiny:
            notice("the bundle 'tiny' answers short tasks (`category of article: ...`); it is not a chat model")
        ready_user(plug, user, method or persona.value)
        ChatLoop(
            plug, user, persona.mode, method, sampling.over(plug), learn, not tiny if turns is None else turns
        ).run()


def _access(learn: bool) -> Access:
    """A store that was named is made by --learn alone, as the name may be mistyped; the default one for /remember."""
    chosen = settings()
    return "make" if learn or (chosen.store is None and not chosen.store_path.exists()) else "use"


class ChatLoop:
    """The loop and its state: the user, the method, the talk so far. One thread; the plug stays the caller's."""

    def __init__(
        self,
        plug: PersonaPlug,
        user: str,
        persona: PersonaMode,
        method: str | None,
        sampling: Sampling,
        learn: bool,
        turns: bool,
    ) -> None:
        self.plug, self.user, self.persona, self.method = plug, user, persona, method
        self.sampling, self.learn, self.turns = sampling, learn, turns
        self.talk = self._new()
        self.last = ""

    def run(self) -> None:
        """Reads lines until /quit or the end of input. Errors of a line are told and the talk goes on."""
        interactive = sys.stdin.isatty()
        if interactive:
            _line_editing()
            notice("/help tells the commands")
        while True:
            try:
                with decoding("standard input"):
                    text = input("> " if interactive else "").strip()
            except EOFError:
                if interactive:
                    print()
                return
            except KeyboardInterrupt:
                if not interactive:
                    raise
                notice("/quit or Ctrl-D leaves")
                continue
            if text == "/quit":
                return
            if text:
                self._turn(text)

    def _turn(self, text: str) -> None:
        try:
            self._command(text) if text.startswith("/") else self._answer(text)
        except KeyboardInterrupt:
            print()  # ends the half line of the answer
            notice("stopped")
        except PersonaPlugError as error:
            notice(f"error: {one_line(error)}")

    def _answer(self, text: str) -> None:
        self.last = text
        if not self.turns:
            self.talk = self._new()
        write_stream(self.talk.stream(text))
        if self.learn:  # afterwards, so that a request does not attend to itself
            self.plug.user(self.user).remember(text, source="chat")

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        rest = rest.strip()
        if name == "/remember" and rest:
            body, _, output = rest.partition("=>")
            number = self.plug.user(self.user).remember(body.strip(), output=output.strip(), source="chat")
            notice(f"remembered as item {number}")
        elif name == "/persona" and rest in Persona.__members__:
            self.persona, self.method = Persona[rest].mode, None
            self._changed(f"persona {rest}")
        elif name == "/method" and rest:
            parts_named(rest)  # an unknown one is told now, not at the next line
            self.method = rest
            self._changed(f"method {rest}")
        elif name == "/new":
            self.talk = self._new()
            notice("a new conversation")
        elif name == "/why" and self.last:
            out().print(attribution_table(self._weighed(), 5))
        else:
            out().print(HELP)

    def _weighed(self) -> Sequence[Attribution]:
        if self.method is None:
            return self.plug.explain(self.last, self.user)
        return self.plug.personalize(self.last, user=self.user, method=self.method).attribution

    def _changed(self, what: str) -> None:
        self.talk = self._new()
        notice(what + (", and a new conversation" if self.turns else ""))

    def _new(self) -> Conversation:
        return self.plug.chat(user=self.user, method=self.method, persona=self.persona, sampling=self.sampling)


def _line_editing() -> None:
    try:
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")
    except ImportError:  # Windows: input() without a history of lines
        pass
