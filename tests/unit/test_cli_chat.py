"""The chat's loop, fed from a pipe and from invented input."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli import Terminal, run  # noqa: F401

from personaplug_edge.store import HistoryStore

pytest.importorskip("personaplug_edge.sampling")


@pytest.fixture
def talk(run: Terminal) -> Terminal:  # noqa: F811
    HistoryStore(run.store).close()
    return run


def test_lines_are_answered_and_learned(talk: Terminal) -> None:
    code, out, err = talk("chat", "--user", "anna", "--learn", stdin="Hello\n\nAgain\n")
    assert code == 0 and out == "anna (query): Hello\nanna (query): Again\n"
    assert err.count("not a chat model") == 1
    assert "Again" in talk("history", "list", "anna")[1]


def test_without_learn_nothing_is_stored(talk: Terminal) -> None:
    talk("chat", "--user", "anna", stdin="Hello\n")
    assert talk("users", "--json")[1] == "[]\n"


def test_commands(talk: Terminal) -> None:
    lines = "/remember A goal => sports\n/persona off\nHello\n/persona static\nHello\n/why\n/what\n/quit\nnever\n"
    code, out, err = talk("chat", "--user", "anna", stdin=lines)
    assert code == 0 and "anna (off): Hello" in out and "anna (static): Hello" in out
    assert "remembered as item 1" in err and "A goal" in out and "sports" in out
    assert "/remember TEXT" in out and "never" not in out


def test_a_method_in_place_of_a_persona(talk: Terminal) -> None:
    lines = (
        "/remember A goal => sports\nHello\n/why\n/method no-such\nHello\n/persona off\nHello\n/method summary\nHello\n"
    )
    code, out, err = talk("chat", "--user", "anna", "--method", "bm25:1", stdin=lines)
    assert code == 0 and out.count("anna (bm25:1): Hello") == 2 and "A goal" in out
    assert "anna (off): Hello" in out and out.endswith("anna (summary): Hello\n") and "method summary" in err
    assert "unknown method 'no-such'; known: none, " in err
    code, out, err = talk("chat", "--user", "anna", "--method", "no-such", stdin="Hello\n")
    assert (code, out) == (2, "") and "unknown method" in err


def test_lines_follow_each_other_when_asked(talk: Terminal) -> None:
    talk("chat", "--user", "anna", stdin="Hello\nAgain\n")
    apart = talk.plugs[-1].conversations
    code, _, err = talk("chat", "--user", "anna", "--turns", stdin="Hello\nAgain\n/new\nHello\n")
    assert (code, apart, talk.plugs[-1].conversations) == (0, 3, 2) and "a new conversation" in err


def test_an_error_ends_the_line_and_not_the_talk(talk: Terminal) -> None:
    code, out, err = talk("chat", "--user", "anna", stdin="/remember a\x00b\nHello\n")
    assert code == 0 and "error: " in err and "Hello" in out


def test_ctrl_c_stops_the_answer_and_not_the_program(
    talk: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    talk.chunks = ["half ", KeyboardInterrupt()]
    typed: Iterator[str | type[BaseException]] = iter(["Hello", KeyboardInterrupt, "Hello", EOFError])

    def type_in(prompt: str = "") -> str:
        now = next(typed)
        if isinstance(now, str):
            return now
        raise now

    monkeypatch.setattr(builtins, "input", type_in)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    code, out, err = talk("chat", "--user", "anna")
    assert code == 0 and out.count("half ") == 2 and err.count("stopped") == 2 and "Ctrl-D leaves" in err
    assert talk.plugs[-1].closed_streams == 2
